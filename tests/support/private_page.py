"""A page that reads private streams of another origin: with tickets, with tokens in headers, with cookies."""

from __future__ import annotations

from typing import Any

from selenium.webdriver import Chrome

PAGE = """<!doctype html><title>private</title><script type="module">
import { connect } from "/sse-fast.js";
window.seen = []; window.states = []; window.tickets = 0; window.told = [];
window.follow = (url, more = {}) => {
  window.reading = connect(url, {
    on: { "*": (data, { event }) => seen.push([event, data]) },
    onState: (state) => states.push(`${state.state} ${state.reason ?? ""}`.trim()),
    token: async () => (tickets += 1, (await fetch("ticket")).text()),
    ...more,
  });
};
window.listen = (url, withCredentials) => {
  window.source = new EventSource(url, { withCredentials });
  for (const name of ["message", "auth", "error"]) {
    source.addEventListener(name, (event) => told.push([name, event.data ?? null]));
  }
};
window.poll = async (url, headers) => {
  try {
    const response = await fetch(url, { headers: { Accept: "application/json", ...headers } });
    return [response.status, await response.text()];
  } catch (error) { return [0, String(error)]; }
};
window.ready = true;
</script>"""


def value(browser: Chrome, script: str, *arguments: object) -> Any:
    return browser.execute_script(f"return {script}", *arguments)
