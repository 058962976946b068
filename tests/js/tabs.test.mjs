/**
 * A tab and its hub, message by message: what comes in an order that a browser brings about only now and then.
 *
 * Owns: a page as far as sse-fast.js sees one, and a hub that says what a case needs. Changes together with the
 * messages in sse-fast.js.
 */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { connect } from "../../python/sse_fast/static/sse-fast.js";
import { json, nothing, serve, stream, until, wantsJson } from "./server.mjs";

const leaving = [];
const asked = []; // for the lock of the hub
globalThis.document = { visibilityState: "visible", addEventListener() {} };
globalThis.addEventListener = (name, listener) => name === "pagehide" && leaving.push(listener);
const locks = {
  request(name, options, held) {
    if (name.includes("/tab/")) return held();
    asked.push(options);
    return new Promise(() => {});
  },
};
Object.defineProperty(globalThis, "navigator", { value: { locks, onLine: true }, configurable: true });

beforeEach(() => {
  asked.length = 0;
  document.visibilityState = "visible";
});

let hubs = 0;

/** A hub as the tab hears it. */
function hub(t) {
  const channel = new BroadcastChannel("sse-fast/1");
  const heard = [];
  const about = { id: `hub-${++hubs}`, since: hubs };
  channel.onmessage = ({ data }) => {
    if (data.who) channel.postMessage({ hub: about });
    heard.push(data);
  };
  t.after(() => channel.close());
  return {
    heard,
    announce: () => channel.postMessage({ hub: about }),
    post: (message) => channel.postMessage({ from: about.id, isLive: true, isHidden: false, ...message }),
    joins: () => heard.filter(({ join }) => join),
  };
}

const LIVE = { state: "live", message: "Live" };
const event = (n, name = "message") => ({ event: { event: name, id: `epoch-${n}`, data: String(n) } });
const told = (n, name = "message") => ({ event: name, id: `epoch-${n}`, data: String(n) });

/** A tab that has asked its hub to join; `hold` keeps back what the server answers to the question for what it lacks. */
async function tab(t, options = {}) {
  const answers = [];
  const server = await serve(t, (request, response) => {
    if (wantsJson(request)) answers.push((about) => json(response, nothing(about)));
    else stream(response, "data: alone\n\n");
  });
  globalThis.location = { href: `${server.url}/`, origin: server.url };
  const front = hub(t);
  const about = { hub: front, server, answers, seen: [], gaps: [], states: [] };
  about.reading = connect("/streams/s", {
    on: { "*": (data, { event: name }) => about.seen.push(name === "message" ? data : [name, data]) },
    onGap: ({ skipped }) => about.gaps.push(skipped),
    onState: ({ state, reason }) => about.states.push(reason ? `${state}: ${reason}` : state),
    ...options,
  });
  t.after(() => {
    about.reading.close();
    for (const leave of leaving.splice(0)) leave();
  });
  await until(() => front.joins().length === 1);
  const { join, key } = front.joins()[0];
  about.joined = (message) => front.post({ to: join, joined: true, fresh: false, state: LIVE, ...message });
  about.news = (...items) => front.post({ key, items, aliveAt: 1 });
  about.answer = async (reply) => {
    await until(() => answers.length > 0, "a question for what it lacks");
    answers.shift()(reply);
  };
  return about;
}

test("the first tab asks for nothing: its hub begins where it is", async (t) => {
  const { hub: front, joined, news, seen, states, server } = await tab(t, { lastEventId: "epoch-3" });
  assert.equal(front.joins()[0].lastEventId, "epoch-3");
  joined({ fresh: true, at: "epoch-3" });
  news(event(4));
  await until(() => seen.length === 1);
  assert.deepEqual([seen, states, server.requests.length], [[4], ["connecting", "live"], 0]);
});

test("a tab at the very place of its hub asks for nothing", async (t) => {
  const { joined, news, seen, server } = await tab(t, { lastEventId: "epoch-3" });
  joined({ at: "epoch-3" });
  news(event(4));
  await until(() => seen.length === 1);
  assert.equal(server.requests.length, 0);
});

test("what is told while a tab asks waits for the answer, and what the answer covers is not told again", async (t) => {
  const { joined, news, answer, seen, states } = await tab(t);
  joined({ at: "epoch-3" });
  news(event(4), event(5));
  news(event(6));
  await answer({ last_id: "epoch-5", snapshot: told(4, "snapshot"), events: [told(5)] });
  await until(() => seen.length === 3);
  assert.deepEqual(seen, [["snapshot", 4], 5, 6]);
  assert.deepEqual(states, ["connecting", "live"]);
});

test("a server that is ahead of the hub has its events told once, also those that a snapshot covers", async (t) => {
  const { joined, news, answer, seen } = await tab(t);
  joined({ at: "epoch-3" });
  await answer({ last_id: "epoch-6", snapshot: told(5, "snapshot"), events: [told(6)] });
  await until(() => seen.length === 2);
  news(event(4), event(5), event(6), event(7));
  await until(() => seen.length === 3);
  assert.deepEqual(seen, [["snapshot", 5], 6, 7]);
});

test("with ids of the application's own, of which none tells which came first, the place in what was told counts", async (t) => {
  const { joined, news, answer, seen } = await tab(t);
  const own = (id) => ({ event: { event: "message", id, data: JSON.stringify(id) } });
  joined({ at: "z" });
  news(own("c"), own("x"), own("a"));
  await answer({ last_id: "x", snapshot: { event: "snapshot", id: "x", data: "0" } });
  await until(() => seen.length === 2);
  assert.deepEqual(seen, [["snapshot", 0], "a"]);
});

test("a gap that the answer covers is told once, a later one too", async (t) => {
  const { joined, news, answer, seen, gaps } = await tab(t, { lastEventId: "epoch-1" });
  joined({ at: "epoch-3" });
  news({ gap: { skipped: 1, from: "epoch-3", to: "epoch-4" } }, event(5));
  await answer({ last_id: "epoch-5", gap: 3, events: [told(5)] });
  await until(() => seen.length === 1);
  news({ gap: { skipped: 2, from: "epoch-5", to: "epoch-7" } }, event(8));
  await until(() => seen.length === 2);
  assert.deepEqual([seen, gaps], [[5, 8], [3, 2]]);
});

test("an answer in several pieces is asked for to its end", async (t) => {
  const { joined, answer, seen, server } = await tab(t);
  joined({ at: "epoch-3" });
  await answer({ last_id: "epoch-1", more: true, events: [told(1)] });
  await answer({ last_id: "epoch-3", events: [told(2), told(3)] });
  await until(() => seen.length === 3);
  assert.deepEqual(server.requests.map(({ query }) => query.get("last_event_id")), [null, "epoch-1"]);
});

test("a tab that comes as the stream ends gets all of it and its end", async (t) => {
  const { joined, news, answer, seen, reading } = await tab(t);
  joined({ at: "epoch-3" });
  news(event(4), { state: { state: "ended", event: "message", message: "Finished" } });
  await answer({ last_id: "epoch-3", events: [told(3)] });
  assert.equal((await reading.closed).state, "ended");
  assert.deepEqual(seen, [3, 4]);
});

test("events without ids cannot be told apart: such a tab reads for itself", async (t) => {
  const { joined, answer, seen, hub: front } = await tab(t);
  joined({ at: null });
  await answer({ last_id: "epoch-1", events: [{ event: "message", id: null, data: "1" }] });
  await until(() => seen.length === 1);
  assert.deepEqual(seen, ["alone"]);
  await until(() => front.heard.some(({ leave }) => leave === front.joins()[0].join));
});

test("a hub that refuses, or does not answer, leaves the tab to itself", async (t) => {
  const refused = await tab(t);
  refused.hub.post({ to: refused.hub.joins()[0].join, refused: true });
  await until(() => refused.seen.length === 1);
  const silent = await tab(t);
  await until(() => silent.seen.length === 1);
  assert.deepEqual([refused.seen, silent.seen], [["alone"], ["alone"]]);
});

test("a new hub is told where the tab is, and an old one that wakes up is not heard any more", async (t) => {
  const { hub: old, joined, news, seen } = await tab(t);
  joined({ fresh: true, at: null });
  news(event(1), event(2));
  await until(() => seen.length === 2);
  const next = hub(t);
  next.announce();
  await until(() => next.joins().length === 1);
  const { join, key, lastEventId } = next.joins()[0];
  assert.equal(lastEventId, "epoch-2");
  next.post({ to: join, joined: true, fresh: true, at: "epoch-2", state: LIVE });
  old.announce();
  news(event(9));
  next.post({ key, items: [event(3)], aliveAt: 1 });
  await until(() => seen.length === 3);
  assert.deepEqual(seen, [1, 2, 3]);
  assert.equal(next.joins().length, 1);
});

test("a new hub that does not answer leaves the tab to itself, where it is", async (t) => {
  const { joined, news, seen, server } = await tab(t);
  joined({ fresh: true, at: null });
  news(event(1));
  await until(() => seen.length === 1);
  hub(t).announce();
  await until(() => seen.length === 2);
  assert.deepEqual([seen, server.requests[0].url], [[1, "alone"], "/streams/s?last_event_id=epoch-1"]);
});

test("a tab that is looked at takes the place of a hidden hub that is not live, and of no other", async (t) => {
  const { hub: front, joined, states } = await tab(t);
  joined({ fresh: true, at: null });
  const { key } = front.joins()[0];
  const lost = { state: "waiting", reason: "dropped", message: "", attempt: 1, retryAt: 0 };
  const say = (about, reason) => front.post({ key, items: [{ state: { ...lost, reason } }], aliveAt: 1, ...about });
  say({ isHidden: false, isLive: false }, "one");
  say({ isHidden: true, isLive: true }, "two");
  await until(() => states.at(-1) === "waiting: two");
  document.visibilityState = "hidden";
  say({ isHidden: true, isLive: false }, "three");
  await until(() => states.at(-1) === "waiting: three");
  assert.deepEqual(asked.filter(({ steal }) => steal), []);
  document.visibilityState = "visible";
  say({ isHidden: true, isLive: false }, "four");
  await until(() => asked.some(({ steal }) => steal));
});

test("a hub that has not been heard for long is asked for a sign, and its place taken where it gives none", async (t) => {
  const { hub: front, joined, reading } = await tab(t, { idleTimeout: 0.1 });
  joined({ fresh: true, at: null });
  await until(() => front.heard.some(({ wake }) => wake));
  front.post({ to: front.joins()[0].join });
  await until(() => front.heard.filter(({ wake }) => wake).length > 1);
  assert.deepEqual(asked.filter(({ steal }) => steal), []);
  await until(() => asked.some(({ steal }) => steal));
  reading.close();
});
