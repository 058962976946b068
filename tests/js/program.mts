/**
 * A program that uses every name of sse-fast.d.ts. `tsc` reads it; nothing runs it.
 *
 * Owns: what must be accepted, and, below `@ts-expect-error`, what must be refused.
 */

import { connect, Parser } from "../../python/sse_fast/static/sse-fast.js";
import type { Gap, Handler, Options, ParsedEvent, State, StreamEvent, Subscriber } from "../../python/sse_fast/static/sse-fast.js";

const show: Handler = (data, { event, id, stream }: StreamEvent) => console.log(data.anything, event, id?.length, stream);

function words(state: State): string {
  switch (state.state) {
    case "waiting":
      return `${state.reason} ${state.attempt} ${state.retryAt ?? "when the browser likes"}`;
    case "polling":
      return `${state.reason} ${state.retryAt.toFixed()}`;
    case "ended":
      return state.event ?? "nothing";
    case "gave-up":
      return state.reason === "refused" ? `${state.status} ${state.detail}` : state.reason;
    case "closed":
      return state.reason;
    default:
      return `${state.message} since ${state.since}`;
  }
}

const options: Options = {
  on: { "*": show, tick: (data: { n: number }) => data.n + 1 },
  onState: (state) => words(state),
  onGap: ({ skipped, from, to, stream }: Gap) => [skipped, from, to, stream],
  terminal: ["end"],
  heartbeat: "heartbeat",
  lastEventId: null,
  deadline: 900,
  idleTimeout: 60,
  pollEvery: 3,
  openTimeout: 20,
  fetchOptions: { method: "POST", body: "{}", headers: { Authorization: "Bearer x" } },
  token: async () => "ticket",
  share: false,
};

const reading: Subscriber = connect("/streams/s", options);
connect(new URL("https://example.com/streams/s"));
connect(["a", "b"], { token: () => null });
reading.closed.then(words);
const place: string | null = reading.lastEventId;
const alive: number | null = reading.aliveAt;
reading.close();

const parser = new Parser({ event: ({ event, data, id, lastEventId }: ParsedEvent) => [event, data, id, lastEventId, place, alive] });
parser.push(new Uint8Array());

// @ts-expect-error an option that there is not
connect("/s", { onEvnt: 1 });
// @ts-expect-error times are numbers
connect("/s", { deadline: "15m" });
// @ts-expect-error states are read, not set
reading.state = { state: "live", message: "", since: 0 };
// @ts-expect-error there is no such state
if (reading.state.state === "open") console.log();
