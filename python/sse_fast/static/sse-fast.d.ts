/**
 * Types of sse-fast.js. All times are seconds; instants are seconds since 1970.
 */

/** One event as the server published it; `data` is its text, unparsed. */
export interface StreamEvent {
  event: string;
  /** null: published without an id, so it can neither be resumed after nor recognised as a repeat. */
  id: string | null;
  data: string;
  /** Which stream it is of, as it was given to `connect`, where several are read. */
  stream?: string | null;
}

/** Called with the event's data: parsed where it is JSON, else the text itself. */
export type Handler = (data: any, event: StreamEvent) => void;

/** Events this reader could not be given. `skipped` is null where even the server cannot know how many. */
export interface Gap {
  skipped: number | null;
  /** The last id before the gap, and the last one within it where the server says so. */
  from: string | null;
  to: string | null;
  /** Which stream it is in, where several are read. */
  stream?: string | null;
}

interface Described {
  /** One English sentence a page can show as it is. */
  message: string;
  since: number;
}

export type State = Described &
  (
    | { state: "connecting" }
    | { state: "live" }
    /**
     * `attempt`: failures in a row. `retryAt` is null where the browser or the network decides.
     * `connections`: the browser's connections to this server are all in use; the server itself answers.
     * `ticket`: the `token` function failed. `paused`: the page was left, and is kept by the browser for its back
     * button; it goes on when it is shown again.
     */
    | {
        state: "waiting";
        reason: "dropped" | "silent" | "offline" | "paused" | "connections" | "ticket";
        attempt: number;
        retryAt: number | null;
      }
    /**
     * `attempt`: polls in a row that failed, too; 0 while polling works. `connections`: five streams of this browser are
     * open already, over HTTP/1.1; the sixth connection is left to the page.
     */
    | {
        state: "polling";
        reason:
          | "refused"
          | "dropped"
          | "no-answer"
          | "silent"
          | "not-open"
          | "not-found"
          | "busy"
          | "unreachable"
          | "connections";
        attempt: number;
        retryAt: number;
      }
    /** The server says that nothing more is to come. `event`: the last event's name; null where there was none. */
    | { state: "ended"; event: string | null }
    | { state: "gave-up"; reason: "deadline" }
    /** It was live, and then three requests in a row were told 404. */
    | { state: "gave-up"; reason: "unknown-stream" }
    /** `status` and `detail` are the server's; without them there was no ticket to ask with. */
    | { state: "gave-up"; reason: "refused"; status?: number; detail?: string }
    /** A POST that broke off and cannot be continued. */
    | { state: "gave-up"; reason: "cut-off" }
    | { state: "closed"; reason: "asked" }
  );

export interface Options {
  /**
   * Event name to handler; "*" gets every event. Snapshots come under their own name ("snapshot" unless the server
   * named it). Heartbeats, gaps and the end of a ticket never come here.
   */
  on?: Record<string, Handler>;
  /** Called with every change, at once with `connecting`, and last with `ended`, `gave-up` or `closed`. */
  onState?: (state: State) => void;
  /** Called before the first event after a gap. Missing events are never passed over in silence by the server. */
  onGap?: (gap: Gap) => void;
  /**
   * Names of events that end the stream. Default `["end"]`. The server's own word ends it in any case; a name here
   * saves the question.
   */
  terminal?: string[];
  /** The name of named heartbeats. Default `"heartbeat"`. */
  heartbeat?: string;
  /** Resume after this id, e.g. one kept from an earlier page. */
  lastEventId?: string | null;
  /** Give up after this long. Default 0: never. */
  deadline?: number;
  /**
   * Without an application event for this long, ask once (a GET for JSON) whether something was missed, and reconnect
   * only if so. Default 60; 0 never.
   */
  idleTimeout?: number;
  /** Time between polls where no stream can be had. Default 3. */
  pollEvery?: number;
  /** How long a stream may take to open, or a poll to answer. Default 20; a POST may take any time. */
  openTimeout?: number;
  /**
   * Headers, credentials and the like for every request. With `method: "POST"` and a `body` the answer to a POST is
   * read: it is neither polled nor checked, and is sent again only with the id of the last event that came, in
   * `Last-Event-ID`, or where the server said 503 or 429: it had not begun. With this the connection is not shared.
   */
  fetchOptions?: RequestInit | null;
  /**
   * Gives the ticket that goes into the URL as `?ticket=`; asked anew when the server ends the connection because it has
   * expired. Falsy: there is none, give up. With this the connection is not shared.
   */
  token?: (() => string | null | undefined | Promise<string | null | undefined>) | null;
  /**
   * Whether all tabs of this origin that read the same URL with the same settings read it over one connection. Default
   * true. Where the browser has no way for that each has its own.
   */
  share?: boolean;
}

export interface Subscriber {
  readonly state: State;
  /** What `lastEventId` takes; for several streams its form is opaque. */
  readonly lastEventId: string | null;
  /** When the server last gave a sign of life, heartbeats included; null before the first. */
  readonly aliveAt: number | null;
  /** Resolves with the final state; never rejects. */
  readonly closed: Promise<State>;
  close(): void;
}

/**
 * Reads the stream at `url` until its end: as a stream, by polling the same URL where there is none, and back to the
 * stream by itself.
 *
 * ```js
 * import { connect } from "/sse-fast.js";
 * connect("/streams/runs/42", {
 *   on: { COMPILING: show, BENCHMARKED: show },
 *   onState: ({ message }) => (indicator.textContent = message),
 * });
 * ```
 *
 * Several names (or URLs) are read over one connection where the server offers that, else over one each; handlers are
 * told the `stream`. The state is then the worst of them.
 */
export function connect(url: string | URL | string[], options?: Options): Subscriber;

export interface ParsedEvent {
  event: string;
  data: string;
  /** This event's own id. */
  id: string | null;
  /** The standard's: this event's id, or that of the last event that had one. */
  lastEventId: string;
}

/** Reads text/event-stream from the bytes of a response, cut anywhere, as the HTML standard defines it. */
export class Parser {
  /** `retry` is told milliseconds, as the wire has them. */
  constructor(callbacks: { event: (event: ParsedEvent) => void; retry?: (milliseconds: number) => void });
  push(bytes: Uint8Array): void;
}
