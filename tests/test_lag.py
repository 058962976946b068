"""Slow readers: what each `on_lag` does, counted exactly, and that nobody else notices.

Guards the delivery promise outside history: received and skipped add up to what
was published, the newest and so the terminal event is never skipped, a reader
that takes bytes is never skipped, and a stalled one is found and closed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import until
from support.process import SUPPORT, Program
from support.reader import Reader
from support.sse import Event

#: Enough that the kernel's buffers of one loopback connection cannot hold them.
MANY = 6000
PADDING = "x" * 2000


@pytest.fixture
def stalled(server: sse_fast.Server) -> Iterator[Reader]:
    """A subscriber of `s` that reads its head and then nothing until the test makes it."""
    server.stream("s", start="new")
    with Reader(server.port, receive_buffer=2048) as reader:
        yield reader.open()


def number_of(event: Event) -> int:
    return int(event.own_id.rpartition("-")[2]) if event.own_id else -1


def account(events: list[Event]) -> tuple[int, int]:
    """Received and skipped; insists that positions go up and every jump is announced exactly."""
    at = received = skipped = 0
    for event in events:
        if event.event == "gap":
            gap = event.json()
            assert int(gap["from"].rpartition("-")[2]) == at + 1
            assert int(gap["to"].rpartition("-")[2]) == at + gap["skipped"]
            assert gap["skipped"] > 0
            at += gap["skipped"]
            skipped += gap["skipped"]
        else:
            assert number_of(event) == at + 1, f"{event.own_id} does not follow position {at}"
            at += 1
            received += 1
    return received, skipped


def test_skip_announces_exactly_what_was_missed(server: sse_fast.Server, stalled: Reader) -> None:
    stream = server.stream("s", on_lag="skip")
    for number in range(MANY):
        stream.publish({"n": number, "pad": PADDING})
    stream.end("over")
    events = stalled.rest(60)
    received, skipped = account(events)
    assert received + skipped == MANY + 1
    assert skipped > 0, "the reader was not stalled"
    assert (events[-1].event, events[-1].data) == ("end", "over")


def test_latest_goes_on_with_the_newest_event(server: sse_fast.Server, stalled: Reader) -> None:
    stream = server.stream("s", on_lag="latest")
    for number in range(MANY):
        stream.publish({"n": number, "pad": PADDING})
    events = []
    while not events or number_of(events[-1]) < MANY:
        events += stalled.take(1)
    received, skipped = account(events)
    assert received + skipped == MANY
    assert [event.event for event in events].count("gap") >= 1
    last_gap = max(index for index, event in enumerate(events) if event.event == "gap")
    assert len(events) - last_gap == 2, "after the gap comes the newest alone"


def test_disconnect_closes_and_the_reader_resumes_without_loss(serve: Serve) -> None:
    server = serve(history=MANY + 10, history_bytes=64 << 20, max_lag=256)
    stream = server.stream("s", on_lag="disconnect")
    with Reader(server.port, receive_buffer=2048) as reader:
        reader.open()
        for number in range(MANY):
            stream.publish({"n": number, "pad": PADDING})
        stream.end("over")
        reader.read_eof(60)
        events = list(reader.parser.events)
        last = reader.parser.last_event_id
    assert 0 < len(events) <= MANY
    assert [event.event for event in events].count("gap") == 0
    # It may fall behind again; each time it goes on where it was.
    while events[-1].event != "end":
        with Reader(server.port, last_event_id=last) as reader:
            reader.open().read_eof(60)
            events += reader.parser.events
            last = reader.parser.last_event_id
    assert account(events) == (MANY + 1, 0)


def test_disconnect_closes_a_reader_that_takes_nothing_at_all(serve: Serve) -> None:
    """It is not left to `stall_timeout`: it lags, and that is enough."""
    server = serve(stall_timeout=600.0, heartbeat=None)
    stream = server.stream("s", on_lag="disconnect", history=16, max_lag=16)
    with Reader(server.port, receive_buffer=2048) as silent, Reader(server.port) as healthy:
        silent.open()
        healthy.open()
        for number in range(MANY):
            stream.publish({"n": number, "pad": PADDING})
            healthy.next()
        until(lambda: stream.subscribers == 1, what="the reader that takes nothing being closed")
        assert server.stats().closed.lagged == 1
        assert server.stats().skipped == 0


def test_a_reader_within_history_but_beyond_max_lag_is_held_to_max_lag(serve: Serve) -> None:
    server = serve(history=MANY + 10, history_bytes=64 << 20, max_lag=100)
    stream = server.stream("s", on_lag="skip")
    with Reader(server.port, receive_buffer=2048) as reader:
        reader.open()
        for number in range(MANY):
            stream.publish({"n": number, "pad": PADDING})
        stream.end("over")
        events = reader.rest(60)
    received, skipped = account(events)
    assert received + skipped == MANY + 1
    assert skipped > 0
    tail = len(events) - 1 - max(index for index, event in enumerate(events) if event.event == "gap")
    assert tail <= 101


@pytest.mark.parametrize("on_lag", ["skip", "latest"])
def test_the_terminal_event_reaches_a_reader_that_was_stalled_all_along(serve: Serve, on_lag: Any) -> None:
    server = serve(history=4, max_lag=4)
    stream = server.stream("s", on_lag=on_lag)
    with Reader(server.port, receive_buffer=2048) as reader:
        reader.open()
        for number in range(MANY):
            stream.publish({"n": number, "pad": PADDING})
        stream.end({"ok": True}, event="BENCHMARKED")
        events = reader.rest(60)
    assert account(events)[0] + account(events)[1] == MANY + 1
    assert (events[-1].event, events[-1].data) == ("BENCHMARKED", '{"ok":true}')


def test_a_stalled_reader_costs_a_bounded_number_of_bytes_and_delays_nobody(
    server: sse_fast.Server, stalled: Reader, read: Open
) -> None:
    """The publisher does not wait for it, and another reader of the same stream gets everything."""
    stream = server.stream("s", history=256)
    healthy = read().open()
    got: list[Event] = []
    thread = threading.Thread(target=lambda: got.extend(healthy.take(2001, 60)))
    thread.start()
    for number in range(2000):
        stream.publish({"n": number, "pad": PADDING})
        if number % 100 == 99:
            # A pace that any reader can keep: the stalled one still cannot.
            until(lambda number=number: len(healthy.parser.events) >= number - 50)
    stream.end("over")
    thread.join(60)
    assert account(got) == (2001, 0)
    events = stalled.rest(60)
    assert sum(account(events)) == 2001


def test_a_stalled_reader_costs_a_publisher_at_most_one_wait(server: sse_fast.Server, stalled: Reader) -> None:
    stream = server.stream("s")
    for number in range(MANY):
        stream.publish({"n": number, "pad": PADDING})
    stats = server.stats()
    assert stats.publish_wait_timeouts <= 1
    assert stats.skipped == 0, "nothing is skipped for a reader before it takes bytes again"


def test_a_reader_that_takes_nothing_is_closed_after_stall_timeout(serve: Serve) -> None:
    server = serve(stall_timeout=1.0, heartbeat=0.2)
    stream = server.stream("s")
    with Reader(server.port, receive_buffer=2048) as reader:
        reader.open()
        for number in range(MANY):
            stream.publish({"n": number, "pad": PADDING})
        until(lambda: stream.subscribers == 0, 60, what="the stalled reader being closed")
        # By the shard, in time; the kernel would find it too, but later, and call it gone.
        assert server.stats().closed.stalled == 1


def test_a_reader_that_has_gone_is_noticed(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    for end in ("close", "reset"):
        reader = read().open()
        until(lambda: stream.subscribers == 1)
        getattr(reader, end)()
        until(lambda: stream.subscribers == 0, what=f"the end by {end} being seen without anything published")


def test_a_byte_at_a_time_is_slow_but_whole(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=300, max_lag=300)
    reader = read(receive_buffer=2048).open()
    for number in range(200):
        stream.publish(number)
    stream.end("over")
    while not reader.finished:
        data = reader.socket.recv(7)
        assert data
        reader.received += data
        reader._feed(data)
    assert account(reader.rest()) == (201, 0)


def crowd(server: sse_fast.Server, path: str, count: int, last: str) -> Program:
    """A process with `count` readers, all subscribed."""
    program = Program(SUPPORT / "crowd.py", server.port, path, count, last)
    assert program.line(60) == "ready"
    return program


def assert_whole(program: Program, published: int, count: int) -> None:
    """Every reader of the crowd got every event, and all of them the same bytes."""
    events = json.loads(program.line(150))
    members = json.loads(program.line())
    assert program.line() == "unfinished 0"
    gaps = [member["gaps"] for member in members]
    assert gaps == [0] * count, f"{sum(map(bool, gaps))} of {count} healthy readers were skipped"
    assert [data for name, data in events if name == "message"] == [str(number) for number in range(published)]
    whole = [member["size"] for member in members]
    # Each may have stopped anywhere behind the last event's name.
    assert max(whole) - min(whole) <= 200


def test_a_plain_loop_of_ten_thousand_publishes_reaches_every_healthy_reader_whole(server: sse_fast.Server) -> None:
    """With default options: history 256, and publish waits for the engine."""
    stream = server.stream("s")
    with crowd(server, "/streams/s", 50, "end") as program:
        for number in range(10_000):
            stream.publish(number)
        stream.end("over")
        assert_whole(program, 10_000, 50)


@pytest.mark.timeout(240)
def test_without_a_limit_a_hundred_thousand_publishes_reach_a_hundred_readers_whole_once_a_dead_one_is_cut(
    serve: Serve,
) -> None:
    server = serve(publish_wait=None, stall_timeout=2.0)
    stream = server.stream("s")
    with (
        Reader(server.port, receive_buffer=2048) as dead,
        crowd(server, "/streams/s", 100, "end") as program,
    ):
        dead.open()
        for number in range(100_000):
            stream.publish(number)
        stream.end("over")
        assert_whole(program, 100_000, 100)
    assert server.stats().skipped == 0


@pytest.mark.timeout(240)
def test_in_a_flood_every_gap_of_a_hundred_slow_readers_is_exact(server: sse_fast.Server, stalled: Reader) -> None:
    """The budget of a stream is used up soon; what is then skipped is told, also to a reader that stalls."""
    stream = server.stream("s")
    with crowd(server, "/streams/s", 100, "end") as program:
        for number in range(100_000):
            stream.publish(number)
        stream.end("over")
        first = json.loads(program.line(150))
        program.line()
        assert program.line() == "unfinished 0"
    at = 0  # What it has been given or told of.
    for event, data in first:
        if event == "gap":
            at += json.loads(data)["skipped"]
        elif event == "message":
            assert int(data) == at, "a gap that is not exact"
            at += 1
    assert at == 100_000
    events = stalled.rest(60)
    assert sum(account(events)) == 100_001
    assert events[-1].data == "over"
    stats = server.stats()
    assert stats.publish_socket_wait_s <= 1.1 * 2.0


def test_with_publish_wait_zero_a_loop_never_waits_and_every_gap_is_told(serve: Serve) -> None:
    server = serve(publish_wait=0.0, history=8, max_lag=8)
    stream = server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        for number in range(20_000):
            stream.publish(number)
        stream.end("over")
        events = reader.rest(60)
    assert sum(account(events)) == 20_001
    assert events[-1].data == "over"


def test_many_streams_with_stalled_readers_do_not_stop_each_other(serve: Serve) -> None:
    server = serve(heartbeat=0.2, publish_wait=0.02)
    streams = [server.stream(f"s{number}") for number in range(20)]
    stalled = [Reader(server.port, f"/streams/s{number}", receive_buffer=2048) for number in range(20)]
    try:
        for reader in stalled:
            reader.open()
        for stream in streams:
            for number in range(400):
                stream.publish({"n": number, "pad": PADDING})
        lively = server.stream("lively")
        with Reader(server.port, "/streams/lively") as reader:
            reader.open()
            for number in range(100):
                lively.publish(number)
                assert reader.next().data == str(number)
    finally:
        for reader in stalled:
            reader.close()
    until(lambda: sum(stream.subscribers for stream in streams) == 0)
