"""Heartbeats are the engine's: by wall clock, whatever Python does.

Guards the heartbeat promises: a computation that holds the interpreter lock in C
silences none, the `with` block overrides and restores, an active subscriber gets
none, and thousands of subscribers do not get theirs in one instant.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import threading
import time

import pytest

import sse_fast
from conftest import Open, Serve
from support.beats import Beats
from support.deadline import until
from support.interpreter import Watcher, hold_the_interpreter
from support.process import Program
from support.reader import request


@pytest.mark.parametrize(("ids", "event"), [(True, None), (False, None), (True, "heartbeat")])
def test_heartbeats_go_out_while_c_code_holds_the_interpreter(serve: Serve, ids: bool, event: str | None) -> None:
    server = serve()
    stream = server.stream("s", heartbeat=0.2, ids=ids, heartbeat_event=event)
    with Watcher(server.port, "/streams/s", "heartbeat", 10) as watcher:
        assert watcher.hold_the_interpreter_until_enough(), "no heartbeats while the interpreter was held"
        stream.end("over")
        lines = watcher.lines()
    named = sum(line == "event: heartbeat" for line in lines)
    comments = sum(line == ": heartbeat" for line in lines)
    assert (named >= 10, comments) == (True, 0) if event else (named, comments >= 10) == (0, True)


def test_events_published_before_the_interpreter_was_held_are_delivered(server: sse_fast.Server) -> None:
    """However late the last publish, its event needs no interpreter to go out."""
    stream = server.stream("s", history=400, max_lag=400)
    with Watcher(server.port, "/streams/s", "data: ", 301) as watcher:
        for number in range(300):
            stream.publish(number)
        stream.publish("the last before")
        assert watcher.hold_the_interpreter_until_enough(), "delivery waited for the interpreter"
        stream.end("over")
        data = [line for line in watcher.lines() if line.startswith("data: ")]
    assert data == [*(f"data: {number}" for number in range(300)), "data: the last before", "data: over"]


def test_a_subscriber_that_gets_events_gets_no_heartbeat(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=1.0)
    reader = read().open()
    moments = [time.monotonic()]
    with Beats(server, 0.05) as beats:
        for _ in range(30):
            beats.wait()  # A pace well inside the interval.
            stream.publish("x")
            moments.append(time.monotonic())
    reader.take(30)
    # Where this process itself was not given the processor for that long there was a silence to be filled.
    longest = max(later - earlier for earlier, later in itertools.pairwise(moments))
    assert reader.parser.comments == [] or longest > 0.9
    reader.read_until(lambda: reader.parser.comments, what="a heartbeat once it is idle")


def test_without_a_heartbeat_there_is_silence(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    reader = read().open()
    reader.assert_silent(0.6)
    stream.publish("x")
    assert reader.next().data == "x"


def test_the_block_overrides_interval_and_comment_and_restores_them(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None, ids=False)
    reader = read().open()
    with stream.heartbeat(every=0.05, comment="prefill"):
        reader.read_until(lambda: len(reader.parser.comments) >= 3, what="heartbeats inside the block")
    stream.publish("outside")
    assert reader.next().data == "outside"
    assert set(reader.parser.comments) == {" prefill"}
    assert bytes(reader.body).startswith(b": prefill\n\n: prefill\n\n")
    reader.assert_silent(0.4)


def test_s2_4_blocks_nest_and_each_restores_the_one_outside(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    reader = read().open()

    def wait_for(comment: str) -> None:
        seen = len(reader.parser.comments)
        reader.read_until(lambda: comment in reader.parser.comments[seen:], what=comment)

    with stream.heartbeat(every=0.05, comment="outer"):
        wait_for(" outer")
        with stream.heartbeat(every=0.05, comment="inner"):
            wait_for(" inner")
        wait_for(" outer")
    stream.publish("x")
    reader.next()
    reader.assert_silent(0.3)


def test_an_exception_inside_the_block_restores_too(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    reader = read().open()
    with contextlib.suppress(ZeroDivisionError), stream.heartbeat(every=0.05):
        reader.read_until(lambda: reader.parser.comments, what="a heartbeat")
        assert set(reader.parser.comments) == {" heartbeat"}, "the comment that is sent by default"
        raise ZeroDivisionError
    stream.publish("x")
    reader.next()
    reader.assert_silent(0.3)


def test_blocks_of_several_threads_may_end_in_any_order(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    reader = read().open()
    blocks = [stream.heartbeat(every=0.05, comment=name) for name in ("a", "b", "c")]
    for block in blocks:
        block.__enter__()
    for block in (blocks[1], blocks[0], blocks[2]):
        block.__exit__(None, None, None)
    stream.publish("x")
    reader.read_until(lambda: reader.parser.events, what="event")
    reader.assert_silent(0.3)


def test_the_block_covers_subscribers_that_come_during_it(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    with stream.heartbeat(every=0.05, comment="prefill"):
        reader = read().open()
        reader.read_until(lambda: len(reader.parser.comments) >= 2, what="heartbeats")


@pytest.mark.parametrize("every", [0, -1.0, float("nan"), float("inf")])
def test_a_bad_interval_is_a_value_error(server: sse_fast.Server, every: float) -> None:
    with pytest.raises(ValueError, match="every"), server.stream("s").heartbeat(every=every):
        pass


def test_heartbeats_never_fall_between_the_bytes_of_an_event(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=0.05, history=400, max_lag=400, history_bytes=64 << 20)
    reader = read(receive_buffer=4096).open()

    def publish() -> None:
        with Beats(server, 0.03) as beats:
            for number in range(60):
                stream.publish("y" * 100_000 + str(number))
                beats.wait()  # Long enough for a heartbeat to become due between two of them.
        stream.end("over")

    thread = threading.Thread(target=publish)
    thread.start()
    events = reader.rest(60)
    thread.join()
    assert [event.data for event in events] == [*("y" * 100_000 + str(number) for number in range(60)), "over"]


def test_a_changed_interval_applies_to_subscribers_that_are_there(server: sse_fast.Server, read: Open) -> None:
    server.stream("s", heartbeat=None)
    reader = read().open()
    server.stream("s", heartbeat=0.05)
    reader.read_until(lambda: len(reader.parser.comments) >= 2, what="heartbeats")


@pytest.mark.alone
def test_many_heartbeats_are_spread_over_time(serve: Serve) -> None:
    """1200 subscribers that were all written to in one instant do not all get their heartbeat in one."""
    server = serve(heartbeat=2.0)
    stream = server.stream("s")
    count = 1200
    sockets = []
    selector = selectors.DefaultSelector()
    try:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.sendall(request("/streams/s", server.port))
            sockets.append(sock)
        until(lambda: stream.subscribers == count, 60)
        stream.publish("everybody at once")
        for sock in sockets:
            received = b""
            while b"everybody at once" not in received:
                received += sock.recv(4096)
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        moments: list[float] = []
        end = time.monotonic() + 30
        while len(moments) < count and time.monotonic() < end:
            for key, _ in selector.select(timeout=1):
                assert b": heartbeat\n" in key.fileobj.recv(4096)  # type: ignore[union-attr]
                moments.append(time.monotonic())
                selector.unregister(key.fileobj)
    finally:
        for sock in sockets:
            sock.close()
    assert len(moments) == count
    start = min(moments)
    assert max(moments) - start > 0.4, "all heartbeats within a moment"
    slices = [int((moment - start) / 0.1) for moment in moments]
    fullest = max(slices.count(number) for number in set(slices))
    assert fullest < count * 0.6, f"{fullest} of {count} within a tenth of a second"


def test_a_reader_with_idle_limit_survives_a_long_silence(serve: Serve) -> None:
    """A client that hangs up after a second without bytes is there when the last event comes."""
    server = serve()
    stream = server.stream("s", ids=False)
    with (
        Program(
            """
        import socket, sys
        sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=1.0)
        sock.sendall(b"GET /streams/s HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n")
        received = b""
        while data := sock.recv(4096):
            if not received:
                print("ready")
            received += data
        print(repr(received.partition(b"\\r\\n\\r\\n")[2][-40:]))
        """,
            server.port,
        ) as program,
        stream.heartbeat(every=0.25, comment="prefill"),
    ):
        assert program.line() == "ready"
        hold_the_interpreter(4.0)
        stream.publish("token")
        stream.end("[DONE]")
        assert "data: token\\n\\nevent: end\\ndata: [DONE]\\n\\n" in program.line()
