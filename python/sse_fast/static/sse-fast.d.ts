/**
 * Types of sse-fast.js. All times are seconds; instants are seconds since 1970.
 */

/** One event as the server published it; `data` is its text, unparsed. */
export interface StreamEvent {
  event: string;
  /** null: published without an id, so it can neither be resumed after nor recognised as a repeat. */
  id: string | null;
  data: string;
}

/** Called with the event's data: parsed where it is JSON, else the text itself. */
export type Handler = (data: any, event: StreamEvent) => void;

/** Events this reader could not be given. `skipped` is null where even the server cannot know how many. */
export interface Gap {
  skipped: number | null;
  /** The last id before the gap, and the last one within it where the server says so. */
  from: string | null;
  to: string | null;
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
     * `attempt`: failures in a row. `retryAt` is null where the browser or the network decides. `paused`: the page was
     * left, and is kept by the browser for its back button; it goes on when it is shown again.
     */
    | {
        state: "waiting";
        reason: "dropped" | "silent" | "offline" | "paused";
        attempt: number;
        retryAt: number | null;
      }
    /** `attempt`: polls in a row that failed, too; 0 while polling works. */
    | {
        state: "polling";
        reason: "refused" | "dropped" | "no-answer" | "silent" | "not-open" | "not-found" | "busy" | "unreachable";
        attempt: number;
        retryAt: number;
      }
    /** `event`: the terminal event's name; null where it had come before this reading began. */
    | { state: "ended"; event: string | null }
    /** `unknown-stream`: it was live, and then three requests in a row were told 404. */
    | { state: "gave-up"; reason: "deadline" | "unknown-stream" | "refused" }
    | { state: "closed"; reason: "asked" | "nothing-more" }
  );

export interface Options {
  /**
   * Event name to handler; "*" gets every event. Snapshots come under their own name ("snapshot" unless the server
   * named it). Heartbeats and gaps never come here. With "*" the stream is read by fetch, since EventSource cannot
   * report names it was not told.
   */
  on?: Record<string, Handler>;
  /** Called with every change, at once with `connecting`, and last with `ended`, `gave-up` or `closed`. */
  onState?: (state: State) => void;
  /** Called before the first event after a gap. Missing events are never passed over in silence by the server. */
  onGap?: (gap: Gap) => void;
  /** Names of events that end the stream. Default `["end"]`. */
  terminal?: string[];
  /** The name of named heartbeats. Default `"heartbeat"`. */
  heartbeat?: string;
  /** Resume after this id, e.g. one kept from an earlier page. */
  lastEventId?: string | null;
  /** Give up after this long. Default 900; 0 never. */
  deadline?: number;
  /**
   * Without an application event for this long, ask once (a GET for JSON) whether something was missed, and reconnect
   * only if so. Default 60; 0 never.
   */
  idleTimeout?: number;
  /** Time between polls where no stream can be had. Default 3. */
  pollEvery?: number;
  /** How long a stream may take to open, or a poll to answer. Default 20. */
  openTimeout?: number;
  /** Headers, credentials and the like for every request. With it the stream is read by fetch; always by GET. */
  fetchOptions?: RequestInit | null;
}

export interface Subscriber {
  readonly state: State;
  readonly lastEventId: string | null;
  /** When the server last gave a sign of life, heartbeats included; null before the first. */
  readonly aliveAt: number | null;
  /** Resolves with the final state; never rejects. */
  readonly closed: Promise<State>;
  close(): void;
}

/**
 * Reads the stream at `url` until its terminal event: EventSource first, polling the same URL where that fails, and
 * back to the stream by itself.
 *
 * ```js
 * import { connect } from "/sse-fast.js";
 * connect("/streams/runs/42", {
 *   on: { COMPILING: show, BENCHMARKED: show },
 *   onState: ({ message }) => (indicator.textContent = message),
 * });
 * ```
 */
export function connect(url: string | URL, options?: Options): Subscriber;
