/**
 * A client of the completions API, as strict as real ones: it hangs up after so many silent seconds.
 *
 * Law: every byte is a sign of life, also a comment's; nothing is reported after the end, and there is one end. Must not
 * know: the page. It reads by fetch, because EventSource cannot POST and never shows a comment.
 */

/** Posts `body`, and reads the stream that answers. `tell` has head, heartbeat, chunk, and end with why it ended. */
export class Completion {
  /** When the last byte came, in the clock of `performance.now`. */
  aliveAt = performance.now();
  /** "done", "error", "idle", "stopped", "lost" or "refused", once it is over. */
  outcome = null;

  #tell;
  #idleLimit;
  #aborter = new AbortController();
  #timer = null;
  #rest = "";
  #ends;

  constructor(path, body, { idleLimit, ...tell }) {
    this.#tell = tell;
    this.#idleLimit = idleLimit;
    /** Resolves with the outcome. */
    this.over = new Promise((resolve) => (this.#ends = resolve));
    this.#alive();
    this.#read(path, body).catch(() => this.#end("lost", "The connection was lost."));
  }

  /** Hangs up, as a person does who closes the window. */
  stop() {
    this.#end("stopped", "You hung up.");
  }

  async #read(path, body) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, stream: true, return_progress: true }),
      signal: this.#aborter.signal,
    });
    this.#alive();
    if (!response.ok) {
      const answer = await response.json().catch(() => null);
      return this.#end("refused", answer?.error?.message ?? `The server answered ${response.status}.`);
    }
    this.#tell.head();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (this.outcome) return;
      if (done) return this.#end("lost", "The stream ended too early.");
      this.#alive();
      this.#take(value);
    }
  }

  /** The server writes LF only, so a block ends with two of them. */
  #take(text) {
    const blocks = (this.#rest + text).split("\n\n");
    this.#rest = blocks.pop();
    for (const block of blocks) {
      if (this.outcome) return;
      for (const comment of block.split("\n").filter((line) => line.startsWith(":"))) this.#tell.heartbeat(comment);
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) this.#event(data.slice("data: ".length));
    }
  }

  #event(data) {
    if (data === "[DONE]") return this.#end("done", "Done.");
    const chunk = JSON.parse(data);
    if (chunk.error) return this.#end("error", chunk.error.message);
    this.#tell.chunk(chunk);
  }

  #alive() {
    this.aliveAt = performance.now();
    clearTimeout(this.#timer);
    if (!this.outcome) this.#timer = setTimeout(() => this.#end("idle", `No byte for ${this.#idleLimit} s: this client hung up.`), this.#idleLimit * 1000);
  }

  #end(outcome, why) {
    if (this.outcome) return;
    this.outcome = outcome;
    clearTimeout(this.#timer);
    this.#aborter.abort();
    this.#tell.end(outcome, why);
    this.#ends(outcome);
  }
}
