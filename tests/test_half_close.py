"""Clients that shut their writing side after the request, as `nc -N`, socat and some proxies do.

Guards that they get their whole answer and then the end, whatever answers; that what they had not finished sending
is an error; and that a request which has to wait is not kept for a client that may be gone.
"""

from __future__ import annotations

import json
import socket

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.held import Held
from support.reader import Reader, request


def half_closed(server: sse_fast.Server, path: str, *, apart: bool = False, **options: object) -> Reader:
    """A reader that has sent its request and says that nothing follows; `apart`: some time after it."""
    reader = Reader(server.port, raw=request(path, server.port, **options))  # type: ignore[arg-type]
    if apart:
        until(lambda: server.stats().requests > 0)
    reader.socket.shutdown(socket.SHUT_WR)
    return reader


@pytest.fixture
def answering(server: sse_fast.Server) -> sse_fast.Server:
    """A server with every kind of answer."""
    server.stream("s", start="all").publish("event")
    server.get("/get")(lambda req: {"query": req.query.get("x")})
    server.post("/post")(lambda req: {"length": len(req.body)})
    server.get("/large")(lambda _req: sse_fast.Response("x" * 5_000_000))
    server.route("/wait/{id}", "w/{id}", wait=0.3)
    server.route("/made/{id}", "m/{id}", create=True)
    return server


CASES = {
    "handler": ("/get?x=1", {}, 200, b'{"query":"1"}'),
    "post": ("/post", {"method": "POST", "body": b"abc"}, 200, b'{"length":3}'),
    "large post": ("/post", {"method": "POST", "body": b"x" * 500_000}, 200, b'{"length":500000}'),
    "large answer": ("/large", {}, 200, b"x" * 5_000_000),
    "json": ("/streams/s", {"headers": [("Accept", "application/json")]}, 200, b'"event"'),
    "created": ("/made/1", {"headers": [("Accept", "application/json")]}, 200, b'"m/1"'),
    "waiting": ("/wait/1", {}, 404, b"unknown_stream"),
    "asset": ("/sse-fast.js", {}, 200, b"sse-fast.js"),
    "unknown": ("/none", {}, 404, b"not_found"),
    "wrong method": ("/get", {"method": "POST"}, 405, b"method_not_allowed"),
    "closing": ("/get?x=1", {"headers": [("Connection", "close")]}, 200, b'{"query":"1"}'),
    "old": ("/get?x=1", {"version": "HTTP/1.0"}, 200, b'{"query":"1"}'),
}


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
@pytest.mark.parametrize("case", CASES)
def test_the_whole_answer_comes_and_then_the_end(answering: sse_fast.Server, case: str, apart: bool) -> None:
    path, options, status, wanted = CASES[case]
    with half_closed(answering, path, apart=apart, **options) as reader:  # type: ignore[arg-type]
        assert reader.read_head().status == status
        assert wanted in reader.read_to_end()
        reader.read_eof()


def test_a_handler_that_takes_its_time_is_waited_for(server: sse_fast.Server) -> None:
    with Held() as held:
        server.post("/slow")(held)
        with half_closed(server, "/slow", method="POST", body=b"x") as reader:
            assert held.begun.wait(DEADLINE)
            reader.assert_silent(1.3)  # Longer than a call that has not begun is kept.
            held.go.set()
            assert reader.read_to_end() == b'"done"'
            reader.read_eof()


def test_every_pipelined_request_is_answered(answering: sse_fast.Server) -> None:
    paths = ["/get?x=1", "/none", "/get?x=2"]
    raw = b"".join(request(path, answering.port) for path in paths)
    with Reader(answering.port, raw=raw) as reader:
        reader.socket.shutdown(socket.SHUT_WR)
        received = reader.read_eof()
    assert received.count(b"HTTP/1.1 ") == 3
    assert received.index(b'"1"') < received.index(b"not_found") < received.index(b'"2"')


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 10\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"Content-Length: 10\r\n\r\n",
    ],
)
def test_a_body_that_was_not_sent_to_its_end_is_a_400(answering: sse_fast.Server, framing: bytes) -> None:
    with Reader(answering.port, raw=b"POST /post HTTP/1.1\r\nHost: localhost\r\n" + framing) as reader:
        until(lambda: answering.stats().requests == 1)
        reader.socket.shutdown(socket.SHUT_WR)
        assert reader.read_head().status == 400
        assert json.loads(reader.read_to_end())["error"] == "bad_request"
        reader.read_eof()


def test_half_a_head_is_refused(server: sse_fast.Server) -> None:
    with Reader(server.port, raw=b"GET / HTTP/1.1\r\nHo") as reader:
        reader.socket.shutdown(socket.SHUT_WR)
        assert reader.read_eof().startswith(b"HTTP/1.1 400 ")


def test_a_request_that_waits_long_for_its_stream_is_answered_early(server: sse_fast.Server) -> None:
    server.route("/wait/{id}", "w/{id}", wait=3600.0)
    with half_closed(server, "/wait/1") as reader:
        assert reader.read_head().status == 404
        reader.read_eof()


def test_a_call_that_waits_for_a_thread_is_answered_with_503(serve: Serve) -> None:
    server = serve(handler_threads=1)
    with Held() as held:
        server.get("/slow")(held)
        with Reader(server.port, "/slow?n=1") as busy:
            assert held.begun.wait(DEADLINE)
            with half_closed(server, "/slow?n=2") as reader:
                head = reader.read_head()
                assert (head.status, head["retry-after"]) == (503, "2")
                assert json.loads(reader.read_to_end())["error"] == "busy"
                reader.read_eof()
            held.go.set()
            assert busy.read_to_end() == b'"done"'
    assert [req.query["n"] for req in held.asked] == ["1"]
