"""The bodies of requests, all together: how much of them a server holds, and who gives way.

Guards that bodies which never end cost no more memory than is documented, and keep no other request from its handler.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import Serve
from support.deadline import until
from support.http import parse_head
from support.own_server import own_server
from support.reader import Reader, fetch

MIB = 1 << 20
HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
BEGUN = {
    "declared": HEAD + b"Content-Length: %d\r\n\r\n" % MIB + b"x" * (MIB - 1),
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % MIB + b"x" * (MIB - 1),
}


def send(port: int, stack: ExitStack, raw: bytes) -> socket.socket:
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    sock.settimeout(30)
    sock.sendall(raw)
    return sock


@pytest.mark.parametrize("form", BEGUN)
def test_bodies_that_never_end_give_way_to_those_that_do(
    serve: Serve, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    caplog.set_level(logging.INFO, "sse_fast")
    server = serve()
    server.post("/echo")(lambda request: len(request.body))
    with ExitStack() as stack:
        # Together they take all the room but a byte of each.
        socks = [send(server.port, stack, BEGUN[form]) for _ in range(64)]
        body = b"y" * 100_000

        def is_answered() -> bool:
            head, answer = fetch(server.port, "/echo", method="POST", body=body)
            assert (head.status, answer) == (200, b"100000") or head.status == 503
            return head.status == 200 and bool(select.select(socks, [], [], 0)[0])

        until(is_answered, what="an answer of the handler, for which one of them has given way")
        gave_way = select.select(socks, [], [], 0)[0][0]
        head = parse_head(gave_way.recv(4096).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        assert (head.status, head["retry-after"], head["connection"]) == (503, "2", "close")
        assert server.stats().calls_refused >= 1
    until(lambda: "bodies that come, or wait for a handler, have 67108864 bytes in all" in caplog.text)
    assert fetch(server.port, "/echo", method="POST", body=b"z" * MIB)[1] == b"1048576"


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_bodies_that_never_end_cost_no_more_memory_than_there_is_room() -> None:
    program = """
import sse_fast
server = sse_fast.serve(0, shards=1)
server.post("/echo")(lambda request: len(request.body))
"""
    with own_server(program) as child, ExitStack() as stack:
        port = child.port

        def peak() -> int:
            lines = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

        before, socks = peak(), []
        for number in range(180):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.settimeout(30)
            # One that is refused may be closed before all of it is sent.
            with contextlib.suppress(ConnectionError):
                sock.sendall(BEGUN["declared" if number % 2 else "chunked"])
            socks.append(sock)
        until(lambda: len(select.select(socks, [], [], 0)[0]) >= 180 - 64, what="the answers to those without room")
        assert peak() - before < 110 * MIB
        child.end()


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_requests_with_bodies_follow_each_other_however_they_come(serve: Serve, step: int) -> None:
    server = serve()
    server.post("/echo")(lambda request: request.body.decode())
    requests = [
        HEAD + b"Content-Length: 4\r\n\r\n\na\n\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n2;x=y\r\nbc\r\n0\r\nX: 1\r\nY: 2\r\n\r\n",
        HEAD + b"\r\n",
        b"\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\nd",
    ]
    raw = b"".join(requests)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.settimeout(30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), step):
            sock.sendall(raw[at : at + step])
        received = b""
        while piece := sock.recv(1 << 16):
            received += piece
    bodies = [part.partition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b'"\\na\\n\\n"', b'"\\nbc"', b'""', b'""', b'"d"']


UNWANTED = [
    (b"POST /none HTTP/1.1\r\n", 404),
    (b"PUT /echo HTTP/1.1\r\n", 405),
    (b"POST /echo HTTP/1.1\r\nOrigin: https://evil.example\r\n", 403),
    (b"GET /streams/s HTTP/1.1\r\nAccept: application/json\r\n", 200),
    (b"GET /healthz HTTP/1.1\r\n", 200),
]


@pytest.mark.parametrize(("begin", "status"), UNWANTED)
@pytest.mark.parametrize("comes", [True, False])
def test_an_answer_to_a_body_that_nobody_wanted_says_whether_the_connection_ends(
    serve: Serve, begin: bytes, status: int, comes: bool
) -> None:
    server = serve()
    server.post("/echo")(lambda request: request.body.decode())
    server.stream("s", start="all").publish("event")
    with Reader(server.port, raw=begin + b"Host: localhost\r\nContent-Length: 4\r\n\r\n") as reader:
        until(lambda: server.stats().requests == 1, what="the request")
        if comes:
            reader.send(b"body")
        head = reader.read_head()
        assert head.status == status
        # On a busy machine the body may come too late for the connection to go on.
        if head.all("connection") == ["close"]:
            reader.read_eof()
            return
        assert comes, "what never comes is not waited for"
        reader.read_to_end()
        reader.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.read_head().status == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_answer_is_whole_though_a_body_that_nobody_wanted_never_comes(serve: Serve, framing: bytes) -> None:
    server = serve()
    stream = server.stream("s", start="all", history_bytes=8 << 20)
    for _ in range(240):
        stream.publish("z" * 1000)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.settimeout(30)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n" + framing + b"\r\n")
        # Its window is full by then, with most of the answer to come.
        until(lambda: select.select([sock], [], [], 0)[0], what="the beginning of the answer")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    told = parse_head(head + b"\r\n\r\n")
    assert (len(body), told["connection"]) == (int(told["content-length"]), "close")


@pytest.mark.parametrize(
    "last",
    [
        b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /none HTTP/1.0\r\nHost: localhost\r\n\r\n",
        b"POST /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("behind", [b"GET /none HTTP/1.1\nHost: localhost\n\n", b"GET /none HTTP/1.1\r\n\r\n", b"\n"])
def test_nothing_behind_the_last_request_of_a_connection_is_answered(serve: Serve, last: bytes, behind: bytes) -> None:
    server = serve()
    with Reader(server.port, raw=last + behind) as reader:
        assert reader.read_eof().count(b"HTTP/1.") == 1
    assert (server.stats().requests, server.stats().malformed) == (1, 0)
