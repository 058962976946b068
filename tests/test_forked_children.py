"""Children forked while a server runs, which live on with copies of everything that was open.

Guards that such a child changes nothing for readers: a connection that is closed here
and still open there must not be taken for one that came later, and the server's port
and connections end with the server.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

import sse_fast
from support.deadline import until
from support.process import Program
from support.reader import Reader, fetch

SERVER = """
import os, sse_fast, threading
server = sse_fast.serve(0, heartbeat=0.1, stall_timeout=1.0, shards=SHARDS)
server.stream("quiet")
gate, held = os.pipe()

@server.post("/fork")
def fork(_req):
    pid = os.fork()
    if not pid:
        os.close(held)
        os.read(gate, 1)  # Until its parent has ended.
        os._exit(0)
    return pid

@server.get("/subscribers")
def subscribers(_req):
    return server.stream("quiet").subscribers

print("port", server.port)
server.wait()
print("closed")
threading.Event().wait()
"""


@contextlib.contextmanager
def subscribers(port: int, count: int) -> Iterator[list[Reader]]:
    """Readers that have had a heartbeat."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(port, "/streams/quiet")) for _ in range(count)]
        for reader in readers:
            # Of a connection that was closed here the system remembers the half that the child holds for a minute; a
            # second is enough for this test.
            reader.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
            beats(reader.open(), 1)
        yield readers


def beats(reader: Reader, count: int) -> None:
    seen = len(reader.parser.comments)
    reader.read_until(lambda: len(reader.parser.comments) >= seen + count, what=f"{count} heartbeats")


@contextlib.contextmanager
def forked(shards: int) -> Iterator[tuple[Program, int]]:
    with Program(SERVER.replace("SHARDS", str(shards)), options=("-u", "-W", "ignore")) as program:
        yield program, int(program.line_with("port"))


@pytest.mark.parametrize("shards", [1, 2])
def test_a_child_never_costs_a_stranger_its_connection(shards: int) -> None:
    """Who comes after others left may get their places; what the system says about the others then is not theirs."""
    with forked(shards) as (_, port):
        with subscribers(port, 50):
            assert fetch(port, "/fork", method="POST")[0].status == 200
        until(lambda: fetch(port, "/subscribers")[1] == b"0", what="the first readers being forgotten")
        with subscribers(port, 50) as readers:
            # Three times as long as the system remembers the others, and as `stall_timeout`.
            for reader in readers:
                beats(reader, 30 if reader is readers[0] else 5)


def test_a_child_holds_neither_port_nor_connection_of_a_server_that_closed() -> None:
    with forked(2) as (program, port), subscribers(port, 10) as readers:
        assert fetch(port, "/fork", method="POST")[0].status == 200
        with Reader(port, "/subscribers") as kept:
            kept.read_to_end()
            program.process.terminate()
            assert program.line() == "closed"
            for reader in (*readers, kept):
                reader.read_eof()
        with pytest.raises(ConnectionRefusedError):
            Reader(port)
        with sse_fast.serve(port) as again:
            assert again.port == port
