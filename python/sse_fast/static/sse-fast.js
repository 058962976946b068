/**
 * sse-fast.js: a page's reading of sse_fast streams, up to their ends.
 *
 * Law:
 * 1. An event with an id reaches its handler once, in order, whichever way it came (stream, poll, check, another tab).
 * 2. Nothing is requested after an end, giving up or close(). What is over is closed before anything else is opened.
 * 3. Heartbeats are signs of life (`aliveAt`) and nothing else: no handler, no state, no timer ever sees one.
 * 4. Every way of not being live has a state with words a page can show; none of them says "lost" after an end.
 *
 * From the outside in: `connect` makes a Subscriber (handlers, states, deadline) or a Group of several streams. A
 * Subscriber is fed by a Reading of its own, or by a Joint, which listens to the Reading that a Hub keeps for all tabs. A
 * Reading takes the stream by EventSource or fetch, polls where there is none, and goes on from its Place after every cut.
 *
 * It knows the HTTP contract (`Last-Event-ID`, `?last_event_id=`, `?ticket=`, 204, the JSON form) and nothing of any page.
 * All times are seconds. One file, long as it is, because a page loads one file, and the worker that all tabs share is the
 * same file once more. Changes together with sse-fast.d.ts.
 */

const DEFAULTS = {
  on: {},
  onState: () => {},
  onGap: () => {},
  terminal: ["end"],
  heartbeat: "heartbeat",
  lastEventId: null,
  deadline: 0,
  idleTimeout: 60,
  pollEvery: 3,
  openTimeout: 20,
  fetchOptions: null,
  token: null,
  share: true,
};

// Attempts in a row that may fail before polling takes over: one dropped connection is ordinary, four are a pattern.
const MAX_FAILURES = 3;
// A stream that is open and twice held back what a check then found is swallowed on the way.
const MAX_SILENT = 2;
// A connection that lived this long was a good one, even if no event happened to come.
const GOOD_AFTER = 3;
// What a check found may be on its way over the stream at the same moment; only after this long is it missed.
const CHECK_GRACE = 1;
// A connection that closes this soon after an event may have closed because the stream ended: the server is asked.
const MAYBE_ENDED = 5;
// How long that question, or a first poll, may take before the page is told that it waits.
const TELL_AFTER = 2;
// A request without an answer for this long may be waiting in the browser: then a look at where it waits.
const SLOW_AFTER = 3;
// How long each of the two requests of that look may take.
const LOOK_TIMEOUT = 2;
// How often in a row a server may not know a stream that was live: one that has just restarted may not have it yet.
const MAX_NOT_FOUND = 3;
// Ids remembered against repeats; far more than the default history (256) that a server can replay.
const MAX_SEEN = 4096;
// What a stream read by fetch waits before reconnecting when the server gave no `retry:`; browsers use the same.
const RETRY = 3;
// Over HTTP/1.1 a browser has six connections to a server. Streams take five: one is left for the page's own requests.
const MAX_STREAMS = 5;
// How long a page waits for an answer of the hub before it looks for another way.
const HUB_TIMEOUT = 3;
// What a tab keeps back while it asks for what it lacks. Beyond it the tab takes a connection of its own.
const MAX_HELD = 4096;
// The longest delay setTimeout takes, in seconds.
const MAX_DELAY = 2147483;
// Channel, lock and worker of all tabs. The number changes with the messages, so that old tabs never talk to new ones.
const HUB = "sse-fast/1";

/** Subscribes to the stream at `url`, or to several by name. See sse-fast.d.ts for every option. */
export function connect(url, options = {}) {
  const unknown = Object.keys(options).filter((name) => !Object.hasOwn(DEFAULTS, name));
  if (unknown.length) throw new TypeError(`connect: unknown option ${unknown.join(", ")}`);
  const given = { ...DEFAULTS, ...options };
  if (!Array.isArray(url)) return new Subscriber(absolute(url), given);
  if (isPost(given.fetchOptions)) throw new TypeError("connect: several streams cannot be read by POST");
  if (url.length === 0 || new Set(url).size < url.length) {
    throw new TypeError("connect: several streams must be at least one, and each a different one");
  }
  return new Group(url, given);
}

/** What a page holds: its handlers, what it is told, and when it gives up. */
class Subscriber {
  /** The last state given to `onState`. */
  state = { state: "connecting", message: "Connecting …", since: now() };
  /** Resolves with the final state; never rejects. */
  closed;

  #url;
  #options;
  #place;
  #feed = null; // a Reading or a Joint; null while the page is away
  #shared;
  #startedAt = now();
  #timers = new Timers();
  #wakeUps = new AbortController(); // removes the listeners on window and document
  #resolveClosed;

  constructor(url, options) {
    this.#url = url;
    this.#options = options;
    this.#place = new Place(options.lastEventId);
    this.#shared = options.share && !options.fetchOptions && !options.token && Share.possible();
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    call(options.onState, this.state);
    if (options.deadline) this.#timers.after("deadline", options.deadline, () => this.#giveUp());
    this.#watchPage();
    this.#start();
  }

  /** The id to resume after. */
  get lastEventId() {
    return this.#place.lastEventId;
  }

  /** When the server last gave any sign of life, heartbeats included. */
  get aliveAt() {
    return this.#place.aliveAt;
  }

  /** Stops reading. The stream itself goes on. */
  close() {
    this.#set({ state: "closed", reason: "asked", message: "Closed" });
  }

  #start() {
    const { terminal, heartbeat, idleTimeout, pollEvery, openTimeout, fetchOptions, token } = this.#options;
    const settings = { terminal, heartbeat, idleTimeout, pollEvery, openTimeout };
    const callbacks = {
      event: (event) => this.#event(event),
      gap: (gap) => isOver(this.state) || call(this.#options.onGap, gap),
      state: (state) => this.#set(state),
      refused: () => this.#startAlone(),
    };
    if (this.#shared) this.#feed = Share.join(this.#url, settings, callbacks, this.#place);
    else {
      const names = [...terminal, ...Object.keys(this.#options.on)];
      this.#feed = new Reading(this.#url, { ...settings, names, fetchOptions, token }, callbacks, this.#place);
    }
    this.#feed.open();
  }

  #startAlone() {
    this.#shared = false;
    this.#feed.close();
    this.#start();
  }

  #event(about) {
    for (const name of [about.event, "*"]) {
      // A handler may have closed this.
      if (isOver(this.state)) return;
      if (Object.hasOwn(this.#options.on, name)) call(this.#options.on[name], parse(about.data), about);
    }
  }

  #watchPage() {
    const { signal } = this.#wakeUps;
    const shown = () => document.visibilityState === "visible" && this.#wake();
    globalThis.document?.addEventListener("visibilitychange", shown, { signal });
    globalThis.addEventListener?.("pagehide", () => this.#pause(), { signal });
    globalThis.addEventListener?.("pageshow", (event) => event.persisted && this.#wake(), { signal });
  }

  /** The page is shown again: what came in between is asked for at once. */
  #wake() {
    const { deadline } = this.#options;
    // Timers stand still while a computer sleeps; the clock does not.
    if (deadline && now() > this.#startedAt + deadline) return this.#giveUp();
    if (this.#feed) return this.#feed.wake();
    this.#set({ state: "connecting", message: "Connecting …" });
    this.#start();
  }

  /**
   * The page is left. A browser may keep it for its back button, connections and all, and it has only six of them for a
   * host: without this, two such pages can leave none for the page that is shown.
   */
  #pause() {
    this.#feed?.close();
    this.#feed = null;
    const message = "Paused while the page is away";
    this.#set({ state: "waiting", reason: "paused", message, attempt: 0, retryAt: null });
  }

  #giveUp() {
    const { deadline } = this.#options;
    const time = deadline >= 120 ? `${Math.round(deadline / 60)} minutes` : `${deadline} seconds`;
    this.#set({ state: "gave-up", reason: "deadline", message: `Gave up: the stream did not end within ${time}.` });
  }

  #set(state) {
    const { since, ...before } = this.state;
    const changed = state.state !== before.state || state.reason !== before.reason;
    if (isOver(this.state) || (!changed && state.state === "connecting")) return;
    this.state = { ...state, since: changed ? now() : since };
    if (isOver(state)) {
      this.#feed?.close();
      this.#wakeUps.abort();
      this.#timers.cancelAll();
    }
    call(this.#options.onState, this.state);
    if (isOver(state)) this.#resolveClosed(this.state);
  }
}

/** Several streams: over one connection where the server offers that, else by one connection each. */
class Group {
  state = { state: "connecting", message: "Connecting …", since: now() };
  closed;

  #names;
  #options;
  #parts = []; // [name, Subscriber]; one with the name null carries all
  #resolveClosed;

  constructor(names, options) {
    this.#names = names;
    this.#options = options;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    call(options.onState, this.state);
    this.#open();
  }

  /** Opaque: what `lastEventId` takes when the same streams are read again. */
  get lastEventId() {
    if (this.#parts.length === 0) return this.#options.lastEventId;
    if (this.#parts[0][0] === null) return this.#parts[0][1].lastEventId;
    return JSON.stringify(Object.fromEntries(this.#parts.map(([name, part]) => [name, part.lastEventId])));
  }

  get aliveAt() {
    const times = this.#parts.map(([, part]) => part.aliveAt).filter((time) => time !== null);
    return times.length ? Math.max(...times) : null;
  }

  close() {
    for (const [, part] of this.#parts) part.close();
    this.#set({ state: "closed", reason: "asked", message: "Closed" });
  }

  async #open() {
    const together = absolute(`/streams?${this.#names.map((name) => `name=${encodeURIComponent(name)}`).join("&")}`);
    const isUrl = (name) => /^(https?:\/)?\//.test(name);
    const offered = !this.#names.some(isUrl) && (await offersSeveral(together, this.#options));
    if (isOver(this.state)) return;
    if (offered) {
      const lastEventId = isJson(this.#options.lastEventId) ? null : this.#options.lastEventId;
      this.#add(null, together, lastEventId);
      return;
    }
    const places = isJson(this.#options.lastEventId) ? JSON.parse(this.#options.lastEventId) : {};
    for (const name of this.#names) {
      const path = isUrl(name) ? name : `/streams/${name.split("/").map(encodeURIComponent).join("/")}`;
      this.#add(name, absolute(path), places[name] ?? null);
    }
  }

  #add(name, url, lastEventId) {
    const on = {};
    for (const [event, handler] of Object.entries(this.#options.on)) {
      on[event] = (data, about) => handler(data, { ...about, stream: name ?? this.#streamOf(about.id) });
    }
    const options = {
      ...this.#options,
      on,
      lastEventId,
      // The end of one stream is not the end of the connection that carries all.
      terminal: name === null ? [] : this.#options.terminal,
      onGap: (gap) => this.#options.onGap({ ...gap, stream: name ?? gap.stream ?? null }),
      onState: () => this.#tell(),
    };
    this.#parts.push([name, new Subscriber(url, options)]);
    this.#tell();
  }

  /** The id of an event that came with others begins with the place of its stream's name: `1_…`. */
  #streamOf(id) {
    return this.#names[parseInt(id ?? "", 36)] ?? null;
  }

  /** One state for all: the worst of those that go on; once none does, that of the first that did not end well. */
  #tell() {
    // A subscriber tells its first state before it is here.
    const isWhole = this.#parts[0]?.[0] === null || this.#parts.length === this.#names.length;
    if (!isWhole) return;
    const states = this.#parts.map(([, part]) => part.state);
    const worst = (...kinds) => kinds.map((kind) => states.find(({ state }) => state === kind)).find(Boolean);
    const state = worst("waiting", "polling", "connecting", "live") ?? worst("gave-up", "closed", "ended");
    if (state !== this.state) this.#set(state);
  }

  #set(state) {
    if (isOver(this.state)) return;
    this.state = { ...state, since: now() };
    call(this.#options.onState, this.state);
    if (isOver(state)) this.#resolveClosed(this.state);
  }
}

/** Where a reading is: the id to go on after, and what has been seen, so that nothing is handled twice. */
class Place {
  lastEventId;
  aliveAt = null;
  #seen = new Set();

  constructor(lastEventId) {
    this.lastEventId = lastEventId;
  }

  /** A snapshot carries the id of the event it stands for, so the name belongs to what was seen. */
  isNew({ event, id }) {
    return id === null || !this.#seen.has(`${event}\n${ownPart(id)}`);
  }

  passed({ event, id }) {
    if (id === null) return;
    this.lastEventId = id;
    this.#seen.add(`${event}\n${ownPart(id)}`);
    if (this.#seen.size > MAX_SEEN) this.#seen.delete(this.#seen.values().next().value);
  }
}

// An id of several streams: which of them the event is of, and how far the reader is with each.
const SEVERAL = /^([0-9a-z]+)_((?:-|[0-9a-z]{7}-\d+)(?:~(?:-|[0-9a-z]{7}-\d+))+)$/;

/**
 * What an event is known by. Where several streams come over one connection, the same event has another id whenever
 * those of the others came before it or not: only the entry of its own stream is its own.
 */
function ownPart(id) {
  const [, index, entries] = SEVERAL.exec(id) ?? [];
  const own = entries?.split("~")[parseInt(index, 36)];
  return own ? `${index}_${own}` : id;
}

/** One stream, read until its end: by EventSource or fetch, by polls where that fails, and back by itself. */
class Reading {
  /** The last state that was told. */
  state = { state: "connecting", message: "Connecting …" };

  #url;
  #settings;
  #callbacks;
  #place;
  #isPost;
  #names; // every event name EventSource must listen for: it has no "all". null: read by fetch
  #source = null; // the open transport, or null
  #current = null; // the attempt whose transport or ticket is still heard
  #mode = "streaming"; // or "polling", "starved" (no connection left in the browser), "stopped" (offline)
  #timers = new Timers(); // open, retry, idle, poll, slow, tell, grace
  #wakeUps = new AbortController(); // removes the listeners on the network
  #asking = null; // AbortController of the poll or check under way
  #checking = false;
  #everLive = false;
  #openedAt = null; // null while the stream is not open
  #eventAt = 0; // when the last application event came over the stream
  #lastName = null; // its name
  #failures = 0; // connections in a row that brought nothing
  #pollings = 0; // times polling took over without an event over the stream in between
  #pollsToGo = 1; // successful polls before the stream is tried again
  #attempt = 0; // polls in a row that failed
  #notFound = 0; // polls in a row that were told 404
  #ticket = null;
  #renewals = 0; // tickets taken in a row without a stream
  #expired = false; // the server said that the ticket has expired, and is about to end the connection

  /** `names` in `settings`: what the page listens for, or null for everything. */
  constructor(url, settings, callbacks, place) {
    this.#url = url;
    this.#settings = { names: null, fetchOptions: null, token: null, ...settings };
    this.#callbacks = callbacks;
    this.#place = place;
    this.#isPost = isPost(settings.fetchOptions);
    const { names, fetchOptions, token, heartbeat } = this.#settings;
    // EventSource reports only names it was told, sends no headers and keeps its URL; fetch does what it cannot.
    const byEventSource = names && !names.includes("*") && !fetchOptions && !token && globalThis.EventSource;
    this.#names = byEventSource ? new Set(["message", "gap", "auth", heartbeat, ...names]) : null;
  }

  get isOpen() {
    return this.#openedAt !== null;
  }

  /** Begins. Apart from the constructor, so that callbacks meet an owner that knows this. */
  open() {
    const { signal } = this.#wakeUps;
    globalThis.addEventListener?.("online", () => this.wake(), { signal });
    globalThis.addEventListener?.("offline", () => this.#offline(), { signal });
    this.#subscribe();
  }

  /** Lets go of everything, without a word. */
  close() {
    this.#wakeUps.abort();
    this.#letGo();
    this.#abortAsking();
    this.#timers.cancelAll();
    this.#mode = "closed";
  }

  /** Back online, or shown again: asks at once for the events since then. */
  wake() {
    if (this.#mode === "stopped" || this.#mode === "starved") this.#subscribe();
    else if (this.#isPost) return;
    else if (this.#mode === "polling") this.#poll();
    else if (this.#openedAt !== null) this.#check();
    // An attempt that has only just begun is left alone: two would make two connections.
    else if (this.state.state === "waiting" && !this.#timers.has("slow")) this.#subscribe();
  }

  // ---- the stream ----

  async #subscribe() {
    this.#letGo();
    this.#timers.cancel("open", "retry", "idle", "slow");
    if (!online()) return this.#stop();
    if (this.#mode !== "polling") this.#mode = "streaming";
    if (this.#settings.token && this.#ticket === null && !(await this.#renew())) return;
    if (!Connections.take(this, this.#url, this.#isPost)) return this.#failed("connections");
    // What a POST asks for may take its time.
    if (!this.#isPost) this.#timers.after("open", this.#settings.openTimeout, () => this.#failed("no-answer"));
    this.#timers.after("slow", SLOW_AFTER, () => this.#lookWhySlow());
    this.#source = this.#transport(this.#receiver());
  }

  #receiver() {
    const attempt = {};
    this.#current = attempt;
    const ifCurrent = (action) => (value, more) => this.#current === attempt && action(value, more);
    return {
      opened: ifCurrent(() => this.#opened()),
      alive: ifCurrent(() => this.#alive()),
      event: ifCurrent((event) => this.#receive(event, true)),
      dropped: ifCurrent((retry, clean) => this.#dropped(retry, clean)),
      failed: ifCurrent((status, reply) => this.#refused(status, reply)),
    };
  }

  #transport(receiver) {
    if (this.#names) return readByEventSource(this.#address(), this.#names, receiver);
    return readByFetch(this.#address(), this.#request("text/event-stream"), receiver);
  }

  /** Closes the stream, if any, and hears nothing more of it. */
  #letGo() {
    this.#current = null;
    this.#source?.close();
    this.#source = null;
    this.#openedAt = null;
    Connections.release(this);
  }

  #opened() {
    this.#timers.cancel("open", "poll", "slow", "tell");
    this.#mode = "streaming";
    this.#everLive = true;
    this.#attempt = this.#renewals = this.#notFound = 0;
    this.#openedAt = this.#place.aliveAt = now();
    this.#tell({ state: "live", message: "Live" });
    this.#watchForSilence();
  }

  /** Whatever comes over the stream, heartbeats included, shows that this way works. */
  #alive() {
    this.#place.aliveAt = now();
    this.#failures = this.#pollings = 0;
    this.#callbacks.alive?.();
  }

  /** The connection is over. `retry`: null where the browser reconnects by itself. `clean`: the server closed it. */
  #dropped(retry, clean) {
    this.#timers.cancel("idle", "slow", "open");
    const wasOpen = this.#openedAt !== null;
    if (wasOpen && now() - this.#openedAt >= GOOD_AFTER) this.#failures = 0;
    this.#openedAt = null;
    this.#failures += 1;
    if (this.#expired && this.#settings.token) {
      this.#expired = false;
      this.#ticket = null;
      return this.#subscribe();
    }
    if (this.#isPost) return this.#postDropped(retry, wasOpen && clean);
    if (this.#mode === "polling" || this.#failures > MAX_FAILURES) return this.#failed("dropped");
    let retryAt = null;
    if (retry === null) this.#timers.after("open", this.#settings.openTimeout, () => this.#failed("no-answer"));
    else {
      retryAt = now() + spread(retry);
      this.#letGo();
      this.#timers.after("retry", retryAt - now(), () => this.#subscribe());
    }
    const lost = () => this.#openedAt === null && this.#reconnecting("dropped", retryAt);
    // EventSource is silent about events whose names it was not told, so there every end may be one.
    if (wasOpen && (this.#names || now() - this.#eventAt < MAYBE_ENDED)) this.#askWhetherEnded(lost);
    else lost();
  }

  /** A stream that ends closes its connection after its last event, as a failing network does: only the server knows. */
  async #askWhetherEnded(lost) {
    this.#timers.after("tell", TELL_AFTER, lost);
    const reply = await this.#ask();
    if (!reply) return;
    this.#timers.cancel("tell");
    if (this.#settled(reply)) return;
    if (reply.body) this.#takeMissed(reply.body);
    if (!isOver(this.state) && this.#mode === "streaming") lost();
  }

  #reconnecting(reason, retryAt) {
    const message = `Connection lost, reconnecting (attempt ${this.#failures}) …`;
    this.#tell({ state: "waiting", reason, message, attempt: this.#failures, retryAt });
  }

  /** Anything but a stream. `status` is null where only EventSource knows it, and 0 where there was no answer. */
  async #refused(status, { retryAfter = null, detail = null } = {}) {
    if (status === 204) return this.#ended();
    if (this.#isPost) return this.#postRefused(status, retryAfter, detail);
    if (status === 401 && this.#settings.token && this.#renewals < 2) {
      this.#ticket = null;
      return this.#subscribe();
    }
    this.#failed("refused");
  }

  /** Gets a ticket. False where there is none, or this reading is closed by then. */
  async #renew() {
    const turn = (this.#current = {});
    this.#renewals += 1;
    try {
      const ticket = await this.#settings.token();
      if (this.#current !== turn) return false;
      if (ticket) this.#ticket = ticket;
      else this.#gaveUp("refused", "Gave up: there is no ticket for this stream.");
    } catch {
      if (this.#current !== turn) return false;
      this.#renewals -= 1;
      this.#failures += 1;
      const delay = spread(Math.min(RETRY * 2 ** (this.#failures - 1), 30));
      const message = `Trying again (attempt ${this.#failures}): no ticket could be had …`;
      const retryAt = now() + delay;
      this.#tell({ state: "waiting", reason: "ticket", message, attempt: this.#failures, retryAt });
      this.#timers.after("retry", delay, () => this.#subscribe());
    }
    return this.#ticket !== null;
  }

  // ---- POST: asked again only where that cannot do the work again ----

  #postDropped(retry, clean) {
    // The server has closed the answer as it should be closed.
    if (clean) return this.#ended();
    this.#postAgain(retry, "Gave up: the answer broke off, and it has no ids to go on from.");
  }

  #postRefused(status, retryAfter, detail) {
    if (status === 0) return this.#postAgain(RETRY, "Gave up: the server cannot be reached.");
    // Both say that nothing was begun.
    if (status === 503 || status === 429) {
      this.#failures += 1;
      if (this.#failures <= MAX_FAILURES) return this.#postLater(retryAfter ?? RETRY);
    }
    this.#gaveUp("refused", `Gave up: the server refused (HTTP ${status}).`, { status, detail });
  }

  /** With an id the server goes on where it was; without one it would begin anew, and perhaps do things twice. */
  #postAgain(retry, otherwise) {
    if (this.#place.lastEventId === null || this.#failures > MAX_FAILURES) return this.#gaveUp("cut-off", otherwise);
    this.#postLater(retry);
  }

  #postLater(seconds) {
    this.#letGo();
    const delay = spread(seconds);
    this.#reconnecting("dropped", now() + delay);
    this.#timers.after("retry", delay, () => this.#subscribe());
  }

  // ---- events ----

  /** Everything that arrives, whichever way, goes through here. `streamed`: over the stream, not by asking. */
  #receive(about, streamed) {
    const { event, data, id } = about;
    if (isOver(this.state) || event === this.#settings.heartbeat) return;
    if (id === null && event === "gap") return this.#gap(parse(data));
    if (id === null && event === "auth") {
      this.#expired = true;
      return;
    }
    if (streamed) this.#watchForSilence();
    if (!this.#place.isNew(about)) return;
    this.#place.passed(about);
    this.#eventAt = now();
    this.#lastName = event;
    this.#callbacks.event({ event, id, data });
    if (this.#settings.terminal.includes(event)) this.#ended();
  }

  #gap(gap) {
    const { skipped = null, from, to = null, stream } = gap ?? {};
    const told = { skipped, from: from ?? this.#place.lastEventId, to };
    this.#callbacks.gap(stream === undefined ? told : { ...told, stream });
  }

  // ---- asking: polls and checks are the same request ----

  /** No stream to be had this way: ask for the same events by polling, and come back when that works. */
  #failed(reason) {
    this.#timers.cancel("open", "retry", "idle", "slow");
    this.#letGo();
    if (this.#isPost) return this.#postRefused(0);
    // To look whether one of this page's own streams has gone costs nothing; every other attempt is a request.
    if (reason !== "connections") this.#pollings += 1;
    this.#pollsToGo = reason === "connections" ? 1 : Math.min(2 ** (this.#pollings - 1), 16);
    if (this.#mode === "polling") return; // the stream failed again while polls go on as before
    this.#mode = "polling";
    this.#attempt = 0;
    // The first answer may say that the stream has ended: only then is there something to tell.
    this.#timers.after("tell", TELL_AFTER, () => this.#polling(reason, null, 0));
    this.#poll(reason);
  }

  async #poll(why = "not-open") {
    this.#timers.cancel("poll");
    if (!online()) return this.#stop();
    const reply = await this.#ask();
    if (!reply || this.#mode !== "polling") return;
    this.#timers.cancel("tell");
    if (this.#settled(reply)) return;
    const works = reply.streams || reply.body;
    const delay = Math.max(spread(this.#settings.pollEvery), reply.retryAfter ?? 0);
    this.#attempt = works ? 0 : this.#attempt + 1;
    if (works) {
      this.#pollsToGo -= 1;
      if (reply.body) this.#take(reply.body, reply.asked);
      if (isOver(this.state)) return;
      this.#polling(why, 0, delay);
      // One answer is bounded. Without progress the next would be the same: then the usual pause.
      if (reply.body?.more && this.#place.lastEventId !== reply.asked) return this.#poll(why);
      // Polls go on until the stream is open: behind a proxy that swallows streams nothing may stop.
      if (this.#pollsToGo <= 0 && !this.#source) this.#subscribe();
    } else this.#polling(reply.reason, this.#attempt, delay);
    if (this.#mode === "polling") this.#timers.after("poll", delay, () => this.#poll(why));
  }

  /** `attempt`: polls in a row that failed, too; null: there was no answer yet. */
  #polling(reason, attempt, delay) {
    const whys = { "not-found": "the server does not have this stream", unreachable: "the server cannot be reached" };
    const why = attempt === null ? "the server does not answer" : (whys[reason] ?? "the server is not ready");
    const message = attempt === 0 ? "Live by polling" : `Trying again (attempt ${attempt ?? 1}): ${why} …`;
    this.#tell({ state: "polling", reason, message, attempt: attempt ?? 1, retryAt: now() + delay });
  }

  /** Health: nothing but silence for a while. One cheap question tells a quiet stream from a dead connection. */
  async #check() {
    // One at a time: a second one would take the place of the first while that waits for what may be on its way.
    if (!this.#checking && online()) {
      this.#checking = true;
      await this.#lookForMissed().finally(() => (this.#checking = false));
    }
    if (this.#openedAt !== null) this.#watchForSilence();
  }

  async #lookForMissed() {
    const reply = await this.#ask();
    const isLive = () => this.#openedAt !== null && this.#mode === "streaming";
    if (!reply || !isLive() || this.#settled(reply)) return;
    if (reply.status === 404) return this.#failed("not-found");
    if (!reply.body) return;
    const missed = this.#missed(reply.body);
    if (missed) await new Promise((resolve) => this.#timers.after("grace", CHECK_GRACE, resolve));
    if (!isLive()) return;
    const dead = missed && this.#missed(reply.body);
    this.#takeMissed(reply.body);
    if (isOver(this.state) || !dead) return;
    this.#failures += 1;
    if (this.#failures >= MAX_SILENT) return this.#failed("silent");
    this.#reconnecting("silent", now());
    this.#subscribe();
  }

  /**
   * Whether a reply holds what should have come over the stream. Names nobody listens for do not count; a snapshot does
   * where nothing has come at all.
   */
  #missed({ ended, gaps, events }) {
    const listened = events.filter(({ event }) => this.#names?.has(event) ?? true);
    return ended || gaps.length > 0 || listened.some((event) => event.id !== null && this.#place.isNew(event));
  }

  /** What a poll brought. */
  #take({ lastId, ended, more, gaps, events }, asked) {
    for (const gap of gaps) this.#gap(gap);
    for (const event of events) this.#receive(event, false);
    // Where the events do not tell the place to go on from, the answer does: none of them, or none with an id.
    if (this.#place.lastEventId === asked && lastId !== null) this.#place.lastEventId = lastId;
    if (ended && !more) this.#ended();
  }

  /** What a check found, beside a stream. Events without ids may have come over it: they cannot be told apart. */
  #takeMissed({ ended, more, gaps, events }) {
    for (const gap of gaps) this.#gap(gap);
    for (const event of events) if (event.id !== null) this.#receive(event, false);
    if (ended && !more) this.#ended();
  }

  /** Answers that end the reading. True if one did. */
  #settled({ status, detail }) {
    this.#notFound = status === 404 ? this.#notFound + 1 : 0;
    if (status === 204) this.#ended();
    else if (this.#everLive && this.#notFound >= MAX_NOT_FOUND) {
      this.#gaveUp("unknown-stream", "Gave up: the server no longer knows this stream.");
    } else if ([400, 401, 403, 405, 410].includes(status)) {
      if (status === 401 && this.#settings.token && this.#renewals < 2) {
        this.#ticket = null;
        this.#mode = "streaming";
        this.#subscribe();
        return true;
      }
      this.#gaveUp("refused", `Gave up: the server refused (HTTP ${status}).`, { status, detail });
    }
    return isOver(this.state);
  }

  /** One GET for JSON. null: superseded, or the reading is over by then. */
  async #ask() {
    this.#abortAsking();
    const asking = (this.#asking = new AbortController());
    const asked = this.#place.lastEventId;
    const slow = setTimeout(() => this.#lookWhySlow(), SLOW_AFTER * 1000);
    const reply = await ask(this.#address(), this.#request("application/json"), this.#settings.openTimeout, asking);
    clearTimeout(slow);
    if (this.#asking !== asking) return null;
    this.#asking = null;
    if (reply.status) this.#place.aliveAt = now();
    if (reply.status === 200) this.#everLive = true;
    return { ...reply, asked };
  }

  #abortAsking() {
    this.#asking?.abort();
    this.#asking = null;
  }

  #address() {
    const address = new URL(this.#url);
    const { lastEventId } = this.#place;
    if (lastEventId !== null && !this.#isPost) address.searchParams.set("last_event_id", lastEventId);
    if (this.#ticket !== null) address.searchParams.set("ticket", this.#ticket);
    return address.href;
  }

  #request(accept) {
    const { fetchOptions } = this.#settings;
    const headers = new Headers(fetchOptions?.headers);
    headers.set("Accept", accept);
    const request = { cache: "no-store", ...fetchOptions, headers };
    if (!this.#isPost) return { ...request, method: "GET", body: undefined };
    if (this.#place.lastEventId !== null) headers.set("Last-Event-ID", this.#place.lastEventId);
    return request;
  }

  // ---- time and network ----

  #watchForSilence() {
    const { idleTimeout } = this.#settings;
    if (idleTimeout && !this.#isPost) this.#timers.after("idle", idleTimeout, () => this.#check());
  }

  /** A request waits: in the browser, which has no connection left for it, or for a server that cannot be reached? */
  async #lookWhySlow() {
    const waits = () => this.#openedAt === null && (this.#asking !== null || this.#source !== null);
    const why = await whySlow(this.#url, this.#settings.fetchOptions?.credentials);
    if (!waits()) return;
    if (why === "connections") this.#starve();
    else if (why === "unreachable" && this.#mode === "streaming" && !this.#isPost) this.#failed("unreachable");
  }

  /** Whatever waits in the browser is withdrawn, so that it takes nothing from the page; a small request looks again. */
  #starve() {
    const delay = spread(this.#settings.pollEvery);
    const message =
      "Waiting for a connection: this browser's six connections to the server are in use, by other tabs or streams …";
    this.#tell({ state: "waiting", reason: "connections", message, attempt: 0, retryAt: now() + delay });
    // Whether a POST has been sent cannot be seen from here.
    if (this.#isPost) return;
    this.#letGo();
    this.#abortAsking();
    this.#timers.cancelAll();
    this.#mode = "starved";
    this.#timers.after("poll", delay, async () => {
      const free = await answers(this.#url, credentialed(this.#url, this.#settings.fetchOptions?.credentials));
      if (this.#mode !== "starved") return;
      if (free) this.#subscribe();
      else this.#starve();
    });
  }

  #offline() {
    if (this.#openedAt === null) this.#stop();
  }

  /** Asks for nothing more until the network is back. */
  #stop() {
    this.#letGo();
    this.#abortAsking();
    this.#timers.cancelAll();
    this.#mode = "stopped";
    const message = "This device is offline; waiting for the network …";
    this.#tell({ state: "waiting", reason: "offline", message, attempt: this.#failures, retryAt: null });
  }

  // ---- states ----

  #ended() {
    this.#tell({ state: "ended", event: this.#lastName, message: "Finished" });
  }

  #gaveUp(reason, message, about = {}) {
    this.#tell({ state: "gave-up", reason, message, ...about });
  }

  #tell(state) {
    if (this.#mode === "closed") return;
    this.state = state;
    if (isOver(state)) this.close();
    this.#callbacks.state(state);
  }
}

/** How many streams this page, or the worker of all tabs, holds open to each server. */
const Connections = {
  open: new Map(), // origin to the set of readings

  /** False where one more would leave the page none for itself. What was asked for by POST is never kept waiting. */
  take(reading, url, always) {
    const { origin } = new URL(url);
    if (!this.open.has(origin)) this.open.set(origin, new Set());
    const readings = this.open.get(origin);
    if (!always && readings.size >= MAX_STREAMS && !multiplexes(origin)) return false;
    readings.add(reading);
    return true;
  },

  release(reading) {
    for (const readings of this.open.values()) readings.delete(reading);
  },
};

// ---- one connection for all tabs ----

/**
 * This page's side: it finds the hub, or is the hub, and hands what the hub says to those who listen here.
 *
 * The hub is the tab that holds a lock; the others queue for it. A worker would do as well, and does where there are no
 * locks (pages without TLS). It comes second, since a browser freezes it, connections and all, in the moment in which it
 * keeps its last page for the back button. A hidden tab may be slowed down or put to sleep: while it is not live, or does
 * not answer, a tab that is looked at takes its place.
 */
class Share {
  static #one = null;

  /** Whether tabs can speak to each other here, and one place can be found that reads for all. */
  static possible() {
    const isPage = typeof document === "object" && typeof BroadcastChannel === "function";
    return isPage && (Boolean(navigator.locks) || workerUrl() !== null);
  }

  static join(url, settings, callbacks, place) {
    Share.#one ??= new Share();
    return new Joint(Share.#one, url, settings, callbacks, place);
  }

  #channel = null; // null while the page is away
  #tab = null;
  #hub = null; // { id, since } of the newest hub that was heard
  #ownHub = null; // where this page is the hub
  #worker = null; // held, so that it is not collected
  #joints = new Map();
  #letGo = new AbortController(); // gives back the locks

  add(joint) {
    this.#joints.set(joint.id, joint);
    if (this.#channel === null) this.#start();
    else if (this.#hub !== null) this.post(joint.request());
  }

  remove(joint) {
    if (this.#joints.delete(joint.id)) this.post({ leave: joint.id });
  }

  post(message) {
    this.#channel?.postMessage({ ...message, tab: this.#tab });
  }

  /** The hub is of no use to a page that is looked at: it takes the place, or takes care of itself. */
  takeOver() {
    if (!navigator.locks) return this.#refuse();
    if (document.visibilityState === "hidden" || this.#ownHub || this.#channel === null) return;
    this.#lead({ steal: true });
  }

  async #start() {
    this.#tab = randomId();
    this.#letGo = new AbortController();
    const channel = (this.#channel = new BroadcastChannel(HUB));
    channel.onmessage = ({ data }) => this.#hear(data);
    globalThis.addEventListener("pagehide", () => this.#stop(), { signal: this.#letGo.signal });
    try {
      // The hub waits for this lock: it is free once this page is gone, however it went.
      await holdLock(`${HUB}/tab/${this.#tab}`, this.#letGo.signal);
      if (this.#channel !== channel) return;
      this.post({ who: true });
      if (navigator.locks) this.#lead();
      else this.#startWorker();
    } catch {
      this.#refuse();
    }
  }

  /** Becomes the hub as soon as there is none. */
  #lead(options = {}) {
    const { signal } = this.#letGo;
    const lost = () => {
      this.#ownHub?.close();
      this.#ownHub = null;
      if (!options.steal && !signal.aborted) this.#lead();
    };
    holdLock(HUB, signal, options, lost).then(
      () => {
        if (!signal.aborted) this.#ownHub = new Hub();
      },
      () => signal.aborted || this.#refuse(),
    );
  }

  #startWorker() {
    this.#worker = new SharedWorker(workerUrl(), { type: "module", name: HUB });
    this.#worker.onerror = () => this.#refuse();
  }

  #refuse() {
    for (const joint of [...this.#joints.values()]) joint.refused();
  }

  #hear(message) {
    if (message.hub) {
      // One that slept while another took its place may still speak.
      if (this.#hub !== null && (message.hub.id === this.#hub.id || message.hub.since < this.#hub.since)) return;
      this.#hub = message.hub;
      for (const joint of this.#joints.values()) this.post(joint.request());
    } else if (message.from !== undefined && message.from === this.#hub?.id) {
      if (message.to) this.#joints.get(message.to)?.answered(message);
      else for (const joint of [...this.#joints.values()]) if (joint.key === message.key) joint.news(message);
      if (message.isHidden && !message.isLive && this.#concerns(message)) this.takeOver();
    }
  }

  #concerns({ to, key }) {
    return this.#joints.has(to) || [...this.#joints.values()].some((joint) => joint.key === key);
  }

  #stop() {
    for (const joint of this.#joints.values()) this.post({ leave: joint.id });
    this.#ownHub?.close();
    this.#channel?.close();
    this.#letGo.abort();
    this.#channel = this.#hub = this.#ownHub = this.#worker = null;
  }
}

/** What feeds a Subscriber from the hub: it asks once for what it lacks, and listens from there on. */
class Joint {
  id = randomId();
  key;

  #share;
  #url;
  #settings;
  #callbacks;
  #place;
  #phase = "away"; // no hub has answered; then "behind" while it asks for what it lacks, "live", "closed"
  #held = []; // what came while it was behind
  #until = null; // up to this id everything is there
  #lastName = null;
  #asking = null;
  #timers = new Timers(); // hub, again

  constructor(share, url, settings, callbacks, place) {
    this.#share = share;
    this.#url = url;
    this.#settings = settings;
    this.#callbacks = callbacks;
    this.#place = place;
    this.key = JSON.stringify([url, settings]);
  }

  open() {
    this.#share.add(this);
    this.#timers.after("hub", HUB_TIMEOUT, () => this.refused());
  }

  close() {
    this.#phase = "closed";
    this.#asking?.abort();
    this.#timers.cancelAll();
    this.#share.remove(this);
  }

  /** Asks the hub to look at once. A browser may have put it to sleep with its tab. */
  wake() {
    if (this.#phase === "away") return;
    this.#share.post({ wake: this.id, key: this.key });
    this.#timers.after("hub", HUB_TIMEOUT, () => {
      this.#share.takeOver();
      this.#isHeard();
    });
  }

  request() {
    this.#phase = "away";
    this.#held = [];
    this.#asking?.abort();
    this.#asking = null;
    this.#timers.after("hub", HUB_TIMEOUT, () => this.refused());
    const { lastEventId } = this.#place;
    return { join: this.id, key: this.key, url: this.#url, settings: this.#settings, lastEventId };
  }

  refused() {
    if (this.#phase !== "closed") this.#callbacks.refused();
  }

  /** `fresh`: the hub began to read for this joint. `at`: how far the hub is, everything after that is told to all. */
  answered({ joined, refused, fresh, at, state }) {
    if (refused) return this.refused();
    this.#isHeard();
    if (!joined || this.#phase !== "away") return;
    this.#until = null;
    if (fresh || (at !== null && at === this.#place.lastEventId)) {
      this.#phase = "live";
      this.#callbacks.state(state);
      return;
    }
    this.#phase = "behind";
    this.#state(state);
    this.#catchUp(state);
  }

  /** Events, gaps and states, in the order in which the hub met them. */
  news({ items, aliveAt }) {
    if (this.#phase === "away") return;
    this.#isHeard();
    this.#place.aliveAt = aliveAt;
    if (this.#phase === "behind" && this.#held.length + items.length > MAX_HELD) return this.refused();
    for (const item of items) {
      if (this.#phase === "closed") return;
      if (this.#phase === "live") this.#take(item);
      else {
        if (item.state) this.#state(item.state);
        this.#held.push(item);
      }
    }
  }

  #isHeard() {
    this.#timers.after("hub", this.#settings.idleTimeout || 60, () => this.wake());
  }

  /** While it is behind, a state is shown where it is not one that says that all is there. */
  #state(state) {
    if (!["live", "ended", "polling"].includes(state.state)) this.#callbacks.state(state);
  }

  async #catchUp(state) {
    const asking = (this.#asking = new AbortController());
    const asked = this.#place.lastEventId;
    const address = new URL(this.#url);
    if (asked !== null) address.searchParams.set("last_event_id", asked);
    const headers = new Headers({ Accept: "application/json" });
    const request = { cache: "no-store", headers };
    const reply = await ask(address.href, request, this.#settings.openTimeout, asking);
    if (this.#asking !== asking || this.#phase !== "behind") return;
    // A server that cannot say what came before answers with the stream; events without ids cannot be told apart.
    if (reply.streams || reply.body?.events.some(({ id }) => id === null)) return this.refused();
    if (!reply.body) {
      this.#timers.after("again", spread(this.#settings.pollEvery), () => this.#catchUp(state));
      return;
    }
    const { lastId, ended, more, gaps, events } = reply.body;
    for (const gap of gaps) this.#take({ gap: { from: asked, ...gap } });
    for (const event of events) this.#take({ event });
    if (this.#phase !== "behind") return;
    if (this.#place.lastEventId === asked && lastId !== null) this.#place.lastEventId = lastId;
    if (more && this.#place.lastEventId !== asked) return this.#catchUp(state);
    if (ended && !more) return this.#callbacks.state({ state: "ended", event: this.#lastName, message: "Finished" });
    this.#arrive(lastId, state);
  }

  #arrive(lastId, state) {
    const held = this.#held;
    this.#held = [];
    this.#phase = "live";
    this.#until = lastId;
    this.#callbacks.state(state);
    const place = held.findIndex(({ event }) => event && event.id === lastId);
    held.forEach((item, index) => {
      if (this.#phase === "live" && (item.state || index > place)) this.#take(item);
    });
  }

  #take({ event, gap, state }) {
    if (state) return this.#callbacks.state(state);
    if (this.#until !== null) {
      const order = compareIds(event ? event.id : gap.to, this.#until);
      if (order <= 0) return;
      if (order > 0) this.#until = null;
    }
    if (gap) return this.#callbacks.gap(gap);
    if (!this.#place.isNew(event)) return;
    this.#place.passed(event);
    this.#lastName = event.event;
    this.#callbacks.event(event);
  }
}

/** Reads for all tabs: in the one of them that holds the lock, or in their shared worker. */
class Hub {
  #hub = { id: randomId(), since: now() };
  #channel = new BroadcastChannel(HUB);
  #entries = new Map(); // key to { key, reading, place, members, items, toldAt, hasIds }
  #members = new Map(); // id to { tab, entry }
  #tabs = new Set(); // whose end is waited for
  #letGo = new AbortController();

  constructor() {
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#announce();
  }

  close() {
    for (const { reading } of this.#entries.values()) reading.close();
    this.#entries.clear();
    this.#letGo.abort();
    this.#channel.close();
  }

  #hear(message) {
    if (message.who) this.#announce();
    else if (message.join) this.#join(message);
    else if (message.leave) this.#leave(message.leave);
    else if (message.wake) {
      const entry = this.#entries.get(message.key);
      // What it said last may be old where its timers stand still.
      this.#post({ to: message.wake, isLive: entry?.reading.isOpen ?? true }, entry);
      entry?.reading.wake();
    }
  }

  #announce() {
    this.#channel.postMessage({ hub: this.#hub });
  }

  #join({ join: member, tab, key, url, settings, lastEventId }) {
    this.#leave(member);
    const before = this.#entries.get(key);
    if (before?.hasIds === false) return this.#post({ to: member, refused: true });
    const entry = before ?? this.#begin(key, url, settings, lastEventId);
    entry.members.add(member);
    this.#members.set(member, { tab, entry });
    this.#watch(tab);
    this.#flush(entry);
    const { state } = entry.reading;
    this.#post({ to: member, joined: true, fresh: !before, at: entry.place.lastEventId, state }, entry);
    if (!before) entry.reading.open();
  }

  #begin(key, url, settings, lastEventId) {
    const place = new Place(lastEventId);
    const entry = { key, place, members: new Set(), items: [], toldAt: 0, hasIds: null };
    const callbacks = {
      event: (event) => {
        entry.hasIds = event.id !== null;
        this.#add(entry, { event });
      },
      gap: (gap) => this.#add(entry, { gap }),
      state: (state) => {
        if (isOver(state)) this.#forget(entry);
        this.#add(entry, { state });
      },
      alive: () => now() - entry.toldAt > 1 && this.#add(entry),
    };
    entry.reading = new Reading(url, settings, callbacks, place);
    this.#entries.set(key, entry);
    return entry;
  }

  /** What comes in one piece goes out in one. */
  #add(entry, ...items) {
    if (entry.items.length === 0) queueMicrotask(() => this.#flush(entry, true));
    entry.items.push(...items);
  }

  #flush(entry, always = false) {
    if (this.#letGo.signal.aborted || (!always && entry.items.length === 0)) return;
    const { key, items, place } = entry;
    entry.items = [];
    entry.toldAt = now();
    this.#post({ key, items, aliveAt: place.aliveAt }, entry);
  }

  #post(message, entry = null) {
    const isLive = ["connecting", "live"].includes(entry?.reading.state.state ?? "live") || isOver(entry.reading.state);
    const isHidden = globalThis.document?.visibilityState === "hidden";
    this.#channel.postMessage({ from: this.#hub.id, isLive, isHidden, ...message });
  }

  #leave(member) {
    const entry = this.#members.get(member)?.entry;
    this.#members.delete(member);
    if (!entry?.members.delete(member) || entry.members.size) return;
    entry.reading.close();
    this.#forget(entry);
  }

  #forget(entry) {
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
  }

  #watch(tab) {
    if (this.#tabs.has(tab) || !navigator.locks) return;
    this.#tabs.add(tab);
    const gone = () => {
      this.#tabs.delete(tab);
      for (const [member, about] of this.#members) if (about.tab === tab) this.#leave(member);
    };
    navigator.locks.request(`${HUB}/tab/${tab}`, { signal: this.#letGo.signal }, gone).catch(() => {});
  }
}

/** Resolves once the lock is held; it is given back when `signal` says so, or with the page. `lost`: it was taken away. */
function holdLock(name, signal, options = {}, lost = () => {}) {
  if (!navigator.locks) return Promise.resolve();
  return new Promise((resolve, reject) => {
    let isHeld = false;
    const hold = () => {
      isHeld = true;
      resolve();
      return new Promise((release) => (signal.aborted ? release() : signal.addEventListener("abort", release)));
    };
    navigator.locks
      .request(name, options.steal ? options : { signal }, hold)
      .catch((error) => (isHeld ? lost() : reject(error)));
  });
}

/** Where this file can be run as the worker of all tabs: not where it was bundled into another, or is of another server. */
function workerUrl() {
  if (!globalThis.SharedWorker) return null;
  const { origin, pathname, href } = new URL(import.meta.url);
  return origin === location.origin && pathname.endsWith("/sse-fast.js") ? href : null;
}

/** Ids are `<epoch>-<n>`. NaN where that does not tell which came first. */
function compareIds(one, other) {
  const parts = /^([0-9a-z]+)-(\d+)$/;
  const [, epoch, n] = parts.exec(one ?? "") ?? [];
  const [, otherEpoch, otherN] = parts.exec(other) ?? [];
  return epoch !== undefined && epoch === otherEpoch ? Number(n) - Number(otherN) : NaN;
}

// ---- the wire ----

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
    error: () => (source.readyState === EventSource.CLOSED ? failed(null) : dropped(null, false)),
  };
  for (const name of new Set([...names, "open", "error"])) {
    source.addEventListener(name, Object.hasOwn(own, name) ? orReceive(own[name]) : receive);
  }
  return source;
}

/** The same by fetch: sees every name, comments and statuses, and can send headers; reconnecting is the caller's. */
function readByFetch(address, request, { opened, alive, event, dropped, failed }) {
  const aborter = new AbortController();
  let retry = RETRY;
  let answered = false;
  const read = async () => {
    const response = await fetch(address, { ...request, signal: aborter.signal });
    if (response.status !== 200 || !typeOf(response).startsWith("text/event-stream")) {
      const reply = await replyOf(response);
      aborter.abort();
      return failed(response.status, reply);
    }
    answered = true;
    opened();
    const parser = new Parser({ event, retry: (milliseconds) => (retry = milliseconds / 1000) });
    for (const reader = response.body.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done) break;
      alive();
      parser.push(value);
    }
    dropped(retry, true);
  };
  read().catch(() => (answered || request.method !== "POST" ? dropped(retry, false) : failed(0)));
  return { close: () => aborter.abort() };
}

/** text/event-stream as the HTML standard defines it, from pieces that may be cut anywhere. */
export class Parser {
  #callbacks;
  #decoder = new TextDecoder(); // leaves out a byte order mark at the beginning
  #rest = "";
  #afterCr = false; // an LF that comes now belongs to it
  #event = "";
  #data = [];
  #id = null; // this event's own
  #lastEventId = "";

  constructor(callbacks) {
    this.#callbacks = callbacks;
  }

  /** Takes the next bytes of a response. */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const [, name, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line);
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.#callbacks.retry?.(Number(value));
  }

  #dispatch() {
    // The standard's id goes on to events without one; `id` is null for those, so that they are never taken for repeats.
    this.#lastEventId = this.#id ?? this.#lastEventId;
    const about = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id || null };
    const hasData = this.#data.length > 0;
    this.#event = "";
    this.#data = [];
    this.#id = null;
    if (hasData) this.#callbacks.event({ ...about, lastEventId: this.#lastEventId });
  }
}

/** One GET for JSON. `status` is 0 where there was no answer. Never rejects. */
async function ask(address, request, timeout, asking) {
  const timer = setTimeout(() => asking.abort(), timeout * 1000);
  try {
    const response = await fetch(address, { ...request, signal: asking.signal });
    const reply = await replyOf(response);
    // A server that cannot answer with JSON answers with the stream: proof that the stream works.
    if (response.status === 200 && typeOf(response).startsWith("text/event-stream")) reply.streams = true;
    if (!reply.body) asking.abort();
    return reply;
  } catch {
    return { status: 0, reason: "unreachable", retryAfter: null };
  } finally {
    clearTimeout(timer);
  }
}

async function replyOf(response) {
  const { status } = response;
  const reason = status === 404 ? "not-found" : "busy";
  const reply = { status, reason, retryAfter: Number(response.headers.get("Retry-After")) || null };
  if (!typeOf(response).startsWith("application/json")) return reply;
  const body = await response.json();
  return status === 200 ? { ...reply, body: pageOf(body) } : { ...reply, error: body.error, detail: body.detail };
}

/** The JSON form, of one stream or of several, as one: what was missed, then snapshots and events in their order. */
function pageOf({ last_id: lastId, ended, more = false, events, streams, ...one }) {
  const parts = streams ?? [one];
  const gapOf = ({ gap, stream }) => ({ skipped: gap < 0 ? null : gap, to: lastId, ...(streams && { stream }) });
  const gaps = parts.filter(({ gap }) => gap !== null).map(gapOf);
  const snapshots = parts.map(({ snapshot }) => snapshot).filter(Boolean);
  return { lastId, ended, more, gaps, events: [...snapshots, ...events] };
}

function typeOf(response) {
  return response.headers.get("Content-Type") ?? "";
}

/** Whether the server at `url` reads several streams over one connection. Asked once for each server. */
async function offersSeveral(url, { fetchOptions, openTimeout }) {
  const { origin } = new URL(url);
  if (!offers.has(origin)) {
    const headers = new Headers(fetchOptions?.headers);
    headers.set("Accept", "application/json");
    const { status, body, error } = await ask(
      url,
      { cache: "no-store", ...fetchOptions, headers },
      openTimeout,
      new AbortController(),
    );
    if (status === 0) return false;
    // A server that knows this refuses streams, not the path.
    offers.set(origin, Boolean(body) || (typeof error === "string" && error !== "not_found"));
  }
  return offers.get(origin);
}

const offers = new Map();

/**
 * Why a request has no answer yet. Browsers keep connections that carry cookies apart from those that do not, six of
 * each: where one kind gets an answer and the other does not, the server is there, and the connections are not.
 */
async function whySlow(url, credentials) {
  const own = credentialed(url, credentials);
  const [same, other] = await Promise.all([answers(url, own), answers(url, own === "omit" ? "include" : "omit")]);
  if (same) return "server";
  return other ? "connections" : "unreachable";
}

/** Whether anything at all comes back, a 404 and an answer that is not for this page included. */
async function answers(url, credentials) {
  const aborter = new AbortController();
  const timer = setTimeout(() => aborter.abort(), LOOK_TIMEOUT * 1000);
  const request = { method: "HEAD", mode: "no-cors", cache: "no-store", credentials, signal: aborter.signal };
  try {
    await fetch(new URL("/sse-fast.js", url), request);
    return true;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
  }
}

/** What `credentials` amount to for this server. */
function credentialed(url, credentials = "same-origin") {
  const isOwn = new URL(url).origin === globalThis.location?.origin;
  return credentials === "include" || (isOwn && credentials === "same-origin") ? "include" : "omit";
}

/** Whether one connection carries many requests: never without TLS in a browser; with it unless HTTP/1.1 was seen. */
function multiplexes(origin) {
  if (!globalThis.document && !globalThis.SharedWorkerGlobalScope) return true; // Not in a browser: no limit.
  if (origin.startsWith("http:")) return false;
  const entries = ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type));
  return !entries.some(({ name, nextHopProtocol }) => nextHopProtocol === "http/1.1" && name.startsWith(`${origin}/`));
}

// ---- small things ----

/** One timer for each purpose; a new one replaces the old. */
class Timers {
  #timers = new Map();

  after(purpose, seconds, action) {
    this.cancel(purpose);
    const act = () => {
      this.#timers.delete(purpose);
      action();
    };
    this.#timers.set(purpose, setTimeout(act, Math.min(seconds, MAX_DELAY) * 1000));
  }

  has(purpose) {
    return this.#timers.has(purpose);
  }

  cancel(...purposes) {
    for (const purpose of purposes) {
      clearTimeout(this.#timers.get(purpose));
      this.#timers.delete(purpose);
    }
  }

  cancelAll() {
    this.cancel(...this.#timers.keys());
  }
}

function isOver({ state }) {
  return state === "ended" || state === "gave-up" || state === "closed";
}

function isPost(fetchOptions) {
  return (fetchOptions?.method ?? "GET").toUpperCase() === "POST";
}

function absolute(url) {
  return new URL(url, globalThis.location?.href).href;
}

function isJson(text) {
  return typeof text === "string" && text.startsWith("{");
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

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function now() {
  return Date.now() / 1000;
}

function online() {
  return globalThis.navigator?.onLine !== false;
}

// This file is also the worker of all tabs. Its name tells that it was started as one.
if (globalThis.SharedWorkerGlobalScope && globalThis.name === HUB) {
  holdLock(HUB, new AbortController().signal).then(() => new Hub());
}
