"""Streams that are forgotten: ended ones after `linger`, idle ones after `expire`, removed ones at once.

Guards that an option given later acts from then on, whatever was in force before,
and that readers of a stream that goes away get what was published, then the end.
"""

from __future__ import annotations

import threading

import pytest

import sse_fast
from conftest import Open, Serve
from support.beats import Beats
from support.deadline import until
from support.reader import Reader, fetch

LONG = 600.0


def names(server: sse_fast.Server) -> set[str]:
    return {stream.name for stream in server.streams()}


@pytest.mark.parametrize("first", [None, LONG])
def test_expire_given_later_acts(server: sse_fast.Server, first: float | None) -> None:
    server.stream("s", expire=first)
    server.stream("s", expire=0.1)
    until(lambda: not names(server), what="the idle stream being forgotten")


def test_expire_given_later_counts_from_when_the_last_reader_left(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    reader = read().open()
    server.stream("s", expire=0.1)
    with Beats(server, 0.1) as beats:
        beats.wait(4)
        assert "s" in names(server), "forgotten although somebody reads it"
        reader.close()
        until(lambda: "s" not in names(server), what="the idle stream being forgotten")
    with pytest.raises(sse_fast.StreamEnded):
        stream.publish("x")


@pytest.mark.parametrize("later", [None, LONG])
def test_a_longer_expire_given_later_keeps_the_stream(server: sse_fast.Server, later: float | None) -> None:
    server.stream("s", expire=0.3)
    server.stream("s", expire=later)
    with Beats(server, 0.1) as beats:
        beats.wait(7)
    assert "s" in names(server)


def test_linger_given_after_the_end_acts(server: sse_fast.Server) -> None:
    server.stream("s", linger=LONG).end("over")
    server.stream("s", linger=0.1)
    until(lambda: not names(server), what="the ended stream being forgotten")
    assert fetch(server.port, "/streams/s")[0].status == 404


def test_a_longer_linger_given_after_the_end_acts(server: sse_fast.Server, read: Open) -> None:
    server.stream("s", linger=0.3, start="all").end("over")
    server.stream("s", linger=LONG)
    with Beats(server, 0.1) as beats:
        beats.wait(7)
    assert [event.data for event in read().open().rest()] == ["over"]


def test_a_removed_stream_s_readers_get_what_was_published_then_the_end(serve: Serve) -> None:
    server = serve(shards=2)
    stream = server.stream("s", history=500, max_lag=500)
    readers = [Reader(server.port) for _ in range(20)]
    try:
        for reader in readers:
            reader.open()
        ids = [stream.publish(number) for number in range(500)]
        stream.remove()
        for reader in readers:
            assert [event.own_id for event in reader.rest()] == ids
            reader.read_eof()
    finally:
        for reader in readers:
            reader.close()
    assert "s" not in names(server)


def test_a_removed_stream_s_slow_reader_gets_everything_too(serve: Serve) -> None:
    """More than its socket holds: what is published when the stream is removed is still given to it."""
    server = serve()
    stream = server.stream("s", history=500, max_lag=500, history_bytes=64 << 20)
    with Reader(server.port, receive_buffer=4096) as reader:
        reader.open()
        ids = [stream.publish("x" * 20_000) for _ in range(400)]
        until(lambda: server.stats().blocked == 1, what="a full socket")
        stream.remove()
        assert [event.own_id for event in reader.rest(60)] == ids


def test_a_removed_stream_s_readers_inside_get_what_was_published_then_the_end(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    events = stream.events(timeout=20.0)
    for number in range(100):
        stream.publish(number)
    stream.remove()
    assert [event.data for event in events] == [*map(str, range(100))]


def test_a_stream_removed_while_it_is_published_to_loses_nothing_that_was_accepted(serve: Serve) -> None:
    server = serve(shards=2)
    for number in range(30):
        name = f"s{number}"
        stream = server.stream(name, history=5000, max_lag=5000)
        accepted: list[str] = []

        def publish(stream: sse_fast.Stream = stream, accepted: list[str] = accepted) -> None:
            try:
                while True:
                    accepted.append(stream.publish("x"))
            except sse_fast.StreamEnded:
                pass

        with Reader(server.port, f"/streams/{name}") as reader:
            reader.open()
            thread = threading.Thread(target=publish)
            thread.start()
            reader.next()
            stream.remove()
            thread.join()
            assert len(reader.rest()) == len(accepted) - 1
