"""Crowds at the doors: connections that say nothing, are kept, or are only to be told that there are too many.

Guards that none of them keeps a probe of health from its answer, or an address from the places that nobody has,
and that nobody who is served is closed for them.
"""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.own_server import own_server
from support.reader import Reader, fetch, request

JSON = b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"


def metrics_port(server: sse_fast.Server) -> int:
    found = re.search(r":(\d+)/metrics$", server.metrics_url or "")
    assert found is not None
    return int(found[1])


def answer(port: int, raw: bytes = JSON, *, source: str = "127.0.0.1") -> bytes:
    """The first line of what is answered from this address."""
    with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as sock:
        sock.settimeout(10)
        sock.sendall(raw)
        return sock.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize("said", [b"", b"GET /met"], ids=["silent", "slow"])
def test_a_crowd_at_the_listener_of_metrics_keeps_no_probe_out(
    serve: Serve, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    server = serve(metrics="127.0.0.1:0", header_timeout=60.0)
    port = metrics_port(server)
    with ExitStack() as stack:
        crowd = [stack.enter_context(Reader(port, raw=said)) for _ in range(40)]
        for path in ("/healthz", "/readyz", "/metrics"):
            assert fetch(port, path)[0].status == 200
        assert crowd[0].read_eof() == b""
        until(lambda: server.stats().metrics_refused >= 8, what="those that gave way, counted")
    until(lambda: "the metrics' listener gave way to another: 32 are open" in caplog.text, what="the record")


def test_connections_that_are_kept_keep_no_probe_out(serve: Serve) -> None:
    server = serve(metrics="127.0.0.1:0", header_timeout=60.0)
    port = metrics_port(server)
    with ExitStack() as stack:
        kept = [stack.enter_context(Reader(port, raw=request("/healthz", port))) for _ in range(32)]
        for one in kept:
            assert one.read_head().status == 200
            one.read_to_end()
        assert fetch(port, "/healthz")[0].status == 200
        # The newest of them is still served.
        kept[-1].ask(request("/healthz", port))
        assert kept[-1].read_head().status == 200


def test_who_is_only_to_be_told_keeps_no_probe_out(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, header_timeout=60.0)
    stream = server.stream("s")
    with Reader(server.port) as reader, ExitStack() as stack:
        reader.open()
        for _ in range(3):
            for _ in range(20):
                stack.enter_context(Reader(server.port, raw=b""))
            for path in ("/healthz", "/readyz"):
                assert fetch(server.port, path)[0].status == 200
            assert fetch(server.port, "/streams/s", headers=[("Accept", "application/json")])[0].status == 503
        stream.publish("to who is served")
        assert reader.next().data == "to who is served"


def test_an_own_path_of_health_is_open_to_all(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, header_timeout=60.0, health="/well")
    server.stream("s")
    with Reader(server.port) as reader, ExitStack() as stack:
        reader.open()
        for _ in range(20):
            stack.enter_context(Reader(server.port, raw=b""))
        assert fetch(server.port, "/well")[0].status == 200


def test_a_silent_crowd_beyond_a_small_limit_of_open_files_keeps_no_probe_out() -> None:
    program = """
import resource, sse_fast
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
server = sse_fast.serve(0, shards=1, header_timeout=60.0)
server.stream("s")
"""
    with own_server(program, "server.stats().refused") as child, ExitStack() as stack:
        port = child.port
        while True:
            reader = stack.enter_context(Reader(port, headers=[("Accept", "text/event-stream")]))
            if reader.read_head()["cache-control"] == "no-store":
                break
        for _ in range(3):
            for _ in range(40):
                stack.enter_context(Reader(port, raw=b""))
            assert fetch(port, "/healthz")[0].status == 200
        assert int(child.end()) >= 100, "those that gave way are counted"


def test_who_is_only_told_takes_no_place_of_its_address(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, header_timeout=60.0)
    server.stream("s")
    with ExitStack() as stack:
        with Reader(server.port) as reader:
            reader.open()
            for _ in range(16):
                stack.enter_context(Reader(server.port, raw=b""))
            until(lambda: server.stats().connections > 1, what="those that are to be told")
        until(lambda: server.stats().subscribers == 0, what="the place that nobody has")
        assert answer(server.port) == b"HTTP/1.1 200 OK"


def test_who_is_told_of_the_limit_of_all_takes_no_place_of_its_address_either(serve: Serve) -> None:
    server = serve(max_connections=1, max_connections_per_address=1, header_timeout=60.0)
    server.stream("s")
    with ExitStack() as stack:
        with Reader(server.port) as reader:
            reader.open()
            silent = socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.2", 0))
            stack.enter_context(silent)
            until(lambda: server.stats().connections == 2, what="the one that is to be told")
        until(lambda: server.stats().subscribers == 0, what="the place that nobody has")
        assert answer(server.port, source="127.0.0.2") == b"HTTP/1.1 200 OK"
