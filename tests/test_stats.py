"""What the server counts: exactly what a reader could have counted itself, and no secret in what it logs.

Guards that every number of `Server.stats` and `Stream.stats` is what happened on the wire, and that tokens, which
clients put into queries and headers, never reach a log.
"""

from __future__ import annotations

import logging
import threading

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import until
from support.reader import Reader, fetch


def test_events_are_counted_once_when_published_and_once_for_each_subscriber(
    server: sse_fast.Server, read: Open
) -> None:
    stream = server.stream("s", heartbeat=None)
    readers = [read().open() for _ in range(3)]
    for number in range(20):
        stream.publish(number)
    stream.end("over")
    for reader in readers:
        assert len(reader.rest()) == 21
    stats = server.stats()
    assert stats.published == 21
    until(lambda: server.stats().delivered == 63, what="deliveries being counted")
    assert stats.streams == 1
    assert stats.heartbeats == stats.gaps == stats.skipped == stats.refused == 0
    until(lambda: server.stats().closed.ended == 3, what="the reason for closing")
    until(lambda: server.stats().connections == 0)
    assert server.stats().accepted == 3
    assert server.stats().requests == 3


def test_bytes_are_those_of_the_bodies(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    reader = read().open()
    for number in range(5):
        stream.publish("x" * (1000 * number))
    stream.end("over")
    reader.rest()
    assert reader.head is not None
    whole = until(lambda: server.stats().connections == 0 and server.stats().bytes)
    assert whole == len(reader.received)


def test_gaps_and_what_they_skip_are_counted(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=10, max_lag=10, heartbeat=None)
    ids = [stream.publish(number) for number in range(50)]
    for first in (ids[4], ids[14]):
        reader = read(last_event_id=first).open()
        assert reader.next().event == "gap"
    until(lambda: server.stats().gaps == 2)
    assert server.stats().skipped == 35 + 25


def test_heartbeats_are_counted_and_are_no_deliveries(server: sse_fast.Server, read: Open) -> None:
    server.stream("s", heartbeat=0.05)
    reader = read().open()
    reader.read_until(lambda: len(reader.parser.comments) >= 5, what="heartbeats")
    # The reader may have a heartbeat a moment before it is counted.
    until(lambda: server.stats().heartbeats >= 5)
    assert server.stats().delivered == 0


def test_a_stream_tells_how_much_it_retains_and_how_long_it_has_been_silent(server: sse_fast.Server) -> None:
    stream = server.stream("s", history=10)
    for number in range(25):
        stream.publish(number)
    stats = stream.stats()
    assert (stats.published, stats.retained, stats.ended) == (25, 10, False)
    assert 0 < stats.retained_bytes < 10 * 200
    before = stream.stats().silent_s
    until(lambda: stream.stats().silent_s > before + 0.05)
    stream.end()
    assert stream.stats().silent_s < before + 0.05
    assert stream.stats().ended is True


def test_heartbeats_do_not_end_a_stream_s_silence(server: sse_fast.Server, read: Open) -> None:
    """Heartbeats only, no events: the signal that something upstream is stuck."""
    stream = server.stream("s", heartbeat=0.02)
    stream.publish("x")
    reader = read().open()
    reader.read_until(lambda: len(reader.parser.comments) >= 10, what="heartbeats")
    assert stream.stats().silent_s > 0.1


def test_a_publisher_that_waited_is_counted_and_other_threads_went_on(serve: Serve) -> None:
    """A log of one event, a reader that takes nothing: publish waits an eighth for it once, without the interpreter."""
    server = serve(publish_wait=2.4)
    stream = server.stream("s", history=1, max_lag=1, history_bytes=64 << 20)
    turns, done = 0, threading.Event()

    def other() -> None:
        nonlocal turns
        while not done.wait(0.001):
            turns += 1

    thread = threading.Thread(target=other)
    thread.start()
    try:
        with Reader(server.port, receive_buffer=2048) as reader:
            reader.open()
            until(lambda: stream.subscribers == 1)
            for _ in range(400):
                before = turns
                stream.publish("x" * 100_000)
                moved, stats = turns - before, server.stats()
                if stats.publish_socket_wait_s >= 0.2:
                    break
    finally:
        done.set()
        thread.join()
    assert stats.publish_wait_s >= stats.publish_socket_wait_s >= 0.2
    assert stats.publish_waits >= 1
    assert stats.publish_wait_timeouts <= 1
    assert moved > 10


@pytest.mark.parametrize("path", ["/streams/none", "/waits/7", "/fails", "/missing", "/streams/s"])
def test_tokens_never_appear_in_logs(server: sse_fast.Server, caplog: pytest.LogCaptureFixture, path: str) -> None:
    caplog.set_level(logging.DEBUG, logger="sse_fast")
    server.stream("s").end("over")
    server.route("/waits/{id}", "w/{id}", wait=0.05)

    @server.get("/fails")
    def fails(_req: sse_fast.Request) -> None:
        raise RuntimeError("the reason")

    secrets = [("Authorization", "Bearer hunter2"), ("Cookie", "session=hunter2"), ("X-Api-Key", "hunter2")]
    for method in ("GET", "POST", "HEAD"):
        fetch(server.port, f"{path}?token=hunter2&last_event_id=hunter2", method=method, headers=secrets)
    server.close(drain=0.5)
    assert "hunter2" not in caplog.text
    assert "hunter2" not in repr(server)
