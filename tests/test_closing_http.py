"""What HTTP connections see while the server closes and gives slow subscribers what they lack.

Guards that idle, silent and half-sent connections are closed at once, and that a request under way gets its answer.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.held import Held
from support.reader import Reader, request


@contextlib.contextmanager
def draining(server: sse_fast.Server) -> Iterator[None]:
    """Closes the server in a thread; the drain lasts until the block is left."""
    stream = server.stream("slow", history=4000, max_lag=4000, history_bytes=1 << 26)
    with Reader(server.port, "/streams/slow", receive_buffer=4096) as slow:
        until(lambda: stream.subscribers == 1)
        for _ in range(40):
            stream.publish("x" * 100_000)
        closing = threading.Thread(target=server.close, args=(30.0,))
        closing.start()
        until(lambda: server.closed)
        yield
        slow.reset()
        closing.join(20)
        assert not closing.is_alive()


def test_idle_silent_and_half_sent_connections_are_closed_at_once(serve: Serve) -> None:
    server = serve(header_timeout=3600.0)  # Nothing else may close them.
    server.get("/x")(lambda _req: "x")
    with (
        Reader(server.port, "/x") as idle,
        Reader(server.port, raw=b"") as silent,
        Reader(server.port, raw=b"GET /x HTTP/1.1\r\nHo") as half,
    ):
        assert idle.read_to_end() == b'"x"'
        until(lambda: server.stats().connections == 3)
        with draining(server):
            for reader in (silent, half):
                assert reader.read_eof() == b""
            before = len(idle.received)
            assert len(idle.read_eof()) == before


def test_a_request_under_way_is_answered_and_its_connection_closed(serve: Serve) -> None:
    server = serve()
    with Held() as held:
        server.get("/slow")(held)
        with Reader(server.port, "/slow") as reader:
            assert held.begun.wait(DEADLINE)
            with draining(server):
                held.go.set()
                assert reader.read_head()["connection"] == "close"
                assert reader.read_to_end() == b'"done"'
                reader.read_eof()


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
def test_a_request_that_waits_for_a_stream_does_not_hold_up_the_close(serve: Serve, accept: str) -> None:
    server = serve()
    server.route("/wait/{id}", "w/{id}", wait=3600.0)
    with Reader(server.port, "/wait/1", headers=[("Accept", accept)]) as reader:
        until(lambda: server.stats().requests == 1)
        with draining(server):
            received = reader.read_eof()
    if accept == "text/event-stream":  # A browser's EventSource that is told a status never comes back.
        assert b"HTTP/1.1 200 OK" in received
        assert re.search(rb"\r\n\r\nretry: [2-6]\d{3}\n$", received), received
    else:
        assert b"HTTP/1.1 503 " in received
        assert b"retry-after: 2" in received


def test_a_request_that_comes_while_the_server_closes_is_refused(serve: Serve) -> None:
    """On a connection whose first request is still being answered: every other one is closed by then."""
    server = serve()
    with Held() as held:
        server.post("/slow")(held)
        with Reader(server.port, "/slow", method="POST") as reader:
            assert held.begun.wait(DEADLINE)
            with draining(server):
                reader.send(request("/slow", server.port, method="POST"))
                held.go.set()
                received = reader.read_eof()
    assert received.count(b"HTTP/1.1 ") == 1
