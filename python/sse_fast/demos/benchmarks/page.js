/**
 * The benchmark runner's page: submits a kernel, follows its run, shows what came of it.
 *
 * Owns: the form, the run in the location's hash, the result, the history. The stream's whole care (resuming, polling,
 * giving up) is `connect`'s; this file only says what an event looks like. The row in the database has the last word:
 * when a run is over, what is shown is read from there.
 */

import { connect } from "/sse-fast.js";
import { installBreaks } from "./breaks.js";
import { comparison, samplesChart } from "./chart.js";
import { followLog, followMachines } from "./operator.js";
import { Timeline, kindOf } from "./timeline.js";

const STATUSES = [
  ...["IN_QUEUE", "PROVISIONING", "COMPILING", "BENCHMARKING", "BENCHMARKED"],
  ...["FAILED", "ERROR", "TIMEOUT", "INTERRUPTED"],
];
// The row is written right after the event is sent; asking this often, this long, is ample.
const ROW_ATTEMPTS = 20;
const ROW_INTERVAL = 0.15;

const element = (id) => document.getElementById(id);
const timeline = new Timeline(element("timeline"), element("announcer"));
let catalogue = { gpus: [], kernels: [], own_code: true };
let reading = null; // the subscription of the run that is shown

// ---- the form ----

async function fillForm() {
  catalogue = await getJson("/api/kernels");
  element("gpu").replaceChildren(...catalogue.gpus.map((gpu) => new Option(gpu, gpu)));
  element("kernel").replaceChildren(...catalogue.kernels.map(({ name, title }) => new Option(title, name)));
  element("kernel").addEventListener("change", showKernel);
  element("code").readOnly = !catalogue.own_code;
  element("code-hint").textContent = catalogue.own_code
    ? "Define kernel(n), and flops(n) if you know it. Your code is executed on this computer."
    : "This server is open to others, so only built-in kernels are executed.";
  showKernel();
  followMachines(element("machine"), element("gpu"));
}

function chosenKernel() {
  return catalogue.kernels.find(({ name }) => name === element("kernel").value);
}

function showKernel() {
  const { code, size } = chosenKernel();
  element("code").value = code;
  element("size").value = size;
}

/** A built-in kernel goes by its name; once its source is edited, it is the submitter's own. */
function submission() {
  const chosen = chosenKernel();
  const code = element("code").value;
  const what = code === chosen.code ? { kernel: chosen.name } : { code };
  const size = element("size").value;
  return { submission_id: newId(), gpu: element("gpu").value, ...what, ...(size && { size: Number(size) }) };
}

function newId() {
  const random = crypto.getRandomValues(new Uint8Array(4));
  return `run-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function submit(event) {
  event.preventDefault();
  if (element("submit").disabled) return;
  showErrors();
  element("submit").disabled = true;
  try {
    const body = submission();
    const response = await fetch("/api/submissions/benchmark", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) return showErrors(await response.json());
    // The response is the run's stream, which could be read from here on. The page reads it as every later page load
    // does: by EventSource, which can resume.
    response.body.cancel();
    location.hash = body.submission_id;
    // Where the page is one column, the run is below the form.
    element("run-title").scrollIntoView({ block: "nearest" });
  } catch {
    showErrors({ detail: "The server cannot be reached; nothing was submitted." });
  } finally {
    element("submit").disabled = false;
  }
}

/** `detail` begins with the field's name where a field is to blame. */
function showErrors({ detail } = {}) {
  const [, field, why] = /^(\w+): (.*)$/s.exec(detail ?? "") ?? [];
  for (const name of ["kernel", "gpu", "size", "code"]) {
    element(`${name}-error`).textContent = name === field ? `It ${why}.` : "";
    element(name).toggleAttribute("aria-invalid", false);
    if (name === field) element(name).setAttribute("aria-invalid", "true");
  }
  const known = field && element(`${field}-error`);
  element("form-error").textContent = known ? "" : (detail ?? "");
  if (known) element(field).focus();
}

// ---- the run ----

/** Shows the run that the location names: from its row where it is over, else from its stream. */
async function showRun() {
  reading?.close();
  reading = null;
  const id = decodeURIComponent(location.hash.slice(1));
  timeline.clear();
  element("result").replaceChildren();
  element("notices").replaceChildren();
  element("run-id").textContent = id;
  element("empty").hidden = id !== "";
  showConnection("none", id ? "" : "No run yet");
  markCurrent();
  if (!id) return;
  const row = await getJson(url(id)).catch((error) => error);
  if (id !== decodeURIComponent(location.hash.slice(1))) return;
  if (row.status === 404) return notice(`There is no run ${id} on this server.`, "bad");
  if (row.finished_at) return showFinished(row, "From the database");
  follow(id);
}

function follow(id, lastEventId = null) {
  const show = (data, { event }) => {
    timeline.add({ status: event, ...data });
    breaks.onStatus(event);
    refreshHistory();
  };
  reading = connect(`${url(id)}/stream`, {
    on: { ...Object.fromEntries(STATUSES.map((name) => [name, show])), end: showEnd },
    onState: ({ state, message }) => {
      showConnection(state, message);
      if (state !== "gave-up") return;
      timeline.stop();
      notice(`${message} The run may still be going on; reload to look again.`, "bad");
    },
    onGap: ({ skipped }) => showGap(skipped),
    lastEventId,
    deadline: 900,
  });
  reading.closed.then(({ state }) => {
    if (state === "ended") finish(id);
  });
}

/** The end of a run that did not come to its own: the row may say so later, or the server is on its way out. */
function showEnd({ shutdown, error }) {
  const why = shutdown ? "The server was shut down; this run was interrupted" : error && `This run was cut off: ${error}`;
  if (why) timeline.add({ status: "INTERRUPTED", message: why });
}

function showGap(skipped) {
  if (skipped === null) {
    // Another life of the stream: what follows is all there is, so it replaces what was shown.
    timeline.clear();
    return notice("The server restarted meanwhile. It cannot say whether events were missed; this is all it knows.");
  }
  notice(`${skipped} ${skipped === 1 ? "event was" : "events were"} missed; the server no longer had them.`);
}

/** The stream has ended; the row says what came of it. */
async function finish(id) {
  for (let attempt = 0; attempt < ROW_ATTEMPTS; attempt += 1) {
    const row = await getJson(url(id)).catch(() => null);
    if (id !== decodeURIComponent(location.hash.slice(1))) return;
    if (row?.finished_at) {
      showFinished(row, element("connection-text").textContent);
      return refreshHistory();
    }
    await new Promise((resolve) => setTimeout(resolve, ROW_INTERVAL * 1000));
  }
  notice("The run is over, but its row could not be read; reload to look again.", "bad");
}

async function showFinished(row, connection) {
  showConnection("ended", connection);
  timeline.clear();
  for (const data of row.timeline) timeline.add(data, { quiet: true });
  timeline.end({ status: row.status, message: row.message ?? "", at: row.finished_at, exit_code: row.exit_code });
  if (row.runtime_ms === null) return element("result").replaceChildren();
  const rows = await getJson("/api/submissions").catch(() => []);
  const former = rows.filter(
    (other) =>
      other.id !== row.id && other.status === "ACCEPTED" && row.kernel !== null && other.kernel === row.kernel && other.size === row.size,
  );
  const width = element("result").clientWidth;
  const charts = former.length ? [samplesChart(row, width), comparison(row, former, width)] : [samplesChart(row, width)];
  element("result").replaceChildren(figures(row), ...charts);
}

function figures(row) {
  const list = document.createElement("dl");
  list.className = "figures";
  const spread = row.samples?.length > 1 ? `${Math.min(...row.samples).toFixed(1)} – ${Math.max(...row.samples).toFixed(1)} ms` : "–";
  const values = { "Median run time": milliseconds(row.runtime_ms), "GFLOP/s": number(row.gflops, 3), "Fastest – slowest": spread };
  for (const [term, value] of Object.entries(values)) {
    const pair = document.createElement("div");
    pair.append(textElement("dt", term), textElement("dd", value));
    list.append(pair);
  }
  return list;
}

function showConnection(state, message) {
  element("connection").dataset.state = state;
  breaks.onState(state);
  if (element("connection-text").textContent !== message) element("connection-text").textContent = message;
}

function notice(text, kind = "warn") {
  if ([...element("notices").children].some((child) => child.textContent === text)) return;
  const shown = textElement("p", text, "notice");
  shown.dataset.kind = kind;
  element("notices").append(shown);
}

// ---- the history ----

let refreshing = null;

/** Several events at once ask for the table once. */
function refreshHistory() {
  refreshing ??= new Promise((resolve) => setTimeout(resolve, 100)).then(async () => {
    refreshing = null;
    const rows = await getJson("/api/submissions").catch(() => null);
    if (rows?.length) element("history").replaceChildren(...rows.map(historyRow));
    markCurrent();
  });
}

function historyRow(row) {
  const line = document.createElement("tr");
  line.dataset.id = row.id;
  const link = textElement("a", row.id);
  link.href = `#${encodeURIComponent(row.id)}`;
  const run = document.createElement("td");
  run.append(link);
  const status = textElement("td", row.status);
  status.dataset.kind = kindOf(row.status);
  line.append(
    run,
    status,
    textElement("td", milliseconds(row.runtime_ms), "number"),
    textElement("td", number(row.gflops, 3), "number"),
    textElement("td", `${row.kernel ?? "own code"} (${row.size})`),
    textElement("td", row.gpu),
    textElement("td", row.exit_code ?? "–", "number"),
    textElement("td", row.finished_at ? `${(row.finished_at - row.created_at).toFixed(1)} s` : "–", "number"),
    textElement("td", new Date(row.created_at * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "medium" })),
  );
  return line;
}

function markCurrent() {
  const id = decodeURIComponent(location.hash.slice(1));
  for (const line of element("history").rows) {
    if (line.dataset.id === id) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  }
}

// ---- small things ----

const url = (id) => `/api/submissions/${encodeURIComponent(id)}`;
const milliseconds = (value) => (value === null ? "–" : `${number(value, 2)} ms`);
const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));

async function getJson(address) {
  const response = await fetch(address);
  if (!response.ok) throw response;
  return response.json();
}

function textElement(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

const breaks = installBreaks({
  reading: () => reading,
  resume: (lastEventId) => follow(decodeURIComponent(location.hash.slice(1)), lastEventId),
  showConnection,
});
element("form").addEventListener("submit", submit);
element("code").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});
window.addEventListener("hashchange", showRun);
fillForm().catch(() => showErrors({ detail: "The server cannot be reached; reload to try again." }));
refreshHistory();
showRun();
followLog(element("log"));
