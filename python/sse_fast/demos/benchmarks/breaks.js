/**
 * The panel that breaks a run: a dropped connection, and a restart of the server. It says what came of each.
 */

import { restartServer, say } from "/demos/site.js";

const AWAY = 3; // Seconds for which the page hangs up.

const element = (id) => document.getElementById(id);

/** `reading` gives the run's subscriber, or null; `resume` follows the run again after an id. Returns what is called
 * with each state of the connection, and with each status that comes. */
export function installBreaks({ reading, resume, showConnection }) {
  let back = null; // called with the first status after the page has come back

  element("drop").addEventListener("click", async () => {
    const dropped = reading();
    element("drop").disabled = true;
    dropped.close();
    showConnection("waiting", `Hung up; back in ${AWAY} s`);
    say(element("drop-said"), "Hung up.", "warn");
    await new Promise((resolve) => setTimeout(resolve, AWAY * 1000));
    if (reading() !== dropped) return; // Another run is shown by now.
    back = (status) => say(element("drop-said"), `Away for ${AWAY} s, and resumed: the next status was ${status}.`, "good");
    resume(dropped.lastEventId);
  });

  element("restart").addEventListener("click", async () => {
    element("restart").disabled = true;
    say(element("restart-said"), "Restarting …", "warn");
    try {
      const seconds = await restartServer();
      say(element("restart-said"), `A new server answers, ${seconds.toFixed(1)} s later.`, "good");
    } catch (error) {
      say(element("restart-said"), error.status === 404 ? "Only from the server’s own computer." : error.message, "bad");
    } finally {
      element("restart").disabled = false;
    }
  });

  return {
    onState: (state) => (element("drop").disabled = state !== "live"),
    onStatus: (status) => {
      back?.(status);
      back = null;
    },
  };
}
