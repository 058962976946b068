"""`sse-fast.js` in many tabs: one connection for all of them, whichever tab comes, goes or sleeps.

Guards that twenty tabs cost the server one subscriber and leave the browser's connections to their pages, that a tab
that comes late is told what a new reader is told, and that neither the end of the tab that reads for all, nor that of
the server, costs any tab an event or gives it one twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome

import sse_fast
from conftest import Serve
from support.chromium import chromium
from support.deadline import until
from support.proxy import Proxy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGE = """<!doctype html><title>a tab</title><script type="module">
import { connect } from "/sse-fast.js";
window.seen = []; window.states = []; window.gaps = [];
window.reading = connect("/streams/s", {
  on: { "*": (data, { event }) => seen.push(event === "message" ? data : [event, data]) },
  onState: (state) => states.push(state),
  onGap: ({ skipped }) => gaps.push(skipped),
  ...JSON.parse(decodeURIComponent(location.hash.slice(1) || "{}")),
});
</script>"""

OpenTab = Callable[..., str]


def page_of(server: sse_fast.Server) -> None:
    server.get("/tab")(lambda _req: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    server.get("/hello")(lambda _req: {"hello": True})


@pytest.fixture
def server(server: sse_fast.Server) -> sse_fast.Server:
    page_of(server)
    return server


@pytest.fixture
def open_tab(browser: Chrome) -> Iterator[OpenTab]:
    """Opens the page in a new tab and returns the tab; at the end only the first, empty one is left."""
    first = browser.current_window_handle

    def start(port: int, options: str = "", host: str = "127.0.0.1") -> str:
        browser.switch_to.new_window("tab")
        browser.get(f"http://{host}:{port}/tab{options}")
        return browser.current_window_handle

    yield start
    for handle in browser.window_handles:
        if handle != first:
            browser.switch_to.window(handle)
            browser.close()
    browser.switch_to.window(first)


def of(browser: Chrome, tab: str, name: str) -> Any:
    browser.switch_to.window(tab)
    return browser.execute_script(f"return window.states && {name}")


def is_live(browser: Chrome, tab: str) -> bool:
    return of(browser, tab, "states.at(-1).state") == "live"


def close(browser: Chrome, tab: str) -> None:
    browser.switch_to.window(tab)
    browser.close()


def joins(server: sse_fast.Server) -> list[str]:
    """A list that grows by a stream's name with every subscriber that comes."""
    names: list[str] = []
    server.on_join(lambda stream, _reader: names.append(stream.name))
    return names


FETCH = "const done = arguments[0]; fetch('/hello').then((r) => r.json()).then(done)"


@pytest.mark.alone
def test_twenty_tabs_share_one_connection_and_leave_the_others_to_their_pages(
    server: sse_fast.Server, browser: Chrome, open_tab: OpenTab
) -> None:
    stream, came = server.stream("s"), joins(server)
    tabs = [open_tab(server.port) for _ in range(20)]
    for tab in tabs:
        until(lambda tab=tab: is_live(browser, tab))
    assert stream.subscribers == 1
    stream.publish({"n": 1})
    for tab in tabs:
        until(lambda tab=tab: of(browser, tab, "seen") == [{"n": 1}])
        before = time.monotonic()
        assert browser.execute_async_script(FETCH) == {"hello": True}
        assert time.monotonic() - before < 1
    assert came == ["s"], "more than one connection was made"
    stream.end("over", event="FINISHED")
    for tab in tabs:
        until(lambda tab=tab: of(browser, tab, "states.at(-1).state") == "ended")
        assert of(browser, tab, "states.map(({ state }) => state).filter((s) => s !== 'live')") == [
            "connecting",
            "ended",
        ]


def test_the_tab_that_reads_for_all_is_replaced_without_loss(
    server: sse_fast.Server, browser: Chrome, open_tab: OpenTab
) -> None:
    stream, came = server.stream("s", history=10_000, max_lag=10_000), joins(server)
    tabs = [open_tab(server.port) for _ in range(4)]
    for tab in tabs:
        until(lambda tab=tab: is_live(browser, tab))
    stopped = threading.Event()

    def publish() -> None:
        for number in range(10_000):
            stream.publish(number)
            if stopped.wait(0.003):
                return

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for index, tab in enumerate(tabs[:3]):
            until(lambda tab=tab: len(of(browser, tab, "seen")) > 50)
            close(browser, tab)
            until(lambda index=index: len(came) == index + 2, what="another tab reading for all")
            seen = len(of(browser, tabs[-1], "seen"))
            until(lambda seen=seen: len(of(browser, tabs[-1], "seen")) > seen + 50)
    finally:
        stopped.set()
        publisher.join()
    stream.end("over")
    until(lambda: of(browser, tabs[-1], "states.at(-1).state") == "ended")
    *numbers, end = of(browser, tabs[-1], "seen")
    assert end == ["end", "over"]
    assert numbers == list(range(len(numbers)))
    assert of(browser, tabs[-1], "gaps") == []


@pytest.mark.parametrize("start", ["all", "last", "new"])
def test_a_tab_that_comes_late_is_told_what_a_new_reader_is_told(
    server: sse_fast.Server, browser: Chrome, open_tab: OpenTab, start: Any
) -> None:
    stream, came = server.stream("s", start=start), joins(server)
    first = open_tab(server.port)
    until(lambda: is_live(browser, first))
    for number in range(5):
        stream.publish(number)
    until(lambda: len(of(browser, first, "seen")) == 5)
    late = open_tab(server.port)
    until(lambda: is_live(browser, late))
    stream.publish(5)
    until(lambda: (of(browser, late, "seen") or [None])[-1] == 5)
    assert of(browser, late, "seen") == {"all": [0, 1, 2, 3, 4, 5], "last": [4, 5], "new": [5]}[start]
    assert came == ["s"]


def test_a_tab_that_comes_late_gets_the_snapshot_and_nothing_that_it_covers(
    server: sse_fast.Server, browser: Chrome, open_tab: OpenTab
) -> None:
    """Tabs come while events do, so that some are on their way to the others at that very moment."""
    stream = server.stream("s", history=10_000, max_lag=10_000)
    tabs = [open_tab(server.port)]
    until(lambda: is_live(browser, tabs[0]))
    stopped = threading.Event()

    def publish() -> None:
        for number in range(1, 10_000):
            stream.publish(number, snapshot={"up_to": number} if number % 10 == 0 else None)
            if stopped.wait(0.002):
                return

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for _ in range(6):
            tabs.append(open_tab(server.port))
            until(lambda: len(of(browser, tabs[-1], "seen") or []) > 20)
    finally:
        stopped.set()
        publisher.join()
    newest = stream.last_id
    for tab in tabs[1:]:
        until(lambda tab=tab: of(browser, tab, "reading.lastEventId") == newest)
        (name, snapshot), *numbers = of(browser, tab, "seen")
        assert name == "snapshot"
        assert numbers == list(range(snapshot["up_to"] + 1, snapshot["up_to"] + 1 + len(numbers)))
    assert stream.subscribers == 1


@pytest.mark.parametrize("start", ["all", "new"])
def test_streams_without_ids_are_not_shared_with_a_tab_that_comes_late(
    server: sse_fast.Server, browser: Chrome, open_tab: OpenTab, start: Any
) -> None:
    """Nobody could tell which of their events it has."""
    stream = server.stream("s", ids=False, start=start)
    first = open_tab(server.port)
    until(lambda: is_live(browser, first))
    stream.publish("a")
    until(lambda: of(browser, first, "seen") == ["a"])
    late = open_tab(server.port)
    until(lambda: stream.subscribers == 2)
    stream.publish("b")
    until(lambda: of(browser, late, "seen") == (["a", "b"] if start == "all" else ["b"]))
    assert of(browser, first, "seen") == ["a", "b"]


def test_all_tabs_come_back_to_a_restarted_server(serve: Serve, browser: Chrome, open_tab: OpenTab) -> None:
    first = serve(retry=0.1, start="all")
    page_of(first)
    stream = first.stream("s")
    tabs = [open_tab(first.port) for _ in range(3)]
    for tab in tabs:
        until(lambda tab=tab: is_live(browser, tab))
    stream.publish("before")
    for tab in tabs:
        until(lambda tab=tab: of(browser, tab, "seen") == ["before"])
    first.close(drain=0.0)
    for tab in tabs:
        until(lambda tab=tab: not is_live(browser, tab))
    second = serve(first.port, retry=0.1, start="all")
    stream = second.stream("s")
    until(lambda: stream.subscribers == 1, 60, what="the tabs coming back")
    stream.publish("after")
    for tab in tabs:
        until(lambda tab=tab: of(browser, tab, "seen") == ["before", "after"])
        assert of(browser, tab, "gaps") == [None]
        assert is_live(browser, tab)
    assert stream.subscribers == 1


def test_the_last_tab_that_closes_takes_the_connection_along(
    server: sse_fast.Server, browser: Chrome, open_tab: OpenTab
) -> None:
    stream = server.stream("s")
    tabs = [open_tab(server.port) for _ in range(2)]
    for tab in tabs:
        until(lambda tab=tab: is_live(browser, tab))
    browser.switch_to.window(tabs[1])
    browser.execute_script("reading.close()")
    assert stream.subscribers == 1
    browser.switch_to.window(tabs[0])
    browser.execute_script("reading.close()")
    until(lambda: stream.subscribers == 0)


def test_a_tab_that_is_looked_at_takes_the_place_of_a_hidden_one_that_is_not_live(
    server: sse_fast.Server, browser: Chrome, open_tab: OpenTab
) -> None:
    """Browsers slow the timers of hidden tabs down to one a minute, and put some tabs to sleep."""
    stream = server.stream("s")
    with Proxy(server.port) as proxy:
        hidden, shown = open_tab(proxy.port), open_tab(proxy.port)
        for tab in (hidden, shown):
            until(lambda tab=tab: is_live(browser, tab))
        stream.publish("before")
        for tab in (hidden, shown):
            until(lambda tab=tab: of(browser, tab, "seen") == ["before"])
        browser.switch_to.window(hidden)
        # It says that it is hidden; its clock stands still from now on, and its requests get nowhere.
        browser.execute_script(
            "Object.defineProperty(document, 'visibilityState', { value: 'hidden' });"
            "window.setTimeout = () => 0; window.fetch = () => new Promise(() => {});"
        )
        until(lambda: stream.subscribers == 1)
        proxy.cut()
        until(lambda: is_live(browser, shown) and stream.subscribers == 1, what="the tab in front reading")
        stream.publish("after")
        for tab in (shown, hidden):
            until(lambda tab=tab: of(browser, tab, "seen") == ["before", "after"])
        assert stream.subscribers == 1


def test_without_tls_a_worker_reads_for_all_tabs(serve: Serve) -> None:
    """Such pages have no locks to agree by; a name that is not this computer's own makes one here."""
    server = serve(allowed_hosts=["tabs.test"])
    page_of(server)
    stream, came = server.stream("s", start="all"), joins(server)
    with chromium("--host-resolver-rules=MAP tabs.test 127.0.0.1") as browser:
        tabs = []
        for _ in range(8):
            browser.switch_to.new_window("tab")
            browser.get(f"http://tabs.test:{server.port}/tab")
            tabs.append(browser.current_window_handle)
        assert browser.execute_script("return isSecureContext") is False
        for tab in tabs:
            until(lambda tab=tab: is_live(browser, tab))
        stream.publish("x")
        for tab in tabs:
            until(lambda tab=tab: of(browser, tab, "seen") == ["x"])
            assert browser.execute_async_script(FETCH) == {"hello": True}
        assert came == ["s"]
        for tab in tabs[1:]:
            close(browser, tab)
        stream.publish("y")
        until(lambda: of(browser, tabs[0], "seen") == ["x", "y"])
        assert stream.subscribers == 1
