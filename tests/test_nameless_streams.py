"""Streams without a name, which only a handler can hand out.

Guards that no URL and no list leads to one, that it is read as any other through its handler, and that
nothing of it is left once nobody holds it and nobody reads it.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.reader import Reader, fetch


def test_a_handler_hands_it_out_and_nothing_else_leads_to_it(server: sse_fast.Server) -> None:
    stream = server.stream(None, start="all")

    @server.get("/one")
    def one(_request: sse_fast.Request) -> sse_fast.Stream:
        return stream

    stream.publish("first")
    with Reader(server.port, "/one") as reader:
        reader.open()
        until(lambda: stream.subscribers == 1)
        stream.publish("second")
        stream.end("over")
        assert [event.data for event in reader.rest()] == ["first", "second", "over"]
    assert server.streams() == []
    assert server.stats().streams == 1
    assert server.stats().published == 3
    assert fetch(server.port, "/streams/")[0].status == 404


def test_it_has_no_name_and_says_so(server: sse_fast.Server) -> None:
    stream = server.stream(None)
    assert stream.name == ""
    assert repr(stream) == "<sse_fast.Stream without a name, open, 0 subscribers>"
    with pytest.raises(sse_fast.SettingError, match="name"):
        server.stream(stream.name)
    stream.end()
    with pytest.raises(sse_fast.StreamEnded, match="a nameless stream"):
        stream.publish("late")


def test_two_of_them_are_two(server: sse_fast.Server) -> None:
    first, second = server.stream(None, start="all"), server.stream(None, start="all")
    first.publish("x")
    assert first.last_id is not None
    assert second.last_id is None


def test_options_are_its_own(server: sse_fast.Server) -> None:
    stream = server.stream(None, history=2, max_lag=2)
    stream.publish_many(("x", None) for _ in range(5))
    assert stream.stats().retained == 2
    with pytest.raises(sse_fast.SettingError, match="historie"):
        server.stream(None, historie=2)  # type: ignore[call-arg]


def test_nothing_is_left_of_one_that_nobody_holds(server: sse_fast.Server) -> None:
    """What its callback holds goes with it."""

    class Callback:
        def __call__(self) -> None:
            raise AssertionError("nobody has asked for it")

    callback = Callback()
    alive = weakref.ref(callback)
    stream = server.stream(None)
    stream.on_empty(callback)
    del callback
    assert alive() is not None
    del stream
    until(lambda: gc.collect() is not None and alive() is None, what="the stream is forgotten, and its callback")


def test_a_reader_keeps_one_that_nobody_else_holds(server: sse_fast.Server) -> None:
    @server.get("/one")
    def one(_request: sse_fast.Request) -> sse_fast.Stream:
        stream = server.stream(None, start="all", heartbeat=0.02)
        stream.publish("x")
        return stream

    with Reader(server.port, "/one") as reader:
        reader.read_until(lambda: len(reader.parser.comments) >= 3, what="heartbeats")
        assert [event.data for event in reader.parser.events] == ["x"]


def test_closing_the_server_wakes_who_waits_for_one(serve: Serve) -> None:
    server = serve()
    stream = server.stream(None)
    over = threading.Event()

    def read() -> None:
        assert list(stream.events()) == []
        over.set()

    threading.Thread(target=read, daemon=True).start()
    server.close(0.0)
    assert over.wait(DEADLINE)
    with pytest.raises(sse_fast.ServerClosed):
        server.stream(None)


def test_a_run_may_have_one(server: sse_fast.Server) -> None:
    stream = server.stream(None)
    run = server.run([sys.executable, "-c", "print('SSE_EVENT:data: 1')"], stream=stream, history=10)
    assert run.stream is stream
    assert run.wait(DEADLINE) == 0
    assert next(stream.events(start="all", timeout=DEADLINE)).data == "1"
    assert server.streams() == []


def test_a_watch_may_have_one(server: sse_fast.Server) -> None:
    watch = server.watch(lambda: "DONE", stream=server.stream(None), until={"DONE"}, every=0.01)
    watch.wait(DEADLINE)
    assert watch.stream.ended


def test_handles_on_one_stream_are_equal(server: sse_fast.Server) -> None:
    joined: list[sse_fast.Stream] = []
    server.on_join(lambda stream, _reader: joined.append(stream))
    nameless, named = server.stream(None), server.stream("s")

    @server.get("/chat")
    def chat(_: sse_fast.Request) -> sse_fast.Stream:
        return nameless

    with Reader(server.port, "/chat") as reader:
        reader.open()
        until(lambda: joined, what="the reader")
        assert joined[0] is not nameless
        assert joined[0] == nameless
        assert len({joined[0], nameless}) == 1
    assert named == server.stream("s") != nameless
    assert named != "s"
    named.remove()
    assert named != server.stream("s"), "the next life of the name"
