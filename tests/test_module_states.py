"""What `sse-fast.js` tells a page about its connection, and what it does about it, seen in Chromium.

Guards that an end is learned from the server whatever its event is called, that a healthy page is never reconnected,
that fast switches leave nothing behind, and that a browser without a free connection is told apart from a server that
cannot be reached.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome

import sse_fast
from support.deadline import until
from support.proxy import Proxy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PAGE = """<!doctype html><title>states</title><script type="module">
import { connect } from "/sse-fast.js";
window.connect = connect;
window.follow = (url, options = {}) => {
  const about = { seen: [], states: [], gaps: [] };
  const on = Object.fromEntries((options.names ?? ["message"]).map(
    (name) => [name, (data, { event, stream }) => about.seen.push(stream ? [stream, data] : data)]));
  delete options.names;
  about.reading = connect(url, {
    on, onState: (state) => about.states.push(state), onGap: (gap) => about.gaps.push(gap), ...options,
  });
  return about;
};
window.ready = true;
</script>"""

Open = Callable[..., None]
BOTH = pytest.mark.parametrize("share", [False, True], ids=["alone", "shared"])


@pytest.fixture
def server(server: sse_fast.Server) -> sse_fast.Server:
    server.get("/page")(lambda _req: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    server.get("/hello")(lambda _req: {"hello": True})
    return server


@pytest.fixture
def visit(server: sse_fast.Server, browser: Chrome) -> Iterator[Open]:
    """Opens the page; no page outlives its test."""

    def start(port: int | None = None) -> None:
        browser.get(f"http://127.0.0.1:{port or server.port}/page")
        until(lambda: browser.execute_script("return window.ready"))

    yield start
    browser.get("about:blank")


def follow(browser: Chrome, url: str | list[str], **options: Any) -> None:
    browser.execute_script("window.about = follow(...arguments)", url, options)


def value(browser: Chrome, name: str) -> Any:
    return browser.execute_script(f"return about.{name}")


def state(browser: Chrome) -> tuple[str, str | None]:
    last = value(browser, "states.at(-1)")
    return last["state"], last.get("reason")


def joins(server: sse_fast.Server) -> list[str]:
    names: list[str] = []
    server.on_join(lambda stream, _reader: names.append(stream.name))
    return names


@BOTH
@pytest.mark.parametrize("names", [["message"], ["message", "FINISHED"]], ids=["not listened for", "listened for"])
def test_an_end_is_learned_from_the_server_whatever_its_event_is_called(
    server: sse_fast.Server, browser: Chrome, visit: Open, share: bool, names: list[str]
) -> None:
    stream = server.stream("s", retry=60.0)  # The next connection would come after a minute.
    visit()
    follow(browser, "/streams/s", names=names, share=share)
    until(lambda: state(browser)[0] == "live")
    stream.end("over", event="FINISHED")
    until(lambda: state(browser)[0] == "ended")
    assert value(browser, "states.at(-1).event") == "FINISHED"
    assert value(browser, "seen") == ["over"] * (len(names) - 1)
    assert value(browser, "states.map(({ state }) => state)") == ["connecting", "live", "ended"]


@BOTH
def test_who_comes_after_the_end_is_told_so_at_once(
    server: sse_fast.Server, browser: Chrome, visit: Open, share: bool
) -> None:
    stream = server.stream("s", retry=60.0)
    stream.publish("x")
    newest = stream.end("over", event="FINISHED")
    visit()
    follow(browser, "/streams/s", lastEventId=newest, share=share)
    until(lambda: state(browser)[0] == "ended")
    assert {state["state"] for state in value(browser, "states")} <= {"connecting", "live", "ended"}


@BOTH
def test_a_healthy_page_is_never_reconnected_by_its_health_timer(
    server: sse_fast.Server, browser: Chrome, visit: Open, share: bool
) -> None:
    """Heartbeats do not put its question off, and its answer, that nothing was missed, changes nothing."""
    stream = server.stream("s", heartbeat=0.05, heartbeat_event="heartbeat", start="last")
    stream.publish("x")
    came = joins(server)
    visit()
    follow(browser, "/streams/s", idleTimeout=0.1, share=share)
    until(lambda: value(browser, "seen") == ["x"])
    before = server.stats().requests
    until(lambda: server.stats().requests >= before + 20, what="twenty questions by the health timer")
    assert came == ["s"]
    assert value(browser, "states.map(({ state }) => state)") == ["connecting", "live"]


@BOTH
def test_a_hundred_fast_switches_leave_one_connection(
    server: sse_fast.Server, browser: Chrome, visit: Open, share: bool
) -> None:
    streams = [server.stream(f"s{number}", start="all") for number in range(5)]
    for stream in streams:
        stream.publish(stream.name)
    visit()
    # Every other switch comes before the connection that it closes is open.
    browser.execute_async_script(
        """
        const [share, done] = arguments;
        (async () => {
          for (let turn = 0; turn <= 100; turn++) {
            window.about?.reading.close();
            window.about = follow(`/streams/s${turn % 5}`, { share });
            if (turn % 2) await new Promise((resolve) => setTimeout(resolve, turn % 20));
          }
        })().then(done);
        """,
        share,
    )
    until(lambda: value(browser, "seen") == ["s0"])
    until(lambda: [stream.subscribers for stream in streams] == [1, 0, 0, 0, 0])
    assert state(browser)[0] == "live"
    streams[0].publish("after")
    until(lambda: value(browser, "seen") == ["s0", "after"])


@BOTH
def test_a_browser_without_a_free_connection_is_not_taken_for_a_server_that_is_away(
    server: sse_fast.Server, browser: Chrome, visit: Open, share: bool
) -> None:
    stream, others = server.stream("s", start="all"), server.stream("others")
    stream.publish("x")
    visit()
    browser.execute_script("window.held = Array.from({ length: 6 }, () => new EventSource('/streams/others'))")
    until(lambda: others.subscribers == 6)
    follow(browser, "/streams/s", pollEvery=0.5, share=share)
    until(lambda: state(browser) == ("waiting", "connections"))
    assert "six connections" in value(browser, "states.at(-1).message")
    browser.execute_script("held.pop().close()")
    until(lambda: state(browser)[0] == "live" and value(browser, "seen") == ["x"])
    assert "unreachable" not in {state.get("reason") for state in value(browser, "states")}


@BOTH
def test_a_server_that_does_not_answer_is_told_from_a_browser_without_a_free_connection(
    server: sse_fast.Server, browser: Chrome, visit: Open, share: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # It takes connections, and nobody reads what they bring.
        visit()
        follow(browser, f"http://127.0.0.1:{silent.getsockname()[1]}/streams/s", pollEvery=0.5, share=share)
        until(lambda: state(browser) == ("polling", "unreachable"), 30)
        assert "the server does not answer" in value(browser, "states.at(-1).message")
        assert "connections" not in {state.get("reason") for state in value(browser, "states")}


@BOTH
def test_a_server_that_refuses_connections_cannot_be_reached(
    server: sse_fast.Server, browser: Chrome, visit: Open, share: bool
) -> None:
    server.stream("s", start="all").publish("x")
    with Proxy(server.port) as proxy:
        visit(proxy.port)
        proxy.refusing = True
        proxy.cut()
        follow(browser, "/streams/s", pollEvery=0.2, share=share)
        until(lambda: state(browser) == ("polling", "unreachable"), 30)
        assert "cannot be reached" in value(browser, "states.at(-1).message")
        proxy.refusing = False
        until(lambda: value(browser, "seen") == ["x"])
        until(lambda: state(browser)[0] == "live", 30)


@pytest.mark.alone
def test_twenty_streams_in_one_page_leave_it_a_connection_and_are_all_live(
    server: sse_fast.Server, browser: Chrome, visit: Open
) -> None:
    """Five by streams, the others by polling: over HTTP/1.1 a browser has six connections to a server."""
    streams = [server.stream(f"s{number}") for number in range(20)]
    visit()
    browser.execute_script(
        "window.all = Array.from({ length: 20 }, (_, i) => follow(`/streams/s${i}`, { pollEvery: 0.5 }))"
    )
    ways = "return all.map(({ states }) => states.at(-1).state)"
    until(lambda: sorted(browser.execute_script(ways)) == ["live"] * 5 + ["polling"] * 15)
    for stream in streams:
        stream.publish(stream.name)
    until(
        lambda: (
            browser.execute_script("return all.map(({ seen }) => seen.join())") == [stream.name for stream in streams]
        )
    )
    elapsed = browser.execute_async_script(
        "const done = arguments[0], began = performance.now();"
        "fetch('/hello').then((r) => r.json()).then(() => done(performance.now() - began))"
    )
    assert elapsed < 1000
    # One that goes makes room for another.
    live = browser.execute_script(ways).index("live")
    browser.execute_script("all[arguments[0]].reading.close()", live)
    until(lambda: sum(stream.subscribers for stream in streams) == 5 and streams[live].subscribers == 0)


def test_several_streams_are_read_by_name(server: sse_fast.Server, browser: Chrome, visit: Open) -> None:
    """They come over one connection, as the module finds out by one question, and end with the last of them."""
    one, other = server.stream("a/b", start="all"), server.stream("c", start="all")
    one.publish(1)
    visit()
    follow(browser, ["a/b", "c"])
    until(lambda: state(browser)[0] == "live" and value(browser, "seen") == [["a/b", 1]])
    other.publish(2)
    until(lambda: value(browser, "seen") == [["a/b", 1], ["c", 2]])
    place = value(browser, "reading.lastEventId")
    one.end("over", event="FINISHED")
    other.publish(3)
    until(lambda: value(browser, "seen.at(-1)") == ["c", 3])
    assert state(browser)[0] == "live"
    other.end("over", event="FINISHED")
    until(lambda: state(browser)[0] == "ended")
    follow(browser, ["a/b", "c"], lastEventId=place)
    until(lambda: state(browser)[0] == "ended")
    assert value(browser, "seen") == [["c", 3]]


def test_a_post_is_resumed_by_its_ids(server: sse_fast.Server, browser: Chrome, visit: Open) -> None:
    asked: list[tuple[int, str | None]] = []

    @server.post("/work")
    def work(request: sse_fast.Request) -> sse_fast.Stream:
        job = request.json()["job"]
        asked.append((job, request.headers.get("last-event-id")))
        return server.stream(f"work/{job}", start="all")

    with Proxy(server.port) as proxy:
        visit(proxy.port)
        options = {"method": "POST", "body": '{"job":7}', "headers": {"Content-Type": "application/json"}}
        follow(browser, "/work", fetchOptions=options)
        until(lambda: state(browser)[0] == "live")
        stream = server.stream("work/7")
        first = stream.publish(1)
        until(lambda: value(browser, "seen") == [1])
        proxy.cut()
        stream.publish(2)
        until(lambda: value(browser, "seen") == [1, 2], 30)
        stream.end("over")
        until(lambda: state(browser)[0] == "ended")
    assert asked == [(7, None), (7, first)]
    assert ("waiting", "dropped") in [(state["state"], state.get("reason")) for state in value(browser, "states")]


def test_a_generator_that_was_cut_off_is_not_called_again(
    server: sse_fast.Server, browser: Chrome, visit: Open
) -> None:
    """Its work ended with its connection; the id tells the server which it was, and the page is told."""
    calls = []

    @server.post("/work")
    async def work(request: sse_fast.Request) -> AsyncIterator[int]:
        calls.append(request.body)
        yield 1
        await asyncio.Event().wait()

    with Proxy(server.port) as proxy:
        visit(proxy.port)
        follow(browser, "/work", names=["message", "error"], fetchOptions={"method": "POST", "body": "x"})
        until(lambda: value(browser, "seen") == [1])
        proxy.cut()
        until(lambda: state(browser)[0] == "ended", 30)
    assert value(browser, "seen.at(-1).error") == "reader_left"
    assert calls == [b"x"]


def test_a_post_without_ids_ends_with_its_answer_and_is_never_repeated(
    server: sse_fast.Server, browser: Chrome, visit: Open
) -> None:
    calls: list[str] = []
    streams: list[sse_fast.Stream] = []

    @server.post("/chat")
    def chat(request: sse_fast.Request) -> sse_fast.Stream:
        calls.append(request.body.decode())
        streams.append(server.stream(None, ids=False, start="all"))
        streams[-1].publish("Once")
        return streams[-1]

    with Proxy(server.port) as proxy:
        visit(proxy.port)
        options = {"method": "POST", "body": "tell"}
        follow(browser, "/chat", fetchOptions=options)
        until(lambda: value(browser, "seen") == ["Once"])
        streams[-1].end("[DONE]", event="")
        until(lambda: state(browser)[0] == "ended")
        assert value(browser, "seen") == ["Once", "[DONE]"]
        follow(browser, "/chat", fetchOptions=options)
        until(lambda: value(browser, "seen") == ["Once"])
        proxy.cut()
        until(lambda: state(browser) == ("gave-up", "cut-off"))
        assert calls == ["tell", "tell"]
        server.post("/refused")(lambda _req: sse_fast.Response({"error": "bad", "detail": "no model"}, status=422))
        follow(browser, "/refused", fetchOptions=options)
        until(lambda: state(browser) == ("gave-up", "refused"))
        assert [value(browser, f"states.at(-1).{name}") for name in ("status", "detail")] == [422, "no model"]
