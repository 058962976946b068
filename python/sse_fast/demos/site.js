/**
 * What the demos' pages do alike: the link past the bar, showing a connection's state, telling what came of breaking
 * something, restarting the server.
 *
 * Must not know: any demo. Text that is announced changes only when it says something new.
 */

// The location's hash is a page's own, so the link past the bar moves the focus and leaves the hash alone.
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  const main = document.getElementById("main");
  main.tabIndex = -1;
  main.focus();
});

/** An `onState` for `connect` that shows each state in a `.connection`: its dot, and its text. */
export function connectionIn(element) {
  const text = element.querySelector(":scope > :last-child");
  return ({ state, message }) => {
    element.dataset.state = state;
    if (text.textContent !== message) text.textContent = message;
  };
}

/** Tells in an `output.said` what came of breaking something; `kind`: good, warn, bad or "". */
export function say(output, text, kind = "") {
  output.dataset.kind = kind;
  if (output.textContent !== text) output.textContent = text;
}

/** GET or POST for JSON; what is not a success is thrown as an Error with the server's own words. */
export async function ask(path, body) {
  const how = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, how);
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  throw Object.assign(new Error(answer?.detail ?? `The server answered ${response.status}.`), { status: response.status, answer });
}

/** Has the server close and start anew on its port; resolves when the new one answers, with the seconds that took. */
export async function restartServer() {
  const began = performance.now();
  const { life } = await ask("/api/demos/restart", {});
  for (;;) {
    const now = await ask("/api/demos/life").catch(() => null);
    if (now && now.life !== life) return (performance.now() - began) / 1000;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** An element with a text, and a class where there is one. */
export function textElement(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}
