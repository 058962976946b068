/**
 * A plan as a graph: its nodes in levels, each beside or below those it waits for, and the edges between them.
 *
 * Owns: places, edges, the clock of nodes that run. Times are the worker's (seconds since 1970), so that a page that
 * was reloaded shows the same as one that was not. Must not know: where a plan comes from.
 */

import { textElement } from "/demos/site.js";

const SVG = "http://www.w3.org/2000/svg";
const KINDS = { waiting: "", running: "active", done: "good", failed: "bad", skipped: "" };
const CLOCK_INTERVAL = 0.1;

export class Graph {
  #list;
  #edges;
  #items = new Map(); // a node's name to its element
  #nodes = {};
  #ended = false;
  #clock = null;

  constructor(list, edges) {
    this.#list = list;
    this.#edges = edges;
    new ResizeObserver(() => this.#drawEdges()).observe(list);
  }

  /** Shows a whole plan, in place of what was shown. */
  show({ nodes, status }) {
    this.#nodes = structuredClone(nodes);
    this.#ended = status !== "running";
    this.#items = new Map(Object.keys(nodes).map((name) => [name, itemOf(nodes, name)]));
    this.#place();
    this.#list.replaceChildren(...this.#items.values());
    for (const name of this.#items.keys()) this.#update(name);
    this.#drawEdges();
    this.#runClock();
  }

  /** Changes one node. */
  change(name, values) {
    if (!this.#items.has(name)) return;
    Object.assign(this.#nodes[name], values);
    this.#update(name);
    this.#drawEdges();
    this.#runClock();
  }

  clear() {
    this.show({ nodes: {}, status: "none" });
  }

  titleOf(name) {
    return this.#nodes[name]?.title ?? name;
  }

  get done() {
    return Object.values(this.#nodes).filter(({ status }) => status === "done").length;
  }

  get size() {
    return this.#items.size;
  }

  /** A level is as far down as its longest way there. The nodes of one level share its room evenly. */
  #place() {
    const levels = [];
    const levelOf = (name) => 1 + Math.max(0, ...this.#nodes[name].after.map(levelOf));
    for (const name of this.#items.keys()) (levels[levelOf(name)] ??= []).push(name);
    const rooms = levels.map((names) => names.length).reduce(leastCommonMultiple, 1);
    for (const [level, names] of levels.entries()) {
      for (const [index, name] of (names ?? []).entries()) {
        const span = rooms / names.length;
        const values = { level, span, at: 1 + index * span };
        for (const [key, value] of Object.entries(values)) this.#items.get(name).style.setProperty(`--${key}`, value);
      }
    }
  }

  #update(name) {
    const { output, error } = this.#nodes[name];
    // Once the stream has ended, what waits will wait no more.
    const status = this.#ended && this.#nodes[name].status === "waiting" ? "skipped" : this.#nodes[name].status;
    const item = this.#items.get(name);
    item.dataset.status = status;
    const badge = item.querySelector(".badge");
    badge.textContent = status;
    badge.dataset.kind = KINDS[status] ?? "";
    item.querySelector(".output").textContent = error || output;
    this.#showTime(name);
  }

  #showTime(name) {
    const { started_at: started, ended_at: ended, status } = this.#nodes[name];
    const until = status === "running" ? Date.now() / 1000 : ended;
    const time = started && until ? `${Math.max(0, until - started).toFixed(1)} s` : "";
    this.#items.get(name).querySelector(".time").textContent = time;
  }

  #runClock() {
    const running = Object.keys(this.#nodes).filter((name) => this.#nodes[name].status === "running");
    clearInterval(this.#clock);
    this.#clock = null;
    if (running.length === 0) return;
    this.#clock = setInterval(() => running.forEach((name) => this.#showTime(name)), CLOCK_INTERVAL * 1000);
  }

  /** Where the levels go down, edges go from below to above; else from the right to the left. */
  #drawEdges() {
    const whole = this.#edges.getBoundingClientRect();
    const paths = [];
    for (const [name, { after, status }] of Object.entries(this.#nodes)) {
      for (const before of after) {
        const from = this.#items.get(before).getBoundingClientRect();
        const to = this.#items.get(name).getBoundingClientRect();
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("d", to.left >= from.right ? across(from, to, whole) : down(from, to, whole));
        path.toggleAttribute("data-done", this.#nodes[before].status === "done" && status !== "waiting");
        paths.push(path);
      }
    }
    this.#edges.replaceChildren(...paths);
  }
}

function itemOf(nodes, name) {
  const item = textElement("li", "", "node");
  item.dataset.node = name;
  const after = nodes[name].after.map((other) => nodes[other].title).join(" and ");
  const about = textElement("span", "", "about");
  about.append(textElement("span", "", "badge"), textElement("span", "", "time"));
  item.append(textElement("span", nodes[name].title, "title"));
  if (after) item.append(textElement("span", `, after: ${after}.`, "hidden-label"));
  item.append(textElement("span", "", "output"), about);
  return item;
}

function across(from, to, whole) {
  const [x1, y1, x2, y2] = [from.right - whole.left, middle(from.top, from.bottom) - whole.top, to.left - whole.left, middle(to.top, to.bottom) - whole.top];
  return `M${x1},${y1} C${middle(x1, x2)},${y1} ${middle(x1, x2)},${y2} ${x2},${y2}`;
}

function down(from, to, whole) {
  const [x1, y1, x2, y2] = [middle(from.left, from.right) - whole.left, from.bottom - whole.top, middle(to.left, to.right) - whole.left, to.top - whole.top];
  return `M${x1},${y1} C${x1},${middle(y1, y2)} ${x2},${middle(y1, y2)} ${x2},${y2}`;
}

const middle = (one, other) => (one + other) / 2;
const divisor = (a, b) => (b ? divisor(b, a % b) : a);
const leastCommonMultiple = (a, b) => (a * b) / divisor(a, b);
