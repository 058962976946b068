"""`sse-fast.js` in a page of its own: what a page that calls `connect` may rely on.

Guards that heartbeats are never shown, that nothing is asked for after the end, that a deadline ends everything with
words for a person, and that whichever way an event comes, over the stream, by a poll or by a check, it is handled once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome

import sse_fast
from support.deadline import until
from support.proxy import Proxy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGE = """<!doctype html><title>connect</title><script type="module">
import { connect } from "/sse-fast.js";
window.seen = []; window.states = []; window.gaps = []; window.errors = [];
window.replies = []; // What it was told when it asked for JSON.
const { fetch } = window;
window.fetch = async (...request) => {
  const response = await fetch(...request);
  if (request[1].headers.get("Accept") === "application/json") replies.push(await response.clone().text());
  return response;
};
window.follow = (url, names, options) => {
  const on = Object.fromEntries(names.map((name) => [name, (data, { event, id }) => seen.push([event, data, id])]));
  try {
    window.reading = connect(url, {
      on, onState: (state) => states.push(state), onGap: (gap) => gaps.push(gap), ...options,
    });
  } catch (error) { errors.push(String(error)); }
};
window.ready = true;
</script>"""

Follow = Callable[..., None]


@pytest.fixture
def server(server: sse_fast.Server) -> sse_fast.Server:
    server.get("/page")(lambda _req: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    return server


@pytest.fixture(params=[False, True], ids=["alone", "shared"])
def follow(server: sse_fast.Server, browser: Chrome, request: pytest.FixtureRequest) -> Iterator[Follow]:
    """Opens the page and makes it call `connect`, by a connection of its own or by that of all tabs.

    No page outlives its test.
    """

    def start(path: str, *names: str, port: int | None = None, **options: Any) -> None:
        browser.get(f"http://127.0.0.1:{port or server.port}/page")
        until(lambda: browser.execute_script("return window.ready"))
        browser.execute_script("follow(...arguments)", path, list(names), {"share": request.param, **options})

    yield start
    browser.get("about:blank")


def value(browser: Chrome, name: str) -> Any:
    return browser.execute_script(f"return {name}")


def state(browser: Chrome) -> tuple[str, str | None]:
    last = value(browser, "states.at(-1)")
    return last["state"], last.get("reason")


def test_heartbeats_are_never_handled(server: sse_fast.Server, browser: Chrome, follow: Follow) -> None:
    for names in (("message", "heartbeat"), ("*",)):  # By EventSource, and by fetch.
        stream = server.stream(f"s{len(names)}", heartbeat=0.02, heartbeat_event="heartbeat")
        follow(f"/streams/{stream.name}", *names)
        until(lambda: value(browser, "reading.aliveAt"))
        before, alive = server.stats().heartbeats, value(browser, "reading.aliveAt")
        until(lambda before=before: server.stats().heartbeats > before + 5)
        until(lambda alive=alive: value(browser, "reading.aliveAt") > alive, what="a sign of life")
        stream.publish("x")
        until(lambda: value(browser, "seen"))
        assert [event for event, _, _ in value(browser, "seen")] == ["message"]


@pytest.mark.parametrize("names", [("message", "end"), ("*",)], ids=["EventSource", "fetch"])
def test_nothing_is_requested_after_the_terminal_event(
    server: sse_fast.Server, browser: Chrome, follow: Follow, names: tuple[str, ...]
) -> None:
    stream = server.stream("s", start="all", retry=0.05)
    follow("/streams/s", *names, idleTimeout=0.2, pollEvery=0.1)
    first, last = stream.publish({"n": 1}), stream.end("over")
    until(lambda: state(browser)[0] == "ended")
    assert value(browser, "seen") == [["message", {"n": 1}, first], ["end", "over", last]]
    requests = server.stats().requests
    browser.execute_async_script("setTimeout(arguments[0], 1000)")  # Longer than any of its intervals.
    assert server.stats().requests == requests
    assert value(browser, "states.filter(({ state }) => state === 'ended').length") == 1


def test_after_its_deadline_it_gives_up_with_words_and_lets_go(
    server: sse_fast.Server, browser: Chrome, follow: Follow
) -> None:
    stream = server.stream("s", heartbeat=0.05, heartbeat_event="heartbeat")
    follow("/streams/s", "message", deadline=1)
    until(lambda: state(browser) == ("gave-up", "deadline"), what="giving up, heartbeats notwithstanding")
    assert value(browser, "states.at(-1).message") == "Gave up: the stream did not end within 1 seconds."
    until(lambda: stream.subscribers == 0)
    stream.publish("too late")
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert value(browser, "seen") == []


@pytest.mark.parametrize(("options", "longest"), [({}, 60_000), ({"deadline": 900}, 900_000)])
def test_there_is_no_deadline_unless_told(
    server: sse_fast.Server, browser: Chrome, options: dict[str, Any], longest: int
) -> None:
    """A page of a chat or a ticker is never stopped by a clock: the longest wait is that of the health timer."""
    server.stream("s")
    browser.get(f"{server.url}/page")
    until(lambda: value(browser, "window.ready"))
    browser.execute_script(
        "window.delays = []; const set = setTimeout; "
        "window.setTimeout = (act, delay) => { delays.push(delay); return set(act, delay); }; "
        "follow('/streams/s', ['message'], arguments[0])",
        options,
    )
    until(lambda: state(browser)[0] == "live")
    until(lambda: max(value(browser, "delays")) == longest)


@pytest.mark.parametrize("names", [("message", "end"), ("*",)], ids=["EventSource", "fetch"])
def test_a_connection_that_is_cut_again_and_again_loses_and_repeats_nothing(
    server: sse_fast.Server, browser: Chrome, follow: Follow, names: tuple[str, ...]
) -> None:
    stream = server.stream("s", start="all", retry=0.05)
    with Proxy(server.port) as proxy:
        follow("/streams/s", *names, port=proxy.port)
        for number in range(30):
            stream.publish(number)
            if number % 10 == 5:
                until(lambda number=number: len(value(browser, "seen")) == number + 1)
                proxy.cut()
        stream.end("over")
        until(lambda: state(browser)[0] == "ended")
    assert [data for _, data, _ in value(browser, "seen")] == [*range(30), "over"]
    assert value(browser, "gaps") == []


def test_a_gap_is_told_with_its_number(server: sse_fast.Server, browser: Chrome, follow: Follow) -> None:
    stream = server.stream("s", history=5)
    ids = [stream.publish(number) for number in range(20)]
    follow("/streams/s", "message", lastEventId=ids[3])
    until(lambda: len(value(browser, "seen")) == 5)
    assert [data for _, data, _ in value(browser, "seen")] == [15, 16, 17, 18, 19]
    assert value(browser, "gaps") == [{"skipped": 11, "from": ids[4], "to": ids[14]}]


def test_where_no_stream_can_be_had_it_polls_and_comes_back_to_the_stream(
    server: sse_fast.Server, browser: Chrome, follow: Follow
) -> None:
    stream = server.stream("s", start="all")
    blocked = [True]

    @server.get("/guarded")
    def guarded(request: sse_fast.Request) -> sse_fast.Stream | sse_fast.Response:
        wants_json = "json" in (request.headers.get("accept") or "")
        return sse_fast.Response("no streams here", status=500) if blocked[0] and not wants_json else stream

    follow("/guarded", "message", "end", pollEvery=0.1)
    for number in range(5):
        stream.publish(number)
        until(lambda number=number: len(value(browser, "seen")) == number + 1, what="an event by polling")
    assert state(browser)[0] == "polling"
    blocked[0] = False
    until(lambda: state(browser)[0] == "live", what="the stream again")
    stream.publish(5)
    stream.end("over")
    until(lambda: state(browser)[0] == "ended")
    assert [data for _, data, _ in value(browser, "seen")] == [0, 1, 2, 3, 4, 5, "over"]


def test_what_a_proxy_swallows_is_asked_for_after_a_silence(
    server: sse_fast.Server, browser: Chrome, follow: Follow
) -> None:
    stream = server.stream("s", start="all")
    with Proxy(server.port) as proxy:
        follow("/streams/s", "message", "end", port=proxy.port, idleTimeout=0.3, pollEvery=0.1)
        stream.publish("before")
        until(lambda: len(value(browser, "seen")) == 1)
        proxy.swallowing = True
        stream.publish("swallowed")
        until(lambda: len(value(browser, "seen")) == 2, what="the swallowed event, by a check")
        proxy.swallowing = False
        stream.publish("after")
        stream.end("over")
        until(lambda: state(browser)[0] == "ended", 60)
    assert [data for _, data, _ in value(browser, "seen")] == ["before", "swallowed", "after", "over"]


@pytest.mark.parametrize("follow", [False], indirect=True, ids=["alone"])  # The page sees no replies of a worker.
def test_what_comes_over_the_stream_and_by_a_check_is_handled_once(
    server: sse_fast.Server, browser: Chrome, follow: Follow
) -> None:
    stream = server.stream("s", start="all")
    with Proxy(server.port) as proxy:
        follow("/streams/s", "message", port=proxy.port, idleTimeout=0.3)
        stream.publish("before")
        until(lambda: len(value(browser, "seen")) == 1)
        proxy.flowing.clear()
        stream.publish("late")
        until(
            lambda: value(browser, "replies.some((reply) => reply.includes('late'))"), what="a check that has the event"
        )
        proxy.flowing.set()
        until(lambda: len(value(browser, "seen")) >= 2)
        asked = value(browser, "replies.length")
        until(lambda: value(browser, "replies.length") > asked, what="the check being over, and another")
        stream.publish("after")
        until(lambda: value(browser, "seen.at(-1)[1]") == "after")
    assert [data for _, data, _ in value(browser, "seen")] == ["before", "late", "after"]


def test_close_stops_reading_and_an_unknown_option_is_refused(
    server: sse_fast.Server, browser: Chrome, follow: Follow
) -> None:
    stream = server.stream("s")
    follow("/streams/s", "message")
    until(lambda: stream.subscribers == 1)
    browser.execute_script("reading.close()")
    until(lambda: stream.subscribers == 0)
    assert state(browser) == ("closed", "asked")
    follow("/streams/s", "message", onEvnt=1)
    assert value(browser, "errors") == ["TypeError: connect: unknown option onEvnt"]


def test_every_state_has_words(server: sse_fast.Server, browser: Chrome, follow: Follow) -> None:
    server.stream("s").end()
    follow("/streams/s", "message")
    until(lambda: state(browser)[0] in {"ended", "closed"})
    states = value(browser, "states")
    assert states[0]["state"] == "connecting"
    assert all(state["message"] and state["since"] for state in states), json.dumps(states)
