/**
 * The prefill page: asks for a completion, shows its phases, its tokens, the heartbeats between, and the client's
 * patience.
 *
 * Owns: what is shown, and what the panel that breaks things asks for. Reading is `Completion`'s. Times follow the
 * server's heartbeat: this client hangs up after two intervals of silence, and a stall takes two and a half.
 */

import { ask, say, textElement } from "/demos/site.js";
import { Completion } from "./completion.js";

const PHASES = ["cold_prefix", "prefill", "tool_checkpoint", "generation"];
const STATES = { done: ["ended", "Done"], idle: ["gave-up", "Hung up: too long a silence"], stopped: ["closed", "Hung up"] };
const MAX_WIRE = 200; // Lines that are kept.

const element = (id) => document.getElementById(id);
let limits = { heartbeat: 5, may_hold: true };
let running = null; // the completion that is shown
let began = 0;
let tokens = 0;

const idleLimit = () => 2 * limits.heartbeat;
const stall = () => 2.4 * limits.heartbeat;

// ---- one completion ----

function start(more = {}) {
  running?.stop();
  clear();
  const text = element("prompt").value;
  const body = {
    model: "demo",
    messages: [{ role: "user", content: text }],
    max_tokens: Number(element("max-tokens").value),
    ...(element("tools").checked && { tools: [{ type: "function", function: { name: "search" } }] }),
    ...more,
  };
  began = performance.now();
  wire("POST /v1/chat/completions");
  const completion = new Completion("/v1/chat/completions", body, {
    idleLimit: idleLimit(),
    head: () => (wire("200 text/event-stream"), connection("live", "Connected")),
    heartbeat: (comment) => wire(comment, "beat"),
    chunk: show,
    end: (outcome, why) => running === completion && finish(outcome, why),
  });
  running = completion;
  connection("connecting", "Waiting for the head …");
  element("stop").disabled = false;
  element("tokens").setAttribute("aria-busy", "true");
  watchSilence(completion);
  return completion;
}

function clear() {
  tokens = 0;
  element("tokens").replaceChildren();
  element("wire").replaceChildren();
  element("prompt-error").textContent = "";
  for (const phase of PHASES) mark(phase, "", "–");
}

function show({ prompt_progress: progress, choices: [choice] }) {
  if (progress) return showProgress(progress);
  const text = choice?.delta?.content;
  if (!text) return;
  tokens += 1;
  if (tokens === 1) {
    for (const phase of PHASES.slice(0, 3)) if (!state(phase)) mark(phase, "", "not needed");
    wire(`data: {… "content": ${JSON.stringify(text)} …}   the first token`);
    announce("The first token has come.");
  }
  mark("generation", "active", `${tokens}`, tokens / Number(element("max-tokens").value));
  element("tokens").append(text);
  element("tokens").scrollTop = element("tokens").scrollHeight;
}

function showProgress({ phase, processed, total }) {
  if (total && processed >= total) return mark(phase, "good", `${total} words`);
  if (!total) announce(`${label(phase)} begins.`);
  mark(phase, "active", total ? `${processed} of ${total}` : "reading …", total ? processed / total : 0.04);
}

function finish(outcome, why) {
  element("stop").disabled = true;
  element("tokens").setAttribute("aria-busy", "false");
  if (outcome === "done") mark("generation", "good", `${tokens} tokens`);
  else for (const phase of PHASES) if (state(phase) === "active") mark(phase, "bad", outcome === "error" ? "failed" : "abandoned");
  wire(outcome === "done" ? "data: [DONE]" : why, outcome === "done" ? "" : "bad");
  const [shown, text] = STATES[outcome] ?? ["gave-up", why];
  connection(shown, text);
  if (outcome === "refused") element("prompt-error").textContent = why;
  else if (outcome !== "done") element("tokens").append(textElement("p", why, "error"));
  announce(outcome === "done" ? `Done, ${tokens} tokens.` : why);
}

// ---- what is shown ----

const label = (phase) => element("phases").querySelector(`[data-phase=${phase}] .name`).textContent;
const state = (phase) => element("phases").querySelector(`[data-phase=${phase}]`).dataset.kind;

function mark(phase, kind, text, done = 0) {
  const item = element("phases").querySelector(`[data-phase=${phase}]`);
  item.dataset.kind = kind;
  item.style.setProperty("--done", kind === "active" ? `${Math.round(100 * done)}%` : "");
  if (kind !== "active") item.style.removeProperty("--done");
  item.querySelector(".state").textContent = text;
  item.toggleAttribute("aria-current", false);
  if (kind === "active") item.setAttribute("aria-current", "step");
}

function wire(text, kind = "") {
  const log = element("wire");
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
  const line = document.createElement("li");
  line.append(textElement("span", `${((performance.now() - began) / 1000).toFixed(1)} s`, "at"), textElement("span", text, kind));
  log.append(line);
  if (log.childElementCount > MAX_WIRE) log.firstElementChild.remove();
  if (follows) log.scrollTop = log.scrollHeight;
}

function connection(shown, text) {
  element("connection").dataset.state = shown;
  element("connection").lastElementChild.textContent = text;
}

function announce(text) {
  element("announcer").textContent = text;
}

/** The client's patience, ten times a second while there is a client. */
function watchSilence(completion) {
  const silent = completion.outcome ? 0 : (performance.now() - completion.aliveAt) / 1000;
  if (running === completion) {
    element("idle").value = silent;
    element("idle-text").textContent = `${silent.toFixed(1)} of ${idleLimit()} s`;
  }
  if (!completion.outcome) setTimeout(() => watchSilence(completion), 100);
}

// ---- break it ----

/** One at a time; `action` gets a way to say how it goes. */
function onClick(id, action) {
  const output = element(`${id}-said`);
  element(id).addEventListener("click", async () => {
    element(id).disabled = true;
    await action((text, kind) => say(output, text, kind)).catch((error) => say(output, error.message, "bad"));
    element(id).disabled = false;
  });
}

const beats = () => element("wire").querySelectorAll(".beat").length;
const words = { lost: "The connection was lost.", refused: "The server refused." };
const stalled = (more) => ({ faults: { stall: "prefill", seconds: stall(), hold: limits.may_hold, ...more } });

onClick("stall", async (tell) => {
  tell(`Stalling for ${stall()} s …`);
  const outcome = await start(stalled()).over;
  if (outcome === "done") tell(`Survived: ${beats()} heartbeats in ${stall()} s, then ${tokens} tokens.`, "good");
  else tell(words[outcome] ?? "The client hung up.", "bad");
});

onClick("silent", async (tell) => {
  const before = await ask("/v1/slots");
  tell(`Stalling for ${stall()} s without a byte …`);
  const outcome = await start(stalled({ heartbeats: false })).over;
  if (outcome !== "idle") return tell(words[outcome] ?? "The client did not hang up.", "warn");
  tell("The client has hung up, and no token reached it. Waiting for the chunk to end …", "warn");
  await hungUp(before);
  tell("The client hung up before the first token. When the chunk ended the work was stopped.", "warn");
});

onClick("other", async (tell) => {
  const stalling = start(stalled());
  while (!beats() && !stalling.outcome) await new Promise(requestAnimationFrame);
  tell("The other client asks …");
  let heartbeats = 0;
  let words = 0;
  const body = { model: "demo", messages: [{ role: "user", content: "and me?" }], max_tokens: 10 };
  const nothing = () => {};
  const chunk = ({ choices: [choice] }) => (words += choice?.delta?.content ? 1 : 0);
  const tellOther = { idleLimit: idleLimit(), head: nothing, heartbeat: () => (heartbeats += 1), chunk, end: nothing };
  const outcome = await new Completion("/v1/chat/completions", body, tellOther).over;
  const both = outcome === "done" && (await stalling.over) === "done";
  tell(both ? `Both survived: the other had ${heartbeats} heartbeats, then its ${words} tokens.` : "One of them hung up.", both ? "good" : "bad");
});

onClick("cut", async (tell) => {
  const before = await ask("/v1/slots");
  const completion = start({ max_tokens: 2048 });
  while (!completion.outcome && tokens < 10) await new Promise(requestAnimationFrame);
  completion.stop();
  const cutAt = performance.now();
  await hungUp(before);
  tell(`The work stopped within ${Math.ceil(performance.now() - cutAt)} ms, ${2048 - tokens} tokens early.`, "good");
});

onClick("fail", async (tell) => {
  const outcome = await start({ faults: { fail: "prefill" } }).over;
  tell(outcome === "error" ? "The client was told why, inside the stream." : "That was no error.", outcome === "error" ? "good" : "bad");
});

/** Until the server says that one more client has hung up and its work is stopped. */
async function hungUp(before) {
  while ((await ask("/v1/slots")).hung_up <= before.hung_up) await new Promise((resolve) => setTimeout(resolve, 20));
}

// ---- the form ----

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
element("stop").addEventListener("click", () => running?.stop());
element("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && running?.stop());
window.addEventListener("pagehide", () => running?.stop());

ask("/v1/slots").then((found) => {
  limits = found;
  element("idle").max = idleLimit();
  element("idle").low = 0.6 * idleLimit();
  element("idle").high = 0.8 * idleLimit();
  for (const shown of document.querySelectorAll("[data-limit]")) shown.textContent = idleLimit();
  for (const shown of document.querySelectorAll("[data-stall]")) shown.textContent = stall();
});
