/**
 * The approvals page: two cards of one session, its history, an agent, and what can be broken.
 *
 * Owns: which session is shown, and switching: the old connections are closed before the new ones are opened. The
 * streams' care (resuming, polling every 3 s where there is no stream, the health check) is `connect`'s.
 * `?idleTimeout=` and `?pollEvery=` in the page's address change its seconds, to see the check and the polls sooner.
 */

import { ask, restartServer, say, textElement } from "/demos/site.js";
import { connect } from "/sse-fast.js";
import { Card } from "./card.js";

const SESSIONS = ["research", "deploy", "billing"];
const KINDS = ["approval", "clarify"];
const SAMPLES = {
  approval: [
    ["Run this command?", "rm -rf build/ && make release"],
    ["Send this mail to 1,204 customers?", "Subject: Your invoice for November"],
    ["Merge the pull request?", "#224 Decouple SSE prefill keepalive from progress callback"],
    ["Spend 40 € on a GPU for an hour?", ""],
  ],
  clarify: [
    ["Which branch is the release made from?", ["main", "release/2.0", "the last tag"]],
    ["There are two customers named Moreau. Which one is meant?", ["Lyon", "Montréal"]],
    ["Should the report be in English or in French?", ["English", "French", "both"]],
    ["What is the budget for the test?", []],
  ],
};
const address = new URLSearchParams(location.search);
const seconds = (name, usual) => Number(address.get(name) ?? usual);

const element = (id) => document.getElementById(id);
const announcer = textElement("p", "", "hidden-label");
announcer.setAttribute("aria-live", "polite");
element("main").append(announcer);

let session = "";
let readings = [];
let sample = 0;
const cards = Object.fromEntries(
  KINDS.map((kind) => [
    kind,
    new Card(element(kind), {
      answer: (question, answer) => resolve(kind, question.id, answer),
      announce: (text) => (announcer.textContent = text),
    }),
  ]),
);

// ---- the session ----

/** Closes what was open before it opens anything: at no time are there more connections than two. */
function follow(name) {
  for (const reading of readings) reading.close();
  session = name;
  readings = KINDS.map((kind) => {
    cards[kind].clear();
    const show = (state) => (cards[kind].show(state), refreshHistory());
    return connect(`/api/${kind}/stream?session_id=${encodeURIComponent(name)}`, {
      on: { initial: show, [kind]: show },
      onState: cards[kind].onState,
      onGap: ({ skipped }) => cards[kind].note(skipped ? `${skipped} changes were skipped; this is the newest.` : ""),
      deadline: 0,
      idleTimeout: seconds("idleTimeout", 60),
      pollEvery: seconds("pollEvery", 3),
    });
  });
  const known = [...element("sessions").querySelectorAll("input")].map(({ value }) => value);
  showChoices([...new Set([...known, name])]);
  refreshHistory();
}

function showSession() {
  const name = decodeURIComponent(location.hash.slice(1)) || SESSIONS[0];
  if (name !== session) follow(name);
}

function showChoices(names) {
  const labels = names.map((name) => {
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "session", value: name, checked: name === session });
    input.addEventListener("change", () => (location.hash = encodeURIComponent(name)));
    const label = document.createElement("label");
    label.append(input, name);
    return label;
  });
  element("sessions").replaceChildren(element("sessions").querySelector("legend"), ...labels);
}

const submit = (kind, question) => ask(`/api/${kind}/submit`, { session_id: session, ...question });
const resolve = (kind, id, answer) => ask(`/api/${kind}/resolve`, { session_id: session, id, answer });

// ---- the history ----

let refreshing = false;

/** Several changes at once ask for the table once. */
async function refreshHistory() {
  if (refreshing) return;
  refreshing = true;
  await new Promise((resolve) => setTimeout(resolve, 150));
  refreshing = false;
  const asked = session;
  const rows = await ask(`/api/questions?session_id=${encodeURIComponent(asked)}`).catch(() => null);
  if (rows === null || asked !== session) return;
  const nothing = document.createElement("tr");
  nothing.append(Object.assign(textElement("td", "Nothing was asked in this session.", "empty"), { colSpan: 4 }));
  element("history").replaceChildren(...(rows.length ? rows.map(historyRow) : [nothing]));
}

function historyRow({ id, text, answer, submitted_at: submitted, resolved_at: resolved }) {
  const row = document.createElement("tr");
  const answered = textElement("td", answer ?? "waits");
  answered.dataset.kind = { approve: "good", deny: "bad" }[answer] ?? (answer === null ? "warn" : "");
  const after = resolved === null ? "–" : `${(resolved - submitted).toFixed(1)} s`;
  row.append(textElement("td", id, "number"), textElement("td", text), answered, textElement("td", after, "number"));
  return row;
}

// ---- the agent ----

function fillSample() {
  const [text] = SAMPLES[element("kind").value][sample % 4];
  element("text").value = text;
}

async function askOne(event) {
  event.preventDefault();
  const kind = element("kind").value;
  const known = SAMPLES[kind].find(([text]) => text === element("text").value);
  const more = known?.[1]?.length ? { [kind === "approval" ? "detail" : "choices"]: known[1] } : {};
  element("ask-error").textContent = "";
  try {
    await submit(kind, { text: element("text").value, ...more });
    sample += 1;
    fillSample();
  } catch (error) {
    element("ask-error").textContent = error.message;
  }
}

// ---- break it ----

function onClick(id, action) {
  element(id).addEventListener("click", async () => {
    element(id).disabled = true;
    const tell = (text, kind) => say(element(`${id}-said`), text, kind);
    await action(tell).catch((error) => tell(error.message, "bad"));
    element(id).disabled = false;
  });
}

const until = async (condition, limit = 20) => {
  for (const end = performance.now() + limit * 1000; !condition(); await new Promise(requestAnimationFrame)) {
    if (performance.now() > end) throw new Error(`It did not happen within ${limit} s.`);
  }
};

/** Six requests at a time are more than a browser sends at once beside two streams. */
async function burst(count) {
  let next = 0;
  const one = async () => {
    while (next < count) await submit("approval", { text: `Question ${(next += 1)} of a burst`, detail: "x".repeat(200) });
  };
  await Promise.all(Array.from({ length: 4 }, one));
}

onClick("burst", async (tell) => {
  const { count, pending } = cards.approval;
  tell("Asking …");
  const began = performance.now();
  await burst(500);
  await until(() => cards.approval.count === count + 500);
  const kept = pending === null || cards.approval.pending.id === pending.id;
  const took = ((performance.now() - began) / 1000).toFixed(1);
  tell(`500 asked in ${took} s: ${cards.approval.count} wait, and the head is ${kept ? "the one that was first" : "wrong"}.`, kept ? "good" : "bad");
});

onClick("slow", async (tell) => {
  const slow = ask("/api/approvals/slow-reader", { kind: "approval", session_id: session, seconds: 4 });
  tell("It has joined, and does not read …");
  await burst(500);
  const { events, skipped, newest } = await slow;
  const right = newest.pending?.id === cards.approval.pending?.id && newest.pending_count === cards.approval.count;
  tell(`It got ${events} events, was told that ${skipped} were skipped, and shows ${right ? "the head and the count that you see" : "something else"}.`, right ? "good" : "bad");
});

onClick("drop", async (tell) => {
  let dropped = 0;
  for (const kind of KINDS) dropped += (await ask("/api/approvals/drop", { kind, session_id: session })).dropped;
  const began = performance.now();
  tell(`${dropped} connections were ended …`);
  await until(() => readings.some(({ state }) => state.state !== "live"), 5);
  await until(() => readings.every(({ state }) => state.state === "live"));
  tell(`${dropped} connections were ended; this page was back after ${((performance.now() - began) / 1000).toFixed(1)} s.`, "good");
});

onClick("switch", async (tell) => {
  const names = [...element("sessions").querySelectorAll("input")].map(({ value }) => value);
  const home = session;
  for (let turn = 0; turn < 100; turn += 1) {
    follow(names[turn % names.length]);
    // Some switches come before the connections are open, some after.
    await new Promise((resolve) => setTimeout(resolve, turn % 4 ? 0 : 30));
  }
  follow(home);
  await until(() => readings.every(({ state }) => state.state === "live"));
  const counts = await Promise.all(names.flatMap((name) => KINDS.map((kind) => readers(kind, name))));
  const sum = counts.reduce((one, other) => one + other);
  tell(`After 100 switches the three sessions have ${sum} connections; this page has 2 of them.`, sum === 2 ? "good" : "warn");
});

const readers = async (kind, name) => (await ask(`/api/approvals/readers?kind=${kind}&session_id=${encodeURIComponent(name)}`)).subscribers;

onClick("restart", async (tell) => {
  tell("Restarting …");
  const took = await restartServer().catch((error) => {
    throw error.status === 404 ? new Error("Only a visitor on the server’s own computer may restart it.") : error;
  });
  await until(() => readings.every(({ state }) => state.state === "live"), 30);
  tell(`The server was away for ${took.toFixed(1)} s; the page has found every question again.`, "good");
});

onClick("clear", async (tell) => {
  let answered = 0;
  for (const [kind, answer] of [["approval", "deny"], ["clarify", "never mind"]]) {
    while (cards[kind].pending) {
      const { id } = cards[kind].pending;
      await resolve(kind, id, answer);
      answered += 1;
      await until(() => cards[kind].pending?.id !== id);
    }
  }
  tell(`${answered} answered.`, "good");
});

// ---- keys ----

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=radio]), textarea, select")) return;
  if (KINDS.some((kind) => cards[kind].press(event.key))) event.preventDefault();
});

element("ask").addEventListener("submit", askOne);
element("kind").addEventListener("change", fillSample);
window.addEventListener("hashchange", showSession);
showChoices(SESSIONS);
fillSample();
showSession();
ask("/api/sessions").then((known) => showChoices([...new Set([...SESSIONS, ...Object.keys(known), session])]));
