/**
 * sse-fast.js: one browser's reading of one sse_fast stream, up to its terminal event.
 *
 * Law:
 * 1. An event with an id reaches its handler once, whichever way it came (EventSource, fetch, poll, check).
 * 2. Nothing is requested after a terminal event, a 204, giving up or close().
 * 3. Heartbeats are signs of life (`aliveAt`) and nothing else: no handler, no state, no log ever sees one.
 * 4. Every way of not being live has a state with words a page can show.
 * It knows the HTTP contract (`Last-Event-ID`, `?last_event_id=`, 204, the JSON reply) and nothing of any page.
 * All times are seconds. One file, long as it is, because a page loads one file. Changes together with sse-fast.d.ts.
 */

const DEFAULTS = {
  on: {},
  onState: () => {},
  onGap: () => {},
  terminal: ["end"],
  heartbeat: "heartbeat",
  lastEventId: null,
  deadline: 900,
  idleTimeout: 60,
  pollEvery: 3,
  openTimeout: 20,
  fetchOptions: null,
};

// Attempts in a row that may fail before polling takes over: one dropped connection is ordinary, four are a pattern.
const MAX_FAILURES = 3;
// A stream that is open and twice held back what a check then found is swallowed on the way.
const MAX_SILENT = 2;
// A connection that lived this long was a good one, even if no event happened to come.
const GOOD_AFTER = 3;
// What a check found may be on its way over the stream at the same moment; only after this long is it missed.
const CHECK_GRACE = 1;
// How often in a row a server may not know a stream that was live: one that has just restarted may not have it yet.
const MAX_NOT_FOUND = 3;
// Ids remembered against repeats; far more than the default history (256) that a server can replay.
const MAX_SEEN = 4096;
// What a stream read by fetch waits before reconnecting when the server gave no `retry:`; browsers use the same.
const RETRY = 3;
// The longest delay setTimeout takes, in seconds.
const MAX_DELAY = 2147483;

/** Subscribes to the stream at `url`. See sse-fast.d.ts for every option. */
export function connect(url, options = {}) {
  const unknown = Object.keys(options).filter((name) => !Object.hasOwn(DEFAULTS, name));
  if (unknown.length) throw new TypeError(`connect: unknown option ${unknown.join(", ")}`);
  return new Subscriber(url, { ...DEFAULTS, ...options });
}

class Subscriber {
  /** The last state given to `onState`. */
  state = { state: "connecting", message: "Connecting …", since: now() };
  /** The id to resume after. */
  lastEventId;
  /** When the server last gave any sign of life, heartbeats included. */
  aliveAt = null;
  /** Resolves with the final state; never rejects. */
  closed;

  #url;
  #options;
  #startedAt = now();
  #resolveClosed;
  #names; // every event name EventSource must listen for: it has no "all"
  #source = null; // the open transport, or null
  #timers = new Map(); // one per purpose: deadline, open, idle, poll
  #seen = new Set();
  #everLive = false;
  #openedAt = null;
  #failures = 0; // connections in a row that brought nothing
  #pollings = 0; // times polling took over without an event over the stream in between
  #notFound = 0; // polls in a row that were told 404
  #pollsToGo = 1; // successful polls before the stream is tried again
  #checking = false;
  #asking = null; // AbortController of the poll or check under way
  #wakeUps = new AbortController(); // removes the listeners on window and document

  constructor(url, options) {
    this.#url = url;
    this.#options = options;
    this.lastEventId = options.lastEventId;
    this.#names = new Set(["message", "gap", options.heartbeat, ...options.terminal, ...Object.keys(options.on)]);
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    call(options.onState, this.state);
    if (options.deadline) this.#after("deadline", options.deadline, () => this.#giveUp());
    this.#watchPage();
    this.#subscribe();
  }

  /** Stops reading. The stream itself goes on. */
  close() {
    this.#finish({ state: "closed", reason: "asked", message: "Closed" });
  }

  // ---- the stream ----

  #subscribe() {
    this.#source?.close();
    this.#source = null;
    if (!online()) return this.#waitForNetwork();
    // EventSource reports only names it was told and sends no headers; fetch reads what it cannot.
    const byFetch = this.#options.fetchOptions || this.#names.has("*") || !globalThis.EventSource;
    this.#openedAt = null;
    this.#after("open", this.#options.openTimeout, () => this.#failed("no-answer"));
    const callbacks = {
      opened: () => this.#opened(),
      alive: () => this.#alive(),
      event: (event) => this.#receive(event, true),
      dropped: (retry) => this.#dropped(retry),
      failed: (status) => (status === 204 ? this.#nothingMore() : this.#failed("refused")),
    };
    this.#source = byFetch
      ? readByFetch(this.#address(), this.#options.fetchOptions ?? {}, callbacks)
      : readByEventSource(this.#address(), this.#names, callbacks);
  }

  #opened() {
    this.#cancel("open", "poll");
    this.#everLive = true;
    this.#openedAt = this.aliveAt = now();
    this.#set({ state: "live", message: "Live" });
    this.#watchForSilence();
  }

  /** Whatever comes over the stream, heartbeats included, shows that this way works. */
  #alive() {
    this.aliveAt = now();
    this.#failures = this.#pollings = 0;
  }

  /** The connection ended without a terminal event. `retry`: null where the browser reconnects by itself. */
  #dropped(retry) {
    this.#cancel("idle");
    if (this.#openedAt && now() - this.#openedAt >= GOOD_AFTER) this.#failures = 0;
    this.#openedAt = null;
    this.#failures += 1;
    if (this.state.state === "polling" || this.#failures > MAX_FAILURES) return this.#failed("dropped");
    if (!online()) return this.#waitForNetwork();
    let retryAt = null;
    if (retry !== null) {
      const delay = spread(retry * 2 ** (this.#failures - 1));
      retryAt = now() + delay;
      this.#after("poll", delay, () => this.#subscribe());
    } else {
      this.#after("open", this.#options.openTimeout, () => this.#failed("no-answer"));
    }
    this.#reconnecting("dropped", retryAt);
  }

  #reconnecting(reason, retryAt) {
    const message = `Connection lost, reconnecting (attempt ${this.#failures}) …`;
    this.#set({ state: "waiting", reason, message, attempt: this.#failures, retryAt });
  }

  /** No stream to be had this way: ask for the same events by polling, and come back when that works. */
  #failed(reason) {
    this.#cancel("open", "idle");
    this.#source?.close();
    this.#source = null;
    this.#pollings += 1;
    this.#pollsToGo = Math.min(2 ** (this.#pollings - 1), 16);
    if (this.state.state === "polling") return; // the stream failed again while polls go on as before
    this.#polling(reason, 0, 0);
    this.#poll();
  }

  // ---- events ----

  /** Everything that arrives, whichever way, goes through here. `streamed`: over the stream, not by asking. */
  #receive({ event, data, id }, streamed) {
    if (this.#over) return;
    if (event === this.#options.heartbeat) return;
    if (streamed) this.#watchForSilence();
    if (event === "gap") return this.#gap(parse(data));
    if (id !== null && !this.#isNew(event, id)) return;
    if (id !== null) this.lastEventId = id;
    const about = { event, id, data };
    for (const name of [event, "*"]) {
      if (Object.hasOwn(this.#options.on, name)) call(this.#options.on[name], parse(data), about);
    }
    if (this.#options.terminal.includes(event)) this.#finish({ state: "ended", event, message: "Finished" });
  }

  /** A snapshot carries the id of the event it stands for, so the name belongs to what was seen. */
  #isNew(event, id, remember = true) {
    const key = `${event}\n${id}`;
    if (this.#seen.has(key)) return false;
    if (remember) {
      this.#seen.add(key);
      if (this.#seen.size > MAX_SEEN) this.#seen.delete(this.#seen.values().next().value);
    }
    return true;
  }

  #gap(gap) {
    const { skipped = null, from, to = null } = gap ?? {};
    call(this.#options.onGap, { skipped, from: from ?? this.lastEventId, to });
  }

  // ---- asking: polls and checks are the same request ----

  async #poll() {
    this.#cancel("poll");
    if (!online()) return this.#waitForNetwork();
    const reply = await this.#ask();
    if (!reply || this.state.state !== "polling") return;
    if (this.#settled(reply)) return;
    if (reply.streams || reply.body) {
      this.#pollsToGo -= 1;
      if (reply.body) this.#take(reply.body, reply.asked);
      if (this.#over) return;
      // One answer is bounded. Without progress the next would be the same: then the usual pause.
      if (reply.body?.more && this.lastEventId !== reply.asked) return this.#poll();
      // Polls go on until the stream is open: behind a proxy that swallows streams nothing may stop.
      if (this.#pollsToGo <= 0 && !this.#source) this.#subscribe();
    }
    const delay = Math.max(spread(this.#options.pollEvery), reply.retryAfter ?? 0);
    if (reply.streams || reply.body) this.#polling("not-open", 0, delay);
    else this.#polling(reply.reason, this.state.attempt + 1, delay);
    this.#after("poll", delay, () => this.#poll());
  }

  /** `attempt`: polls in a row that failed, too. */
  #polling(reason, attempt, delay) {
    const whys = { "not-found": "the server does not have this stream", unreachable: "the server cannot be reached" };
    const why = whys[reason] ?? "the server is not ready";
    const message = attempt ? `Trying again (attempt ${attempt}): ${why} …` : "Live by polling";
    this.#set({ state: "polling", reason, message, attempt, retryAt: now() + delay });
  }

  /** Health: nothing but silence for a while. One cheap question tells a quiet stream from a dead connection. */
  async #check() {
    // One at a time: a second one would take the place of the first while that waits for what may be on its way.
    if (!this.#checking && online()) {
      this.#checking = true;
      await this.#lookForMissed().finally(() => (this.#checking = false));
    }
    if (this.state.state === "live") this.#watchForSilence();
  }

  async #lookForMissed() {
    const reply = await this.#ask();
    if (!reply || this.state.state !== "live" || this.#settled(reply)) return;
    if (reply.status === 404) return this.#failed("not-found");
    if (!reply.body) return;
    const missed = this.#missed(reply.body);
    if (missed) await new Promise((resolve) => this.#after("grace", CHECK_GRACE, resolve));
    if (this.state.state !== "live" || this.#over) return;
    const dead = missed && this.#missed(reply.body);
    this.#take(reply.body, reply.asked);
    if (this.#over || !dead) return;
    this.#failures += 1;
    if (this.#failures >= MAX_SILENT) return this.#failed("silent");
    this.#reconnecting("silent", now());
    this.#subscribe();
  }

  /** Whether a reply holds what should have come over the stream. Names nobody listens for do not count. */
  #missed({ ended, gap, events }) {
    const listened = events.filter(({ event }) => this.#names.has(event) || this.#names.has("*"));
    return ended || gap !== null || listened.some(({ event, id }) => id !== null && this.#isNew(event, id, false));
  }

  #take({ last_id: lastId, ended, more = false, gap, snapshot, events }, asked) {
    if (gap !== null) this.#gap({ skipped: gap < 0 ? null : gap, to: lastId });
    for (const event of snapshot ? [snapshot, ...events] : events) this.#receive(event, false);
    // A stream that starts at "new" gives a first poll no event, only the place to go on from; so does one without ids
    // that has more to give.
    if ((events.length === 0 || more) && this.lastEventId === asked && lastId !== null) this.lastEventId = lastId;
    if (ended && !more) this.#finish({ state: "ended", event: events.at(-1)?.event ?? null, message: "Finished" });
  }

  /** Answers that end the reading. True if one did. */
  #settled({ status }) {
    this.#notFound = status === 404 ? this.#notFound + 1 : 0;
    if (status === 204) this.#nothingMore();
    else if (this.#everLive && this.#notFound >= MAX_NOT_FOUND) {
      const message = "Gave up: the server no longer knows this stream.";
      this.#finish({ state: "gave-up", reason: "unknown-stream", message });
    } else if ([400, 401, 403, 405, 410].includes(status)) {
      this.#finish({ state: "gave-up", reason: "refused", message: `Gave up: the server refused (HTTP ${status}).` });
    }
    return this.#over;
  }

  /** One GET for JSON. null: superseded, or the stream is over by then. */
  async #ask() {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const asked = this.lastEventId;
    const timer = setTimeout(() => asking.abort(), this.#options.openTimeout * 1000);
    try {
      const response = await get(this.#address(), this.#options.fetchOptions ?? {}, "application/json", asking.signal);
      const { status } = response;
      const type = response.headers.get("Content-Type") ?? "";
      const reason = status === 404 ? "not-found" : "busy";
      const reply = { asked, status, reason, retryAfter: Number(response.headers.get("Retry-After")) || null };
      if (status === 200 && type.startsWith("application/json")) reply.body = await response.json();
      // A server that cannot answer with JSON answers with the stream: proof that the stream works.
      else if (status === 200 && type.startsWith("text/event-stream")) reply.streams = true;
      if (!reply.body) asking.abort();
      if (this.#asking !== asking) return null;
      this.aliveAt = now();
      if (status === 200) this.#everLive = true;
      return reply;
    } catch {
      return this.#asking === asking ? { status: 0, reason: "unreachable", retryAfter: null } : null;
    } finally {
      clearTimeout(timer);
    }
  }

  #address() {
    const address = new URL(this.#url, globalThis.location?.href);
    if (this.lastEventId !== null) address.searchParams.set("last_event_id", this.lastEventId);
    return address.href;
  }

  // ---- time, network, visibility ----

  #watchForSilence() {
    if (this.#options.idleTimeout) this.#after("idle", this.#options.idleTimeout, () => this.#check());
  }

  #watchPage() {
    const { signal } = this.#wakeUps;
    globalThis.addEventListener?.("online", () => this.#wake(), { signal });
    globalThis.addEventListener?.("offline", () => this.#slept(), { signal });
    globalThis.addEventListener?.("pagehide", () => this.#pause(), { signal });
    globalThis.addEventListener?.("pageshow", (event) => event.persisted && this.#wake(), { signal });
    const seen = () => document.visibilityState === "visible" && this.#wake();
    globalThis.document?.addEventListener("visibilitychange", seen, { signal });
  }

  /** Back online, back by the back button, or visible again: asks at once for the events since then. */
  #wake() {
    const { deadline } = this.#options;
    // Timers stand still while a computer sleeps; the clock does not.
    if (deadline && now() > this.#startedAt + deadline) return this.#giveUp();
    if (this.state.state === "live") this.#check();
    else if (this.state.state === "polling") this.#poll();
    else if (this.state.state === "waiting") {
      // Coming back is told twice, by pageshow and by visibilitychange; one connection will do.
      if (this.state.reason === "paused") this.#set({ state: "connecting", message: "Connecting …" });
      this.#subscribe();
    }
  }

  /**
   * The page is left. A browser may keep it for its back button, connections and all, and it has only six of them for a
   * host: without this, two such pages can leave none for the page that is shown.
   */
  #pause() {
    this.#asking?.abort();
    this.#asking = null;
    this.#stop("paused", "Paused while the page is away");
  }

  #slept() {
    if (this.state.state === "polling" || this.state.state === "waiting") this.#waitForNetwork();
  }

  #waitForNetwork() {
    this.#stop("offline", "This device is offline; waiting for the network …");
  }

  /** Asks for nothing more until it is woken up. */
  #stop(reason, message) {
    this.#cancel("open", "idle", "poll");
    this.#source?.close();
    this.#source = null;
    this.#set({ state: "waiting", reason, message, attempt: this.#failures, retryAt: null });
  }

  #after(purpose, seconds, action) {
    this.#cancel(purpose);
    this.#timers.set(purpose, setTimeout(action, Math.min(seconds, MAX_DELAY) * 1000));
  }

  #cancel(...purposes) {
    for (const purpose of purposes) {
      clearTimeout(this.#timers.get(purpose));
      this.#timers.delete(purpose);
    }
  }

  // ---- states ----

  get #over() {
    return ["ended", "gave-up", "closed"].includes(this.state.state);
  }

  #set(state) {
    if (this.#over) return;
    const { since, ...before } = this.state;
    const changed = state.state !== before.state || state.reason !== before.reason;
    this.state = { ...state, since: changed ? now() : since };
    call(this.#options.onState, this.state);
  }

  #nothingMore() {
    this.#finish({ state: "closed", reason: "nothing-more", message: "Finished: nothing more to come" });
  }

  #giveUp() {
    const { deadline } = this.#options;
    const time = deadline >= 120 ? `${Math.round(deadline / 60)} minutes` : `${deadline} seconds`;
    this.#finish({ state: "gave-up", reason: "deadline", message: `Gave up: the stream did not end within ${time}.` });
  }

  #finish(state) {
    if (this.#over) return;
    this.#source?.close();
    this.#source = null;
    this.#asking?.abort();
    this.#asking = null;
    this.#wakeUps.abort();
    this.#cancel(...this.#timers.keys());
    this.#set(state);
    this.#resolveClosed(this.state);
  }
}

/** The browser's own reader: it reconnects and sends Last-Event-ID by itself until it meets anything but a 200. */
function readByEventSource(address, names, { opened, alive, event, dropped, failed }) {
  const source = new EventSource(address);
  let previousId = "";
  const receive = (message) => {
    alive();
    // An event without an id shows the one before it, so the same id again means: none of its own.
    const id = message.lastEventId === previousId ? null : message.lastEventId || null;
    previousId = message.lastEventId;
    event({ event: message.type, data: message.data, id });
  };
  // Servers may call an event "open" or "error", too; only theirs are MessageEvents.
  const orReceive = (action) => (about) => (about instanceof MessageEvent ? receive(about) : action());
  const own = {
    open: () => opened(),
    error: () => (source.readyState === EventSource.CLOSED ? failed(null) : dropped(null)),
  };
  for (const name of new Set([...names, "open", "error"])) {
    source.addEventListener(name, Object.hasOwn(own, name) ? orReceive(own[name]) : receive);
  }
  return source;
}

/** The same by fetch: sees every name, comments and statuses, and can send headers; reconnecting is the caller's. */
function readByFetch(address, fetchOptions, { opened, alive, event, dropped, failed }) {
  const aborter = new AbortController();
  let retry = RETRY;
  const read = async () => {
    const response = await get(address, fetchOptions, "text/event-stream", aborter.signal);
    const type = response.headers.get("Content-Type") ?? "";
    if (response.status !== 200 || !type.startsWith("text/event-stream")) {
      aborter.abort();
      return failed(response.status);
    }
    opened();
    const parser = new Parser({ event, retry: (seconds) => (retry = seconds) });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || aborter.signal.aborted) break;
      alive();
      parser.push(value);
    }
    if (!aborter.signal.aborted) dropped(retry);
  };
  read().catch(() => aborter.signal.aborted || dropped(retry));
  return { close: () => aborter.abort() };
}

/** text/event-stream as the HTML standard defines it, for readByFetch. */
class Parser {
  #callbacks;
  #rest = "";
  #event = "";
  #data = [];
  #id = null;

  constructor(callbacks) {
    this.#callbacks = callbacks;
  }

  push(text) {
    // A CR at the end may be half of a CRLF: it stays until the next text shows.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const [, name, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line);
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.#callbacks.retry(Number(value) / 1000);
  }

  #dispatch() {
    const found = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id || null };
    const hasData = this.#data.length > 0;
    this.#event = "";
    this.#data = [];
    this.#id = null; // one event's id is not the next one's: events without an id are never repeats
    if (hasData) this.#callbacks.event(found);
  }
}

/** Always a GET: asking again must never do again. */
function get(address, fetchOptions, accept, signal) {
  const headers = new Headers(fetchOptions.headers);
  headers.set("Accept", accept);
  return fetch(address, { cache: "no-store", ...fetchOptions, method: "GET", body: undefined, headers, signal });
}

/** JSON where it is JSON, else the text itself. */
function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

/** A page's mistake is the page's: it shows in the console and stops no event after it. */
function call(handler, ...values) {
  try {
    handler(...values);
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}

/** Apart from each other by up to a fifth either way, so that a restarted server is not met by everyone at once. */
function spread(seconds) {
  return seconds * (0.8 + 0.4 * Math.random());
}

function now() {
  return Date.now() / 1000;
}

function online() {
  return globalThis.navigator?.onLine !== false;
}
