/**
 * The workflow's page: enqueues a question, follows its graph, shows what it was given and in which order.
 *
 * Owns: the decision set that the location's hash names, and the events of its stream. The plan comes first, however
 * late the page is; each later event changes one node. Waiting, resuming and asking again are `connect`'s.
 */

import { connect } from "/sse-fast.js";
import { ask, connectionIn, textElement } from "/demos/site.js";
import { installBreaks } from "./breaks.js";
import { Graph } from "./graph.js";
import { Order } from "./order.js";

const KINDS = { running: "active", done: "good", failed: "bad" };
const SILENCE_CHECKED = 5; // Seconds between looks for streams that have fallen silent.
const FOLLOWED = 120; // Seconds after which a page stops asking for a row that never came.

const element = (id) => document.getElementById(id);
const graph = new Graph(element("graph"), element("edges"));
const showConnection = connectionIn(element("connection"));

/** What is shown now; the panel that breaks things looks here. */
const shown = { id: "", reading: null, order: new Order(), running: false, askedAt: 0, onEvent: null, onState: null };
let waited = null; // the timer that gives up on a row that never comes

// ---- asking ----

/** Enqueues the question in the form and follows it. Returns its id, or "" where it was refused. */
async function submit(options = {}) {
  element("message-error").textContent = "";
  element("message").removeAttribute("aria-invalid");
  try {
    const { decision_set_id: id } = await ask("/api/chat/async", { message: element("message").value, ...options });
    location.hash = id;
    return id;
  } catch (error) {
    const words = error.status ? error.message : "The server cannot be reached; nothing was asked.";
    element("message-error").textContent = words;
    if (words.startsWith("message:")) {
      element("message").setAttribute("aria-invalid", "true");
      element("message").focus();
    }
    return "";
  }
}

// ---- following ----

/** Shows the decision set that the location names. */
function show() {
  shown.reading?.close();
  clearTimeout(waited);
  const id = decodeURIComponent(location.hash.slice(1));
  Object.assign(shown, { id, reading: null, order: new Order(), running: false, askedAt: performance.now() });
  graph.clear();
  element("drawing").hidden = element("answer").hidden = true;
  element("events").replaceChildren();
  element("no-events").hidden = false;
  element("notices").replaceChildren();
  element("order").textContent = element("question").textContent = "";
  element("empty").hidden = id !== "";
  showStatus("");
  markCurrent();
  shown.onState?.({ state: "none" });
  if (!id) return showConnection({ state: "none", message: "Nothing asked yet" });
  waited = setTimeout(() => neverCame(id), FOLLOWED * 1000);
  follow(id);
}

/** Reads the stream; `lastEventId` resumes after that event. */
function follow(id, lastEventId = null) {
  const events = { plan: showPlan, "node-start": changeNode, "node-end": changeNode, "node-error": changeNode, end };
  const handlers = Object.entries(events).map(([name, handle]) => [name, (data, about) => received(handle, data, about)]);
  shown.reading = connect(streamUrl(id), {
    on: { ...Object.fromEntries(handlers), flood: (data, about) => received(null, data, about) },
    onState: (state) => {
      const waits = state.state === "connecting" && lastEventId === null;
      showConnection(waits ? { ...state, message: "Waiting for the row …" } : state);
      shown.onState?.(state);
    },
    onGap: showGap,
    deadline: 0,
    lastEventId,
  });
}

function received(handle, data, about) {
  shown.order.take(about.id);
  element("order").textContent = shown.order.words;
  handle?.(data, about);
  shown.onEvent?.(about.event);
}

/** The first event of every reader; after a gap or a restart once more. It stands for all that came before. */
function showPlan(plan) {
  clearTimeout(waited);
  element("empty").hidden = true;
  element("drawing").hidden = false;
  element("question").textContent = plan.message;
  shown.running = plan.status === "running";
  graph.show(plan);
  showStatus(plan.status);
  showAnswer(plan);
  const seconds = ((performance.now() - shown.askedAt) / 1000).toFixed(2);
  const news = graph.done ? `${graph.done} of ${graph.size} nodes done` : `${graph.size} nodes`;
  log("plan", element("events").childElementCount ? news : `${news}, ${seconds} s after this page asked`);
  if (shown.running) announce(`The plan is here: ${news}.`);
  refreshPast();
}

function changeNode({ node, ...values }, { event }) {
  graph.change(node, values);
  const kind = { "node-end": "good", "node-error": "bad" }[event];
  const words = values.error ? `${graph.titleOf(node)}: ${values.error}` : graph.titleOf(node);
  log(event, words, kind, values.ended_at ?? values.started_at);
  if (kind === "bad") announce(`${words}. What waits for it does not run.`);
}

/** The terminal event has the whole plan, as it remains. */
function end(plan) {
  clearTimeout(waited);
  shown.running = false;
  graph.show(plan);
  showStatus(plan.status);
  showAnswer(plan);
  const took = `${(plan.ended_at - plan.created_at).toFixed(1)} s after the row`;
  log("end", `${plan.status}, ${took}`, KINDS[plan.status], plan.ended_at);
  announce(plan.status === "done" ? `Answered. ${plan.nodes.reply?.output ?? ""}` : `Failed, ${took}.`);
  refreshPast();
}

function showGap({ skipped }) {
  // Another server's stream counts anew; the plan that follows stands for all that may have been missed.
  shown.order.restart();
  log("gap", skipped === null ? "another server: the plan follows" : `${skipped} events missed: the plan follows`, "warn");
}

function neverCame(id) {
  shown.reading?.close();
  showConnection({ state: "gave-up", message: "Gave up" });
  notice(`No row for ${id} came within ${FOLLOWED / 60} minutes. Reload to ask again.`, "bad");
}

// ---- what is shown ----

function showStatus(status) {
  element("status").textContent = status;
  element("status").dataset.kind = KINDS[status] ?? "";
  shown.onEvent?.("status");
}

function showAnswer({ status, nodes }) {
  element("answer").hidden = status !== "done";
  element("answer").textContent = nodes.reply?.output ?? "";
}

function log(event, words, kind = "", at = Date.now() / 1000) {
  element("no-events").hidden = true;
  const item = document.createElement("li");
  item.dataset.event = event;
  if (kind) item.dataset.kind = kind;
  const clock = new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  item.append(textElement("span", event, "name"), textElement("span", clock, "clock"), textElement("span", words, "message"));
  element("events").append(item);
  const box = element("events").parentElement;
  box.scrollTop = box.scrollHeight;
}

function announce(text) {
  element("announcer").textContent = text;
}

function notice(text, kind) {
  const made = textElement("p", text, "notice");
  made.dataset.kind = kind;
  element("notices").replaceChildren(made);
}

let listed = "[]"; // What the list shows, as it came.

async function refreshPast() {
  const plans = await ask("/api/chat").catch(() => []);
  // What has not changed is left alone, and with it the keyboard's place in it.
  if (plans.length && listed !== JSON.stringify(plans)) {
    listed = JSON.stringify(plans);
    element("past").replaceChildren(...plans.map(pastRow));
  }
  markCurrent();
}

/** A stream that has fallen silent sends nothing that says so: while something runs, the list is asked for. */
function watchForSilence() {
  const running = JSON.parse(listed).some(({ status }) => status === "running");
  if (running && document.visibilityState === "visible") refreshPast();
}

function pastRow(plan) {
  const line = document.createElement("tr");
  line.dataset.id = plan.decision_set_id;
  const link = textElement("a", plan.message);
  link.href = `#${plan.decision_set_id}`;
  const cells = Array.from({ length: 4 }, () => document.createElement("td"));
  cells[0].append(link);
  cells[1].append(textElement("span", plan.stalled ? "stalled" : plan.status, "badge"));
  cells[1].firstChild.dataset.kind = plan.stalled ? "warn" : (KINDS[plan.status] ?? "");
  cells[2].textContent = plan.ended_at ? `${(plan.ended_at - plan.created_at).toFixed(1)} s` : "–";
  cells[2].className = "number";
  cells[3].textContent = new Date(plan.created_at * 1000).toLocaleTimeString([], { timeStyle: "short" });
  line.append(...cells);
  return line;
}

function markCurrent() {
  for (const line of element("past").rows) {
    if (line.dataset.id && line.dataset.id === shown.id) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  }
}

const streamUrl = (id) => `/api/streams/${encodeURIComponent(id)}`;

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
window.addEventListener("hashchange", show);
installBreaks({ shown, submit, follow, streamUrl, showConnection });
refreshPast();
setInterval(watchForSilence, SILENCE_CHECKED * 1000);
show();
