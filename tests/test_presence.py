"""Streams that nobody reads any more.

Guards that a callback is called once for each time, after the time asked for, and never for a stream that nobody has
asked for; that a client that left before it read is told of; that a coroutine or a thread can wait for it instead; and
that a callback's faults stay its own. Who comes and goes is in test_joins_and_leaves.py.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time

import pytest
import uvloop

import sse_fast
from conftest import Open, Serve
from support.calls import Count
from support.deadline import DEADLINE, until, until_async
from support.held import Held
from support.reader import Reader, fetch

#: A time that has not passed by itself before a test is over.
LONG = 1000.0


class After:
    """Another callback on the same thread: once it was called, everything told before it was."""

    def __init__(self, server: sse_fast.Server) -> None:
        self._server = server

    def everything_was_told(self) -> None:
        stream, told = self._server.stream(None), threading.Event()

        @self._server.get(f"/{id(told)}")
        def hand_out(_request: sse_fast.Request) -> sse_fast.Stream:
            return stream

        stream.on_empty(told.set, after=0.0)
        with Reader(self._server.port, f"/{id(told)}") as reader:
            reader.open()
        assert told.wait(DEADLINE)


# ---- on_empty ------------------------------------------------------------------------------


def test_it_is_called_each_time_the_last_reader_has_left(server: sse_fast.Server, read: Open) -> None:
    stream, empty = server.stream("s"), Count()
    assert stream.on_empty(empty, after=0.0) is empty
    for number in (1, 2, 3):
        first, second = read().open(), read().open()
        until(lambda: stream.subscribers == 2)
        first.close()
        until(lambda: stream.subscribers == 1)
        After(server).everything_was_told()
        assert empty.calls == number - 1, "one is still here"
        second.close()
        until(lambda number=number: empty.calls == number, what=f"call {number}")  # type: ignore[misc]


def test_it_decorates_a_function(server: sse_fast.Server, read: Open) -> None:
    empty = threading.Event()

    @server.stream("s").on_empty
    def nobody() -> None:
        empty.set()

    assert nobody.__name__ == "nobody"
    server.stream("s").on_empty(nobody, after=0.0)
    read().open().close()
    assert empty.wait(DEADLINE)


def test_a_stream_that_nobody_has_asked_for_is_not_empty(server: sse_fast.Server) -> None:
    stream, empty = server.stream("s"), Count()
    stream.on_empty(empty, after=0.0)
    stream.publish("x")
    list(itertools.islice(stream.events(start="all", timeout=DEADLINE), 1))  # A reader in this process is none.
    fetch(server.port, "/streams/s", headers=[("Accept", "application/json")])
    After(server).everything_was_told()
    assert empty.calls == 0


def test_a_reader_that_comes_back_in_time_was_never_gone(server: sse_fast.Server, read: Open) -> None:
    stream, soon, late = server.stream("s"), threading.Event(), Count()
    stream.on_empty(late, after=LONG)
    stream.on_empty(soon.set, after=0.0)
    read().open().close()
    assert soon.wait(DEADLINE)
    with read().open():
        After(server).everything_was_told()
    assert late.calls == 0


def test_by_default_a_name_is_given_ten_times_as_long(server: sse_fast.Server) -> None:
    """What is waited for is seen from the numbers alone."""
    named, nameless = server.stream("s"), server.stream(None)

    @server.get("/nameless")
    def hand_out(_request: sse_fast.Request) -> sse_fast.Stream:
        return nameless

    called: list[tuple[str, float]] = []
    named.on_empty(lambda: called.append(("named", time.monotonic())))
    nameless.on_empty(lambda: called.append(("nameless", time.monotonic())))
    with Reader(server.port, "/streams/s") as one, Reader(server.port, "/nameless") as other:
        one.open(), other.open()
        until(lambda: named.subscribers == nameless.subscribers == 1)
    left = time.monotonic()
    until(lambda: len(called) == 2, 60.0)
    (first, at), (second, later) = called
    assert (first, second) == ("nameless", "named")
    assert at - left >= 0.9
    assert later - left >= 9.9


def test_a_client_that_leaves_while_its_handler_works_was_the_last(serve: Serve) -> None:
    server = serve()
    stream, empty, held = server.stream(None), threading.Event(), Held()
    stream.on_empty(empty.set, after=0.0)

    @server.get("/late")
    def late(request: sse_fast.Request) -> sse_fast.Stream:
        held(request)
        return stream

    with held:
        with Reader(server.port, "/late") as reader:
            assert held.begun.wait(DEADLINE)
            reader.reset()
        until(lambda: server.stats().connections == 0)
        assert not empty.is_set(), "the handler has not handed it out yet"
        held.go.set()
        assert empty.wait(DEADLINE)


def test_a_client_that_leaves_an_early_head_was_the_last(serve: Serve) -> None:
    server = serve(heartbeat=0.02)
    stream, empty, held = server.stream(None), threading.Event(), Held()
    stream.on_empty(empty.set, after=0.0)
    joins = Count()
    server.on_join(joins)

    @server.post("/chat", early_head=True)
    def chat(request: sse_fast.Request) -> sse_fast.Stream:
        held(request)
        return stream

    with held:
        with Reader(server.port, "/chat", method="POST") as reader:
            reader.read_until(lambda: reader.parser.comments, what="a heartbeat")
            assert held.begun.is_set()
        until(lambda: server.stats().subscribers == 0)
        held.go.set()
        assert empty.wait(DEADLINE)
    assert joins.calls == 0, "what stood for the stream is nobody's business"


def test_a_client_that_stays_through_an_early_head_is_not_gone(serve: Serve) -> None:
    server = serve(heartbeat=0.02)
    stream, empty, held = server.stream(None), Count(), Held()
    stream.on_empty(empty, after=0.0)

    @server.post("/chat", early_head=True)
    def chat(request: sse_fast.Request) -> sse_fast.Stream:
        held(request)
        return stream

    with held, Reader(server.port, "/chat", method="POST") as reader:
        reader.read_until(lambda: reader.parser.comments, what="a heartbeat")
        held.go.set()
        until(lambda: stream.subscribers == 1)
        After(server).everything_was_told()
        assert empty.calls == 0
    until(lambda: empty.calls == 1)


@pytest.mark.parametrize(("name", "calls"), [(None, 1), ("jobs/1", 0)])
def test_an_answer_that_is_not_a_subscription(server: sse_fast.Server, name: str | None, calls: int) -> None:
    """A nameless stream has no other reader to come; one with a name was asked about, and may be read yet."""
    stream, empty = server.stream(name), Count()
    stream.on_empty(empty, after=0.0)

    @server.get("/job")
    def job(_request: sse_fast.Request) -> sse_fast.Stream:
        return stream

    assert fetch(server.port, "/job", headers=[("Accept", "application/json")])[0].status == 200
    After(server).everything_was_told()
    until(lambda: empty.calls == calls)


def test_a_stream_that_is_over_is_told_of_a_last_time(server: sse_fast.Server, read: Open) -> None:
    stream, empty = server.stream("s", start="all"), Count()
    stream.on_empty(empty, after=0.0)
    with read().open() as reader:
        until(lambda: stream.subscribers == 1)
        stream.end("over")
        reader.rest()
    until(lambda: empty.calls == 1)
    with read().open() as late:
        late.rest()
    After(server).everything_was_told()
    assert empty.calls == 1


def test_the_callback_may_end_the_stream_and_close_the_server(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s")
    closed = threading.Event()

    def end() -> None:
        stream.end("nobody is left")
        server.close(0.0)
        closed.set()

    stream.on_empty(end, after=0.0)
    with Reader(server.port) as reader:
        reader.open()
    assert closed.wait(DEADLINE)
    assert server.closed


@pytest.mark.parametrize("error", [ValueError("told to"), SystemExit(3)])
def test_a_callback_that_raises_is_logged_and_stops_no_other(
    server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    stream, called = server.stream("s"), threading.Event()

    def fails() -> None:
        raise error

    stream.on_empty(fails, after=0.0)
    stream.on_empty(called.set, after=0.0)
    with caplog.at_level(logging.ERROR, "sse_fast.presence"):
        read().open().close()
        assert called.wait(DEADLINE)
    assert [record.name for record in caplog.records] == ["sse_fast.presence"]
    assert "fails" in caplog.records[0].getMessage()


def test_what_cannot_be_a_callback_is_refused(server: sse_fast.Server) -> None:
    async def coroutine(*_arguments: object) -> None:
        raise AssertionError

    stream = server.stream("s")
    for wrong in (None, 3, "f", coroutine):
        for call in (stream.on_empty, server.on_join, server.on_leave):
            with pytest.raises(sse_fast.ArgumentTypeError, match="callback"):
                call(wrong)  # type: ignore[operator]
    with pytest.raises(sse_fast.SettingError, match="after"):
        stream.on_empty(print, after=-1.0)


def test_a_closed_server_takes_no_callback(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s")
    server.close(0.0)
    for call in (stream.on_empty, server.on_join, server.on_leave):
        with pytest.raises(sse_fast.ServerClosed):
            call(print)


# ---- wait_empty, await_empty ---------------------------------------------------------------


def test_a_thread_waits_until_nobody_is_left(server: sse_fast.Server, read: Open) -> None:
    stream, over = server.stream("s"), threading.Event()
    with pytest.raises(sse_fast.WaitTimeout, match=r"'s' was not empty within 0\.01 s"):
        stream.wait_empty(0.01, after=0.0)
    reader = read().open()

    def wait() -> None:
        stream.wait_empty(DEADLINE, after=0.0)
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    with pytest.raises(sse_fast.WaitTimeout):
        stream.wait_empty(0.05, after=0.0)
    assert not over.is_set()
    reader.close()
    assert over.wait(DEADLINE)
    stream.wait_empty(0.0, after=0.0)
    with pytest.raises(sse_fast.WaitTimeout):
        stream.wait_empty(0.01, after=LONG)
    stream.remove()
    with pytest.raises(sse_fast.WaitTimeout):
        stream.wait_empty(0.01, after=LONG)


def test_a_stream_that_was_removed_is_waited_for_no_longer(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.remove()
    stream.wait_empty(DEADLINE)
    asyncio.run(stream.await_empty(DEADLINE))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_coroutines_wait_until_nobody_is_left(server: sse_fast.Server, read: Open, run) -> None:  # type: ignore[no-untyped-def]
    stream = server.stream("s")

    async def main() -> None:
        with pytest.raises(sse_fast.WaitTimeout):
            await stream.await_empty(0.01, after=0.0)
        reader = await asyncio.to_thread(lambda: read().open())
        waiting = [asyncio.create_task(stream.await_empty(DEADLINE, after=after)) for after in (0.0, 0.05, LONG)]
        stream.publish("x")  # News is not what they wait for.
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        reader.close()
        await asyncio.gather(*waiting[:2])
        assert not waiting[2].done()
        waiting[2].cancel()
        await asyncio.wait(waiting)

    run(main())


def test_one_that_comes_back_is_waited_for_again(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")

    async def main() -> None:
        reader = await asyncio.to_thread(lambda: read().open())
        waiting = asyncio.create_task(stream.await_empty(DEADLINE, after=1.0))
        reader.close()
        await until_async(lambda: stream.subscribers == 0)
        second = await asyncio.to_thread(lambda: read().open())
        with pytest.raises(sse_fast.WaitTimeout):
            await stream.await_empty(1.5, after=1.0)
        assert not waiting.done()
        second.close()
        await waiting

    asyncio.run(main())


def test_a_closing_server_tells_of_the_readers_that_it_ends(serve: Serve) -> None:
    """Whether the handler's stream was read, was about to be, or still waited for its early head's reader."""
    for number in range(60):
        server, gone = serve(), threading.Event()
        stream = server.stream(None, start="all", ids=False)
        stream.on_empty(gone.set, after=0.0)
        server.post("/c", early_head=True, heartbeat=0.05, ids=False)(lambda _request, stream=stream: stream)
        with Reader(server.port, "/c", method="POST", body=b"x") as reader:
            reader.open()
            until(lambda server=server: server.stats().subscribers == 1)
            server.close(drain=0.2)
            assert gone.wait(DEADLINE), f"server {number} told nobody"


def test_closing_ends_every_wait(serve: Serve) -> None:
    server = serve()
    stream, raised = server.stream("s"), threading.Event()

    def wait() -> None:
        with pytest.raises(sse_fast.ServerClosed):
            stream.wait_empty()
        raised.set()

    async def main() -> None:
        waiting = asyncio.create_task(stream.await_empty())
        await asyncio.sleep(0)
        threading.Thread(target=wait, daemon=True).start()
        await asyncio.to_thread(server.close, 0.0)
        with pytest.raises(sse_fast.ServerClosed):
            await waiting

    asyncio.run(main())
    assert raised.wait(DEADLINE)
