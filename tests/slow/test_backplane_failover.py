"""A backplane whose server fails over, or whose processes die: what takes seconds by the wall clock."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

import sse_fast
from support.backplane import KINDS, BackplaneServer
from support.deadline import until
from support.process import Program
from support.reader import Reader

Serve = Callable[..., "sse_fast.Server"]


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    with BackplaneServer(request.param) as server:
        yield server


def published(stream: sse_fast.Stream, data: str) -> str | None:
    try:
        return stream.publish(data)
    except sse_fast.BackplaneUnavailable:
        return None


class Forwarding:
    """Has one port lead to another."""

    def __init__(self, port: int, target: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._target = target
        self._open: list[socket.socket] = []

    def __enter__(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()


def test_a_failover_with_a_lost_tail_never_gives_an_id_twice(shared: BackplaneServer, serve: Serve) -> None:
    """The replica lacks the last events; what is published after its promotion has ids of another life."""
    with BackplaneServer(shared.kind) as replica:
        replica.follow(shared)
        server = serve(backplane=shared.url, backplane_timeout=10.0)
        stream = server.stream("s", start="all")
        before = [stream.publish(str(number)) for number in range(3)]
        until(lambda: replica.info("master_repl_offset") == shared.info("master_repl_offset"))
        shared.command("CLIENT", "KILL", "TYPE", "replica")
        replica.pause()
        lost = [stream.publish("lost") for _ in range(2)]
        shared.kill()
        replica.go_on()
        replica.command("REPLICAOF", "NO", "ONE")
        # The promoted one takes the place of the one that died, at its address.
        with Forwarding(shared.port, replica.port):
            after = until(lambda: published(stream, "after"))
            assert after not in {*before, *lost}
            assert after.partition("-")[0] != before[0].partition("-")[0]
            with Reader(server.port, last_event_id=lost[-1]) as reader:
                assert json.loads(reader.open().next().data)["skipped"] is None


COUNTING = """
import sys, time
import sse_fast

server = sse_fast.serve(0, backplane=sys.argv[1])
stream = server.stream("s")
print("port", server.port)
while True:
    print(stream.subscribers)
    time.sleep(0.2)
"""


def test_the_readers_of_a_killed_process_are_counted_no_more(shared: BackplaneServer) -> None:
    with (
        Program(COUNTING, shared.url) as one,
        Program(COUNTING, shared.url) as counting,
        Reader(int(one.line_with("port"))) as reader,
    ):
        reader.open()
        until(lambda: counting.line() == "1")
        one.send_signal(signal.SIGKILL)
        one.wait()
        # Its lease of ten seconds runs out.
        until(lambda: counting.line() == "0", deadline=40.0)
