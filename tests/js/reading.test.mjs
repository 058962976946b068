/**
 * sse-fast.js against servers that say exactly what a case needs, under node: what a real server says only rarely, or
 * does not say yet.
 *
 * Owns: tickets, refusals, POST, several streams over one connection, and what must never be asked twice.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../../python/sse_fast/static/sse-fast.js";
import { json, nothing, serve, stream, until, wantsJson } from "./server.mjs";

/** A reading, with what it told. */
function follow(t, url, options = {}) {
  const about = { seen: [], states: [], gaps: [] };
  const on = { "*": (data, { event, stream: name }) => about.seen.push(name ? [name, event, data] : [event, data]) };
  const callbacks = { on, onState: (state) => about.states.push(state), onGap: (gap) => about.gaps.push(gap) };
  about.reading = connect(url, { ...callbacks, ...options });
  t.after(() => about.reading.close());
  return about;
}

const ways = ({ states }) => states.map(({ state, reason }) => (reason ? `${state}: ${reason}` : state));

test("the end is asked for once, and nothing after it", async (t) => {
  const server = await serve(t, (request, response) => {
    if (wantsJson(request)) return json(response, nothing({ last_id: "e-1", ended: true }));
    stream(response, "event: FINISHED\nid: e-1\ndata: 1\n\n").end();
  });
  const about = follow(t, `${server.url}/s`);
  const state = await about.reading.closed;
  assert.deepEqual([state.state, state.event], ["ended", "FINISHED"]);
  assert.deepEqual(ways(about), ["connecting", "live", "ended"]);
  assert.deepEqual(server.requests.map(({ url }) => url), ["/s", "/s?last_event_id=e-1"]);
});

test("an event that came between the last one and the end is handed over by the question for the end", async (t) => {
  const server = await serve(t, (request, response) => {
    const events = [{ id: "e-2", event: "FINISHED", data: "2" }];
    if (wantsJson(request)) return json(response, nothing({ last_id: "e-2", ended: true, events }));
    stream(response, "id: e-1\ndata: 1\n\n").end();
  });
  const about = follow(t, `${server.url}/s`);
  await about.reading.closed;
  assert.deepEqual(about.seen, [["message", 1], ["FINISHED", 2]]);
});

test("a connection that is lost is told as lost, and resumed after the last event", async (t) => {
  const server = await serve(t, (request, response, turn) => {
    if (wantsJson(request)) return json(response, nothing({ last_id: "e-1" }));
    if (turn === 1) return stream(response, "retry: 300\nid: e-1\ndata: 1\n\n").end();
    stream(response, "id: e-2\ndata: 2\n\n");
  });
  const about = follow(t, `${server.url}/s`);
  await until(() => about.seen.length === 2);
  assert.deepEqual(ways(about), ["connecting", "live", "waiting: dropped", "live"]);
  assert.equal(server.requests.at(-1).query.get("last_event_id"), "e-1");
});

test("204 is an end", async (t) => {
  const server = await serve(t, (_request, response) => response.writeHead(204).end());
  const about = follow(t, `${server.url}/s`, { lastEventId: "e-9" });
  const state = await about.reading.closed;
  assert.deepEqual([state.state, state.event], ["ended", null]);
  assert.deepEqual(server.requests.map(({ url }) => url), ["/s?last_event_id=e-9"]);
});

test("a stream that only says when to come back is asked for again then", async (t) => {
  const server = await serve(t, (request, response, turn) => {
    if (turn < 3) return stream(response, "retry: 30\n\n").end();
    stream(response, "data: 1\n\n");
  });
  const about = follow(t, `${server.url}/s`);
  await until(() => about.seen.length === 1);
  assert.equal(server.requests.length, 3);
});

test("a ticket is renewed after its end, by a new URL that goes on where the stream was", async (t) => {
  const server = await serve(t, (request, response) => {
    if (request.query.get("ticket") === "ticket-1") {
      stream(response, 'id: e-1\ndata: 1\n\nevent: auth\ndata: {"reason":"expired"}\n\n').end();
    } else stream(response, "id: e-2\ndata: 2\n\n");
  });
  let tickets = 0;
  const about = follow(t, `${server.url}/s`, { token: async () => `ticket-${++tickets}` });
  await until(() => about.seen.length === 2);
  assert.deepEqual(about.seen, [["message", 1], ["message", 2]], "`auth` is for the module, not for the page");
  assert.deepEqual(server.requests.map(({ url }) => url), ["/s?ticket=ticket-1", "/s?last_event_id=e-1&ticket=ticket-2"]);
  assert.ok(!ways(about).some((way) => way.startsWith("waiting")), ways(about).join());
});

test("a ticket that is refused is renewed once; a second refusal is the server's word", async (t) => {
  const server = await serve(t, (_request, response) => json(response, { error: "unauthorized", detail: "expired" }, 401));
  let tickets = 0;
  const about = follow(t, `${server.url}/s`, { token: async () => `ticket-${++tickets}` });
  const state = await about.reading.closed;
  assert.deepEqual([state.state, state.reason, state.status, state.detail], ["gave-up", "refused", 401, "expired"]);
  assert.equal(tickets, 2);
});

test("where no ticket can be had it says so and tries again; where there is none it gives up", async (t) => {
  const server = await serve(t, (_request, response) => stream(response, "data: 1\n\n"));
  const about = follow(t, `${server.url}/s`, { token: async () => Promise.reject(new Error("signed out")) });
  await until(() => about.states.at(-1).reason === "ticket");
  assert.match(about.states.at(-1).message, /no ticket could be had/);
  const without = follow(t, `${server.url}/s`, { token: () => null });
  assert.deepEqual((await without.reading.closed).reason, "refused");
  assert.equal(server.requests.length, 0);
});

test("without a ticket function an expired right is not called a lost connection for long: it is a refusal", async (t) => {
  const server = await serve(t, (request, response, turn) => {
    if (turn === 1) return stream(response, "retry: 10\nevent: auth\ndata: {}\n\n").end();
    json(response, { error: "unauthorized", detail: "expired" }, 401);
  });
  const about = follow(t, `${server.url}/s`);
  assert.equal((await about.reading.closed).reason, "refused");
});

test("a poll goes on where the answer says, also where events have no ids", async (t) => {
  const server = await serve(t, (request, response) => {
    if (!wantsJson(request)) return json(response, {}, 500);
    const after = request.query.get("last_event_id");
    const events = after === null ? [{ id: null, event: "message", data: "1" }] : [];
    json(response, nothing({ last_id: "e-1", events }));
  });
  const about = follow(t, `${server.url}/s`, { pollEvery: 0.02 });
  await until(() => server.requests.length > 8);
  assert.deepEqual(about.seen, [["message", 1]]);
  assert.equal(about.states.at(-1).message, "Live by polling");
});

test("a check hands over nothing that the stream may have brought already", async (t) => {
  const server = await serve(t, (request, response) => {
    if (!wantsJson(request)) return stream(response, "data: 1\n\n");
    json(response, nothing({ last_id: "e-1", events: [{ id: null, event: "message", data: "1" }] }));
  });
  const about = follow(t, `${server.url}/s`, { idleTimeout: 0.02 });
  await until(() => server.requests.filter(wantsJson).length > 5);
  assert.deepEqual(about.seen, [["message", 1]]);
  assert.equal(server.requests.length - server.requests.filter(wantsJson).length, 1, "it was reconnected");
});

test("a check finds that a stream was silent from its beginning, where all there is to miss is a snapshot", async (t) => {
  const snapshot = { id: "7", event: "state", data: "7" };
  const server = await serve(t, (request, response) => {
    if (wantsJson(request)) json(response, nothing({ last_id: "7", snapshot }));
    else stream(response, request.query.has("last_event_id") ? ": 1\n\n" : "");
  });
  const about = follow(t, `${server.url}/s`, { idleTimeout: 0.02 });
  await until(() => server.requests.filter((request) => !wantsJson(request)).length === 2, "a second connection");
  assert.equal(server.requests.at(-1).query.get("last_event_id"), "7");
  assert.deepEqual(about.seen, [["state", 7]]);
});

test("an attempt under way is not begun a second time by what wakes a reading up, one that waits is begun at once", async (t) => {
  const network = new EventTarget();
  globalThis.addEventListener = (name, listener, options) => network.addEventListener(name, listener, options);
  t.after(() => delete globalThis.addEventListener);
  const held = [];
  const server = await serve(t, (request, response, turn) => {
    if (turn === 1) stream(response, "id: 1\ndata: 1\n\nretry: 600000\n\n").end();
    else if (wantsJson(request)) json(response, nothing({ last_id: "1" }));
    else held.push(response);
  });
  const about = follow(t, `${server.url}/s`);
  await until(() => ways(about).at(-1) === "waiting: dropped");
  network.dispatchEvent(new Event("online"));
  await until(() => held.length === 1, "a second connection without ten minutes of waiting");
  network.dispatchEvent(new Event("online"));
  stream(held[0], "id: 2\ndata: 2\n\n");
  await until(() => about.seen.length === 2);
  assert.equal(held.length, 1);
  assert.deepEqual(ways(about), ["connecting", "live", "waiting: dropped", "live"]);
});

test("503 is waited for as long as it says", async (t) => {
  const server = await serve(t, (request, response, turn) => {
    if (turn <= 2) return json(response, { error: "busy" }, 503, { "Retry-After": "1" });
    if (wantsJson(request)) return json(response, nothing());
    stream(response, "data: 1\n\n");
  });
  const about = follow(t, `${server.url}/s`, { pollEvery: 0.01 });
  const began = Date.now();
  await until(() => about.seen.length === 1);
  assert.ok(Date.now() - began >= 1000);
});

test("a POST that was not begun is sent again, one that was is not", async (t) => {
  const server = await serve(t, (request, response, turn) => {
    if (turn === 1) return json(response, { error: "busy" }, 503, { "Retry-After": "0.02" });
    stream(response, "data: 1\n\n");
    setTimeout(() => response.destroy(), 50);
  });
  const about = follow(t, `${server.url}/s`, { fetchOptions: { method: "post", body: "do" } });
  const state = await about.reading.closed;
  assert.deepEqual([state.state, state.reason], ["gave-up", "cut-off"]);
  assert.deepEqual(server.requests.map(({ method, text }) => `${method} ${text}`), ["POST do", "POST do"]);
  assert.deepEqual(about.seen, [["message", 1]]);
});

test("a POST goes on by a header, not by its URL", async (t) => {
  const server = await serve(t, (request, response, turn) => {
    if (turn > 1) return stream(response, "id: e-2\ndata: 2\n\n").end();
    stream(response, "retry: 10\nid: e-1\ndata: 1\n\n");
    setTimeout(() => response.destroy(), 50);
  });
  const about = follow(t, `${server.url}/s?x=1`, { fetchOptions: { method: "POST", body: "do" } });
  assert.equal((await about.reading.closed).state, "ended");
  assert.deepEqual(about.seen, [["message", 1], ["message", 2]]);
  assert.deepEqual(server.requests.map(({ url }) => url), ["/s?x=1", "/s?x=1"]);
  assert.deepEqual(server.requests.map(({ headers }) => headers["last-event-id"]), [undefined, "e-1"]);
});

test("several streams come over one connection where the server offers that", async (t) => {
  const server = await serve(t, (request, response) => {
    if (wantsJson(request)) return json(response, nothing());
    const connection = stream(response, 'event: tick\nid: 0_aaaaaaa-1~bbbbbbb-0\ndata: "a"\n\n');
    connection.write('event: gap\ndata: {"skipped":3,"from":null,"to":null,"stream":"b/c"}\n\n');
    connection.write('event: end\nid: 1_aaaaaaa-1~bbbbbbb-4\ndata: "b ends, a goes on"\n\n');
    connection.write("id: 0_aaaaaaa-2~bbbbbbb-4\ndata: 2\n\n");
  });
  globalThis.location = { href: `${server.url}/`, origin: server.url };
  t.after(() => delete globalThis.location);
  const about = follow(t, ["a", "b/c"], { lastEventId: "0_aaaaaaa-0~bbbbbbb-0" });
  await until(() => about.seen.length === 3);
  assert.deepEqual(about.seen, [["a", "tick", "a"], ["b/c", "end", "b ends, a goes on"], ["a", "message", 2]]);
  assert.deepEqual(about.gaps, [{ skipped: 3, from: "0_aaaaaaa-1~bbbbbbb-0", to: null, stream: "b/c" }]);
  assert.equal(about.reading.lastEventId, "0_aaaaaaa-2~bbbbbbb-4");
  const streams = server.requests.filter((request) => !wantsJson(request));
  const sent = new URL(streams[0].url, server.url).searchParams;
  assert.deepEqual([sent.getAll("name"), sent.get("last_event_id")], [["a", "b/c"], "0_aaaaaaa-0~bbbbbbb-0"]);
  assert.equal(streams.length, 1);
});

test("several streams are polled where no stream is to be had, and nothing is handled twice in another order", async (t) => {
  const event = (stream, id, data) => ({ stream, id, event: "message", data });
  const snapshot = { stream: "b", id: "1_aaaaaaa-1~bbbbbbb-3", event: "snapshot", data: '"b"' };
  const about = [
    { stream: "a", known: true, ended: false, gap: null, snapshot: null },
    { stream: "b", known: true, ended: false, gap: 3, snapshot },
  ];
  const events = [event("a", "0_aaaaaaa-2~bbbbbbb-3", "2"), event("b", "1_aaaaaaa-2~bbbbbbb-4", "4")];
  let streams = 0;
  const server = await serve(t, (request, response) => {
    if (wantsJson(request)) {
      const asked = request.query.get("last_event_id");
      const page = { streams: about, last_id: "0_aaaaaaa-2~bbbbbbb-4", ended: false, more: false, events };
      const none = { ...page, streams: about.map((one) => ({ ...one, gap: null, snapshot: null })), events: [] };
      return json(response, asked === "0_aaaaaaa-1~-" ? page : none);
    }
    streams += 1;
    if (streams === 1) return stream(response, "id: 0_aaaaaaa-1~-\ndata: 1\n\n").end();
    if (streams === 2) return json(response, { error: "no", detail: "" }, 500);
    // The same events, the other stream's first: their ids are others.
    const connection = stream(response, "id: 1_aaaaaaa-1~bbbbbbb-4\ndata: 4\n\n");
    connection.write("id: 0_aaaaaaa-2~bbbbbbb-4\ndata: 2\n\nid: 1_aaaaaaa-2~bbbbbbb-5\ndata: 5\n\n");
  });
  globalThis.location = { href: `${server.url}/`, origin: server.url };
  t.after(() => delete globalThis.location);
  const reading = follow(t, ["a", "b"], { pollEvery: 0.2 });
  await until(() => reading.seen.length >= 5);
  assert.deepEqual(reading.seen, [
    ["a", "message", 1],
    ["b", "snapshot", "b"],
    ["a", "message", 2],
    ["b", "message", 4],
    ["b", "message", 5],
  ]);
  assert.deepEqual(reading.gaps.map(({ skipped, stream: name }) => [name, skipped]), [["b", 3]]);
});

test("several streams come over one connection each where the server knows no other way", async (t) => {
  const server = await serve(t, (request, response) => {
    if (request.url.startsWith("/streams?")) return json(response, { error: "not_found", detail: "" }, 404);
    stream(response, `id: e-1\ndata: "${request.url}"\n\n`);
  });
  globalThis.location = { href: `${server.url}/`, origin: server.url };
  t.after(() => delete globalThis.location);
  const about = follow(t, ["a", "b/c"]);
  await until(() => about.seen.length === 2);
  assert.deepEqual(about.seen.sort(), [["a", "message", "/streams/a"], ["b/c", "message", "/streams/b/c"]]);
  assert.equal(about.reading.lastEventId, '{"a":"e-1","b/c":"e-1"}');
  const again = follow(t, ["a", "b/c"], { lastEventId: about.reading.lastEventId });
  await until(() => server.requests.length === 5 && again.states.at(-1).state === "live");
  assert.deepEqual(again.seen, [["a", "message", "/streams/a?last_event_id=e-1"], ["b/c", "message", "/streams/b/c?last_event_id=e-1"]]);
  about.reading.close();
  assert.equal((await about.reading.closed).state, "closed");
});

test("what cannot be meant is refused at the call", () => {
  assert.throws(() => connect("http://x/", { onEvnt: 1 }), /unknown option onEvnt/);
  assert.throws(() => connect("//["), /Invalid URL/);
  assert.throws(() => connect([]), /at least one/);
  assert.throws(() => connect(["a", "a"]), /each a different one/);
  assert.throws(() => connect(["a"], { fetchOptions: { method: "POST" } }), /cannot be read by POST/);
});

test("a handler that closes the reading hears nothing more, and one that throws stops nothing", async (t) => {
  const server = await serve(t, (_request, response) => stream(response, "id: e-1\ndata: 1\n\nid: e-2\ndata: 2\n\n"));
  const seen = [];
  const reading = connect(`${server.url}/s`, { on: { message: (data) => (seen.push(data), reading.close()) } });
  await reading.closed;
  assert.deepEqual(seen, [1]);
});
