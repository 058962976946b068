"""Readers that shut their writing side after the request, as some clients and proxies do.

Guards that such a reader gets what there is, then the end: it is no reader that has
gone, and it is not kept for what comes later.
"""

from __future__ import annotations

import socket

import pytest

from conftest import Serve
from support.deadline import until
from support.reader import Reader, request


def half_closed(port: int, *, with_the_request: bool, receive_buffer: int | None = None) -> Reader:
    """A subscriber of `s` that sends nothing more; it shuts its side with the request, or when it has the head."""
    reader = Reader(port, raw=b"", receive_buffer=receive_buffer)
    if with_the_request and hasattr(socket, "TCP_CORK"):
        # Held back, so that the request and the end of the sending side are one packet.
        reader.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    reader.send(request("/streams/s", port))
    if not with_the_request:
        reader.open()
    reader.socket.shutdown(socket.SHUT_WR)
    return reader


@pytest.mark.parametrize("with_the_request", [True, False])
def test_it_gets_what_there_is_then_the_end(serve: Serve, with_the_request: bool) -> None:
    server = serve(shards=2, heartbeat=None)
    stream = server.stream("s", start="all")
    ids = [stream.publish(number) for number in range(5)]
    for _ in range(50):
        with half_closed(server.port, with_the_request=with_the_request) as reader:
            reader.read_eof()
            assert [event.own_id for event in reader.parser.events] == ids
    until(lambda: stream.subscribers == 0)
    assert not stream.ended


def test_it_gets_the_end_of_a_stream_without_events(serve: Serve) -> None:
    server = serve(heartbeat=None)
    server.stream("s")
    with half_closed(server.port, with_the_request=True) as reader:
        assert reader.read_head().status == 200
        reader.read_eof()
        assert not reader.parser.events


def test_it_gets_what_its_socket_has_no_room_for_yet(serve: Serve) -> None:
    server = serve(heartbeat=None)
    stream = server.stream("s", start="all", history=500, max_lag=500, history_bytes=64 << 20)
    ids = [stream.publish("x" * 20_000) for _ in range(400)]
    with half_closed(server.port, with_the_request=True, receive_buffer=4096) as reader:
        until(lambda: server.stats().blocked == 1, what="a full socket")
        reader.read_eof(60)
        assert [event.own_id for event in reader.parser.events] == ids


def test_it_gets_the_terminal_event(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s", start="all")
    stream.publish("x")
    stream.end("over")
    with half_closed(server.port, with_the_request=True) as reader:
        assert [event.data for event in reader.rest()] == ["x", "over"]
