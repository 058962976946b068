"""Requests that are malformed, abusive or for something else: 400 by hand, and 4,000 by chance.

Guards that each gets exactly the answer that the table says, as JSON where HTTP/1 is spoken, that none reaches a stream
or a handler, and that the server goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import socket
from collections.abc import Iterator

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.reader import Reader, fetch
from support.requests import Row, answers, converse, rows

pytestmark = pytest.mark.timeout(120)

TABLE = rows()
#: The bodies of requests that reached the handler.
CALLED: list[bytes] = []


@pytest.fixture(scope="module")
def target() -> Iterator[sse_fast.Server]:
    with sse_fast.serve(0, max_body_bytes=1000, settle=0, drain=0.5) as server:
        server.stream("s")

        @server.post("/echo")
        def echo(request: sse_fast.Request) -> str:
            CALLED.append(request.body)
            return "called"

        yield server


def assert_alive(server: sse_fast.Server) -> None:
    with Reader(server.port, "/streams/s") as reader:
        reader.open()
        server.stream("s").publish("still here")
        assert reader.next().data == "still here"
    until(lambda: server.stats().connections == 0, what="every connection's end")


def test_the_table_is_long_and_names_each_row_once() -> None:
    assert len(TABLE) >= 300
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert not any(word.startswith("200") for row in TABLE for word in row.expected)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_bad_request_gets_the_answer_that_the_table_says(target: sse_fast.Server, row: Row) -> None:
    received = converse(target.port, row.raw)
    assert answers(received, []) == row.expected, received[:2000]
    assert not CALLED, "none reaches the handler"
    assert fetch(target.port, "/streams/none")[0].status == 404


def test_the_server_is_as_it_was_after_all_of_them(target: sse_fast.Server) -> None:
    assert_alive(target)
    assert [stream.name for stream in target.streams()] == ["s"]


def mutated(chance: random.Random) -> bytes:
    """A row of the table, or a good request, with some bytes changed."""
    good = b"GET /streams/none HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nLast-Event-ID: abc-1\r\n\r\n"
    raw = bytearray(chance.choice([*(row.raw for row in TABLE if len(row.raw) < 4000), good, good * 2]))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(5):
            case 0:
                raw[at:at] = bytes([chance.randrange(256)])
            case 1:
                del raw[at : at + chance.randint(1, 10)]
            case 2:
                raw[at:at] = raw[at : at + chance.randint(1, 40)]
            case 3:
                raw[at:at] = chance.choice([b"\r\n", b"\r\n\r\n", b"\0", b": ", b"HTTP/1.1", b"%", b"chunked", b"\xff"])
            case _:
                raw[at : at + 1] = chance.randbytes(1)
    return bytes(raw)


def test_four_thousand_mutated_requests_are_answered_and_harm_nothing(
    target: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(14)
    statuses = set()
    for number in range(4000):
        raw = mutated(chance)
        received = converse(target.port, raw)
        # A stream's own head says 200 where the mutation made a good request for it of one.
        found = re.findall(rb"^HTTP/1\.[01] (\d+)", received, re.MULTILINE)
        assert found or not raw.strip(b"\r\n") or received.startswith(b"\0\0\0\4"), (number, raw, received)
        assert b"500" not in found, (number, raw)
        statuses.update(found)
    assert {b"400", b"403", b"404", b"405"} <= statuses
    assert_alive(target)
    assert all(character.isprintable() or character == "\n" for record in caplog.records for character in record.msg)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nX: y\r\ncontent-length: 3\r\n",
        b"Content-Length: 12\r\nTRANSFER-ENCODING:chunked\r\n",
        b"Content-Length: x\r\nTransfer-Encoding: gzip\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_length_and_chunks_together_are_refused_and_nothing_follows(serve: Serve, headers: bytes, step: int) -> None:
    """RFC 9112, 6.1: whichever another server on the way went by, what follows is nobody's request."""
    server = serve()
    called: list[bytes] = []
    server.post("/echo")(lambda request: called.append(request.body))
    first = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab"
    raw = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n2\r\nab\r\n0\r\n\r\n"
    raw = first + raw + b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as sock, contextlib.suppress(BrokenPipeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), step):
            sock.sendall(raw[at : at + step])
        received = b"".join(iter(lambda: sock.recv(65536), b""))
        assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"204", b"400"]
        assert b"Content-Length and a Transfer-Encoding" in received
        assert b"\r\nconnection: close\r\n" in received
    assert called == [b"ab"]
    assert server.stats().malformed == 1


def test_a_line_that_ends_in_lf_alone_is_named(target: sse_fast.Server) -> None:
    for raw in (b"GET / HTTP/1.1\nHost: localhost\r\n\r\n", b"\n"):
        assert b"a line of the head ends in LF alone" in converse(target.port, raw)


def test_what_cannot_be_read_is_counted_and_logged_without_its_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sse_fast")
    with sse_fast.serve(0, max_body_bytes=10, drain=0.5) as server:
        server.post("/echo")(lambda request: len(request.body))
        head = b"Host: localhost\r\n"
        for raw in (
            b"GET /s?ticket=secret HTTP/9.9\r\nAuthorization: Bearer secret\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + head + b"Cookie: " + b"secret" * 4000 + b"\r\n\r\n",
            b"POST /echo?ticket=secret HTTP/1.1\r\n" + head + b"Content-Length: 11\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + head + b"Expect: secret\r\n\r\n",
        ):
            converse(server.port, raw)
        stats = server.stats()
        assert (stats.malformed, stats.heads_refused, stats.bodies_refused) == (2, 1, 1)
        until(lambda: len([r for r in caplog.records if "was refused" in r.getMessage()]) >= 3, what="the records")
    texts = [record.getMessage() for record in caplog.records]
    assert not any("secret" in text for text in texts)
    assert any("this server speaks HTTP/1.1" in text and "GET /s" in text for text in texts)
    assert any("max_body_bytes=10" in text and '"/echo"' in text for text in texts)
