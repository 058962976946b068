"""A real browser's plain EventSource.

Guards what no parser of ours can prove: that Chromium delivers every event once,
resumes by itself after a cut with Last-Event-ID, and stops after the terminal event.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome

import sse_fast
from conftest import Serve
from support.chromium import console
from support.deadline import until
from support.proxy import Proxy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: A page that keeps what EventSource reports.
PAGE = """<!doctype html><title>EventSource</title><body><script>
window.seen = []; window.opened = 0; window.errors = 0;
window.follow = (url, names) => {
  window.source = new EventSource(url);
  source.onopen = () => { opened += 1; };
  source.onerror = () => { errors += 1; };
  for (const name of ["message", ...names])
    source.addEventListener(name, (event) => { seen.push([event.type, event.data, event.lastEventId]); });
};
</script>"""


@pytest.fixture
def page(server: sse_fast.Server) -> sse_fast.Server:
    """The `server` fixture with a page of its own origin."""
    server.get("/page")(lambda _req: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    return server


@pytest.fixture(autouse=True)
def blank_afterwards(browser: Chrome) -> Iterator[None]:
    """No page outlives its test, so that none reconnects to a server of the next one."""
    yield
    browser.get("about:blank")
    console(browser)


def follow(browser: Chrome, port: int, path: str, *names: str) -> None:
    browser.get(f"http://127.0.0.1:{port}/page")
    browser.execute_script("follow(arguments[0], arguments[1])", path, list(names))


def seen(browser: Chrome) -> list[list[str]]:
    value: list[list[str]] = browser.execute_script("return seen")
    return value


def test_event_source_receives_names_data_and_ids(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", heartbeat=0.05)
    follow(browser, page.port, "/streams/s", "tick", "end")
    until(lambda: stream.subscribers == 1)
    first = stream.publish("plain ✓")
    second = stream.publish({"n": 1, "text": "a\u2028b"}, event="tick")
    third = stream.publish("two\nlines\r\n", event="tick")
    last = stream.end("over")
    until(lambda: len(seen(browser)) == 4)
    assert seen(browser) == [
        ["message", "plain ✓", first],
        ["tick", '{"n":1,"text":"a\\u2028b"}', second],
        ["tick", "two\nlines\n", third],
        ["end", "over", last],
    ]


def test_event_source_stops_for_good_after_the_terminal_event(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", retry=0.05)
    follow(browser, page.port, "/streams/s", "end")
    until(lambda: stream.subscribers == 1)
    stream.publish("x")
    stream.end("over")
    # It reconnects with the terminal event's id, and 204 tells it to stay away.
    until(lambda: browser.execute_script("return source.readyState") == 2, what="a closed EventSource")
    assert [name for name, _, _ in seen(browser)] == ["message", "end"]


def test_event_source_resumes_after_a_cut_without_loss_or_repetition(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", retry=0.05, start="all")
    with Proxy(page.port) as proxy:
        follow(browser, proxy.port, "/streams/s", "end")
        for number in range(60):
            stream.publish(number)
            if number % 10 == 5:
                until(lambda number=number: len(seen(browser)) == number + 1)
                proxy.cut()
        stream.end("over")
        until(lambda: seen(browser) and seen(browser)[-1][0] == "end")
    assert [data for _, data, _ in seen(browser)] == [*map(str, range(60)), "over"]
    assert browser.execute_script("return opened") >= 6


def test_event_source_comes_back_to_a_restarted_server(serve: Serve, browser: Chrome) -> None:
    first = serve(retry=0.1)
    first.get("/page")(lambda _req: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    stream = first.stream("s")
    follow(browser, first.port, "/streams/s", "gap")
    until(lambda: stream.subscribers == 1)
    stream.publish("before")
    until(lambda: len(seen(browser)) == 1)
    first.close(drain=0.0)
    second = serve(first.port, retry=0.1, start="all")
    stream = second.stream("s")
    until(lambda: stream.subscribers == 1, 60, what="the browser coming back")
    stream.publish("after")
    until(lambda: len(seen(browser)) == 3)
    (_, before, _), (name, gap, _), (_, after, _) = seen(browser)
    assert (before, name, json.loads(gap)["skipped"], after) == ("before", "gap", None, "after")


COUNT = """
window.next = 0; window.wrong = []; window.done = null; window.gaps = 0; window.skipped = 0;
const source = new EventSource(arguments[0]);
source.onmessage = (event) => {
  if (Number(event.data) !== next && wrong.length < 10) wrong.push([next, event.data]);
  next = Number(event.data) + 1;
  window.received = (window.received ?? 0) + 1;
};
source.addEventListener("gap", (event) => {
  const missed = JSON.parse(event.data).skipped;
  gaps += 1; skipped += missed; next += missed;
});
source.addEventListener("end", (event) => { done = event.data; source.close(); });
"""


def test_a_loop_of_a_hundred_thousand_publishes_reaches_a_browser_whole(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", history=100_001, max_lag=100_001, history_bytes=64 << 20)
    browser.get(f"{page.url}/page")
    browser.execute_script(COUNT, "/streams/s")
    until(lambda: stream.subscribers == 1)
    for number in range(100_000):
        stream.publish(number)
    stream.end("over")
    until(lambda: browser.execute_script("return done") == "over", 120)
    assert browser.execute_script("return [received, gaps, wrong]") == [100_000, 0, []]


def test_with_default_options_a_browser_gets_everything_or_is_told_what_it_missed(
    page: sse_fast.Server, browser: Chrome
) -> None:
    stream = page.stream("s")
    browser.get(f"{page.url}/page")
    browser.execute_script(COUNT, "/streams/s")
    until(lambda: stream.subscribers == 1)
    for number in range(100_000):
        stream.publish(number)
    stream.end("over")
    until(lambda: browser.execute_script("return done") == "over", 120)
    received, skipped, wrong = browser.execute_script("return [received, skipped, wrong]")
    assert received + skipped == 100_000
    assert wrong == []


def test_closing_a_source_ends_its_subscription(page: sse_fast.Server, browser: Chrome) -> None:
    streams = [page.stream(f"s{number}") for number in range(5)]
    browser.get(f"{page.url}/page")
    for _ in range(3):
        browser.execute_script(
            "window.all = []; for (let i = 0; i < 5; i++) all.push(new EventSource(`/streams/s${i}`))"
        )
        until(lambda: [stream.subscribers for stream in streams] == [1] * 5)
        browser.execute_script("all.forEach((source) => source.close())")
        until(lambda: [stream.subscribers for stream in streams] == [0] * 5)


#: A page that reads five streams by the engine's own module, of the six connections that a browser has for a host.
MODULE = """<!doctype html><title>sse-fast.js</title><body><script type="module">
import { connect } from "/sse-fast.js";
window.seen = []; window.states = []; window.restored = false;
addEventListener("pageshow", (event) => { restored ||= event.persisted; });
for (let i = 0; i < 5; i++)
  connect(`/streams/s${i}`, {
    on: { message: (data) => seen.push([i, data]) },
    onState: ({ state }) => { states[i] = state; },
  });
</script>"""


def test_a_page_that_is_left_lets_go_of_its_connections_and_continues_when_it_is_back(
    server: sse_fast.Server, browser: Chrome
) -> None:
    """Chromium keeps a page that is left for its back button, and for a minute its event sources with it."""
    server.get("/module")(lambda _req: sse_fast.Response(MODULE, content_type="text/html; charset=utf-8"))
    streams = [server.stream(f"s{number}") for number in range(5)]
    browser.get(f"{server.url}/module")
    until(lambda: [stream.subscribers for stream in streams] == [1] * 5)
    for stream in streams:
        stream.publish("before")
    until(lambda: len(seen(browser)) == 5)
    browser.get("about:blank")
    until(lambda: [stream.subscribers for stream in streams] == [0] * 5)
    for stream in streams:
        stream.publish("meanwhile")
    browser.back()
    until(lambda: [stream.subscribers for stream in streams] == [1] * 5)
    for stream in streams:
        stream.publish("after")
    until(lambda: len(seen(browser)) == 15)
    assert browser.execute_script("return restored"), "the page was loaded anew, so nothing was proven"
    for number in range(5):
        assert [data for i, data in seen(browser) if i == number] == ["before", "meanwhile", "after"]
    until(lambda: browser.execute_script("return states") == ["live"] * 5)
    assert [stream.subscribers for stream in streams] == [1] * 5, "coming back opened a connection twice"
