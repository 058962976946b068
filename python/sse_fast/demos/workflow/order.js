/**
 * Whether a page was given every event once and in order: ids count from one, `<epoch>-<n>`.
 *
 * A snapshot carries the id of the event it stands for, so the first id that comes is where the counting begins.
 */
export class Order {
  #last = null;
  given = 0;
  lost = 0;
  twice = 0;

  take(id) {
    const number = Number(id?.slice(id.lastIndexOf("-") + 1));
    if (!Number.isInteger(number)) return;
    this.given += 1;
    if (this.#last !== null && number > this.#last + 1) this.lost += number - this.#last - 1;
    if (this.#last !== null && number <= this.#last) this.twice += 1;
    this.#last = number;
  }

  /** The next id begins a counting of its own. */
  restart() {
    this.#last = null;
  }

  get last() {
    return this.#last;
  }

  get words() {
    const lost = this.lost ? `${this.lost} lost` : "none lost";
    const twice = this.twice ? `${this.twice} twice` : "none twice";
    return this.given ? `${this.given.toLocaleString("en")} ${this.given === 1 ? "event" : "events"}, ${lost}, ${twice}` : "";
  }
}
