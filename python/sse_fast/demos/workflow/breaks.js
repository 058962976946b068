/**
 * The panel that breaks the workflow: a late row, a node that fails, a dropped connection, a reader that never reads,
 * a restart of the server. It says what came of each, from what the page and the server really saw.
 */

import { ask, restartServer, say } from "/demos/site.js";

const AWAY = 3; // Seconds for which the page hangs up.

const element = (id) => document.getElementById(id);

/** `shown` is what the page shows; the panel is told of its events and states. */
export function installBreaks({ shown, submit, follow, streamUrl, showConnection }) {
  let pending = null; // what is to be said once the page has recovered: called with each event and state

  shown.onEvent = (event) => {
    element("drop").disabled = element("slow").disabled = !shown.running;
    pending?.({ event });
  };
  shown.onState = ({ state }) => {
    if (state === "none") pending = null;
    pending?.({ state });
  };

  element("late").addEventListener("click", async () => {
    const said = element("late-said");
    const subscribe = element("subscribe").checked;
    const delay = Number(element("row-delay").value);
    say(said, "");
    const id = await submit({ row_delay: delay, subscribe });
    if (!id) return say(said, "The server refused it; see above.", "bad");
    say(said, `Asked at once; the row comes in ${delay} s.`);
    const words = await askedBeside(streamUrl(id));
    if (shown.id !== id) return;
    say(said, words.text, words.kind);
    if (words.kind !== "warn" || shown.running) return;
    pending = ({ event }) => {
      if (event !== "plan") return;
      pending = null;
      say(said, `${words.text} Then the row came, and this page has the plan.`, "good");
    };
  });

  element("fail").addEventListener("click", () => submit({ fail: element("fail-node").value }));

  element("drop").addEventListener("click", async () => {
    const { id, reading, order } = shown;
    const said = element("drop-said");
    const before = order.last;
    element("drop").disabled = true;
    reading.close();
    showConnection({ state: "waiting", message: `Hung up; back in ${AWAY} s` });
    say(said, `Hung up after event ${before}.`, "warn");
    await new Promise((resolve) => setTimeout(resolve, AWAY * 1000));
    if (shown.id !== id) return;
    follow(id, reading.lastEventId);
    pending = ({ event }) => {
      if (!event || event === "status") return;
      pending = null;
      const whole = order.lost + order.twice === 0;
      say(said, `Away for ${AWAY} s, resumed after event ${before}: the next was event ${order.last}.`, whole ? "good" : "warn");
    };
  });

  element("slow").addEventListener("click", async () => {
    const said = element("slow-said");
    const { id, order } = shown;
    const before = order.given;
    element("slow").disabled = true;
    say(said, "Flooding …");
    try {
      const { events, seconds, worst_seconds: worst } = await ask("/api/workflow/slow-reader", { decision_set_id: id });
      const tell = () => {
        const here = order.given - before;
        if (here < events) return;
        pending = null;
        const times = `${milliseconds(seconds)} for all, ${milliseconds(worst)} for the slowest`;
        const whole = order.lost ? `${order.lost} lost here` : "none lost here";
        say(said, `${events.toLocaleString("en")} events published (${times}): ${whole}; the other reader took nothing.`, order.lost ? "warn" : "good");
      };
      pending = tell;
      tell();
    } catch (error) {
      say(said, error.message, "bad");
    }
  });

  element("restart").addEventListener("click", async () => {
    const said = element("restart-said");
    const { running } = shown;
    element("restart").disabled = true;
    say(said, "Restarting …", "warn");
    let seconds = null;
    pending = ({ event }) => {
      if (event !== "plan") return;
      pending = null;
      say(said, "This page has the plan from the new server, and goes on.", "good");
    };
    try {
      seconds = await restartServer();
      if (!running || pending) say(said, `A new server answers, ${milliseconds(seconds)} later${running ? "; waiting for its plan …" : "."}`, "good");
    } catch (error) {
      pending = null;
      say(said, error.status === 404 ? "Only from the server’s own computer." : error.message, "bad");
    } finally {
      element("restart").disabled = false;
    }
  });
}

/** The same request as the page's own, made beside it: what a client without patience would be told. */
async function askedBeside(url) {
  const began = performance.now();
  try {
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    const { waited, attempts } = await response.json();
    if (response.ok) return { text: `A request beside this page’s was answered after ${seconds} s.`, kind: "good" };
    return { text: `A request beside this page’s got ${response.status} after ${waited} s and ${attempts} checks.`, kind: "warn" };
  } catch {
    return { text: "A request beside this page’s was cut off.", kind: "warn" };
  }
}

const milliseconds = (seconds) => (seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`);
