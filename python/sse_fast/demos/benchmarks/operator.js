/**
 * What an operator watches: the log's tail, and which machines are warm. Two streams, apart from every run's.
 *
 * Browsers keep six connections to a server over HTTP/1.1, for all tabs together, and every stream takes one; so a tab
 * nobody looks at reads neither, and comes back to where it was.
 */

import { connect } from "/sse-fast.js";

const MAX_LINES = 300;

export function followLog(list) {
  whileVisible("/streams/benchmarks/log", {
    on: { log: (line) => append(list, line) },
    onGap: ({ skipped }) => append(list, { text: skipped === null ? "… a new log …" : `… ${skipped} lines missed …` }),
  });
}

/** Says under the form whether the chosen GPU's machine is warm. */
export function followMachines(hint, select) {
  let warm = {};
  const show = () => {
    const until = warm[select.value];
    hint.textContent = until
      ? `A machine with ${select.value} is warm until ${clock(until)}: no provisioning.`
      : `No machine with ${select.value} is warm: it is provisioned first.`;
  };
  select.addEventListener("change", show);
  whileVisible("/streams/benchmarks/machines", {
    on: {
      machines: (machines) => {
        warm = machines;
        show();
      },
    },
  });
}

function whileVisible(address, options) {
  let reading = null;
  const follow = () => {
    if (document.visibilityState === "hidden") return reading?.close();
    if (reading && reading.state.state !== "closed") return;
    reading = connect(address, { ...options, deadline: 0, lastEventId: reading?.lastEventId ?? null });
  };
  document.addEventListener("visibilitychange", follow);
  follow();
}

function append(list, { at, level = "", text }) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  if (list.classList.replace("empty", "filled")) list.replaceChildren();
  const line = document.createElement("div");
  line.className = level.toLowerCase();
  const time = document.createElement("span");
  time.className = "at";
  time.textContent = at ? `${clock(at)} ` : "";
  line.append(time, text);
  list.append(line);
  while (list.childElementCount > MAX_LINES) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
