/**
 * A run's statuses as a list: when each began, how long it took, how long the present one has been going on.
 *
 * Owns: the list and its clock. Times are the publisher's (`at`, seconds since 1970), so that a page that was reloaded
 * shows the same as one that was not. Must not know: where statuses come from.
 */

const KINDS = { BENCHMARKED: "good", ACCEPTED: "good", NO_OUTPUT: "warn", INTERRUPTED: "warn", FAILED: "bad", ERROR: "bad", TIMEOUT: "bad" };
const CLOCK_INTERVAL = 0.2;

export const kindOf = (status) => KINDS[status] ?? "";

export class Timeline {
  #list;
  #announcer;
  #statuses = [];
  #clock = null;

  constructor(list, announcer) {
    this.#list = list;
    this.#announcer = announcer;
  }

  clear() {
    this.stop();
    this.#statuses = [];
    this.#list.replaceChildren();
  }

  /** A status that has begun. `quiet`: not news, so it is not read out. */
  add({ status, message = "", at = null }, { quiet = false } = {}) {
    const began = at ?? Date.now() / 1000;
    const item = document.createElement("li");
    item.dataset.status = status;
    item.dataset.kind = kindOf(status);
    for (const name of ["name", "took", "message", "clock"]) {
      const part = document.createElement("span");
      part.className = name;
      item.append(part);
    }
    const [name, , words, clock] = item.children;
    name.textContent = status;
    words.textContent = message;
    clock.textContent = new Date(began * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    this.#list.append(item);
    this.#statuses.push({ item, began });
    if (!quiet) this.#announcer.textContent = `${status}. ${message}`;
    this.#show();
    // A status of this kind is the last of its run: its clock stands still.
    if (item.dataset.kind) this.stop();
    else this.#clock ??= setInterval(() => this.#show(), CLOCK_INTERVAL * 1000);
  }

  /** How the run came out, from its row. */
  end({ status, message, at, exit_code: exitCode }) {
    const code = exitCode === null ? "" : `Exit code ${exitCode}`;
    const last = this.#list.lastElementChild;
    const words = last?.querySelector(".message");
    // What the last status said already is not said twice.
    const news = [words?.textContent === message ? "" : message, code].filter(Boolean).join(". ");
    if (last?.dataset.status === status) words.textContent = [words.textContent, news].filter(Boolean).join(". ");
    else this.add({ status, message: news, at });
    this.stop();
  }

  /** Nothing more is known from here on: the clock of the last status stands still. */
  stop() {
    clearInterval(this.#clock);
    this.#clock = null;
    for (const { item } of this.#statuses) item.removeAttribute("data-active");
  }

  /** A status took until the next one began; the last one is still going on. */
  #show() {
    for (const [index, { item, began }] of this.#statuses.entries()) {
      const next = this.#statuses[index + 1]?.began;
      const active = next === undefined && !item.dataset.kind;
      item.toggleAttribute("data-active", active);
      const took = (next ?? Date.now() / 1000) - began;
      const whole = began - this.#statuses[0].began;
      item.children[1].textContent = next === undefined && !active ? `after ${duration(whole)}` : duration(took);
    }
  }
}

function duration(seconds) {
  const value = Math.max(seconds, 0);
  if (value < 60) return `${value.toFixed(1)} s`;
  return `${Math.floor(value / 60)} min ${String(Math.floor(value % 60)).padStart(2, "0")} s`;
}
