"""Whether a server says that it is well, and that it leaves: to everybody who asks, while Python does anything."""

from __future__ import annotations

import ctypes
import json
import select
import signal
import socket
import threading
from collections.abc import Iterable

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.http import Head
from support.process import Program
from support.reader import Reader, fetch, request

#: Asks for a path so many times once it is told to, and tells when it has the answers.
PROBE = """
import socket, sys
port, teller, times, path = *map(int, sys.argv[1:4]), sys.argv[4]
teller = socket.create_connection(("127.0.0.1", teller))
assert teller.recv(1) == b"g"
answers = []
for _ in range(times):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\\r\\nHost: balancer.test\\r\\nConnection: close\\r\\n\\r\\n".encode())
        answers.append(sock.makefile("rb").read().decode())
teller.sendall(b"enough")
print("\\n".join(answer.split("\\r\\n")[0] for answer in answers))
"""


def asked(
    port: int, path: str, *, method: str = "GET", headers: Iterable[tuple[str, str]] = (), host: str = "balancer.test"
) -> tuple[Head, bytes]:
    """One request that is addressed to a name that the server may not know."""
    with Reader(port, raw=request(path, port, method=method, headers=headers, host=host)) as reader:
        return reader.read_head(), b"" if method == "HEAD" else reader.read_to_end()


def status(port: int, path: str, method: str = "GET") -> int:
    return fetch(port, path, method=method)[0].status


def port_of_metrics(server: sse_fast.Server) -> int:
    assert server.metrics_url is not None
    return int(server.metrics_url.split(":")[2].split("/")[0])


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_they_are_answered_while_handlers_block_and_the_interpreter_is_held(serve: Serve, path: str) -> None:
    server = serve(handler_threads=2, metrics="127.0.0.1:0")
    release, begun = threading.Event(), threading.Semaphore(0)

    @server.get("/blocks")
    def blocks(_request: sse_fast.Request) -> None:
        begun.release()
        release.wait(DEADLINE)

    port = port_of_metrics(server) if path == "/metrics" else server.port
    waiting = [Reader(server.port, "/blocks") for _ in range(4)]
    try:
        for _ in range(2):
            assert begun.acquire(timeout=DEADLINE)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(DEADLINE)
            source = PROBE.replace("balancer.test", "localhost") if path == "/metrics" else PROBE
            with Program(source, port, listener.getsockname()[1], 50, path) as probe:
                told, _ = listener.accept()
                with told:
                    assert hold_until_told(told.fileno()), "no answers came while the interpreter was held"
                assert probe.wait() == 0
                assert set(probe.read_to_end()) == {"HTTP/1.1 200 OK"}
    finally:
        release.set()
        for reader in waiting:
            reader.close()


def hold_until_told(fd: int) -> bool:
    """Says "go", and waits in C for an answer; the interpreter lock is held all the time."""

    class PollFd(ctypes.Structure):
        _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))

    libc = ctypes.PyDLL(None)
    libc.send(fd, b"g", 1, 0)
    return bool(libc.poll(ctypes.byref(PollFd(fd, select.POLLIN, 0)), 1, int(DEADLINE * 1000)) == 1)


def test_they_tell_nothing_and_ask_for_no_host_key_or_origin(serve: Serve) -> None:
    server = serve(allowed_hosts=["app.example"])
    server.stream("secret/name").publish("hunter2")
    for path, method in [("/healthz", "GET"), ("/readyz", "GET"), ("/%68ealthz?a=b", "GET")]:
        headers = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")]
        head, body = asked(server.port, path, method=method, headers=headers)
        assert (head.status, body) == (200, b"ok\n")
        assert head["cache-control"] == "no-store"
        assert {name for name, _ in head.headers} == {"content-type", "cache-control", "content-length", "date"}
    head, body = asked(server.port, "/healthz", method="HEAD")
    assert (head.status, body) == (200, b"")
    head, _ = asked(server.port, "/healthz", method="POST")
    assert (head.status, head["allow"]) == (405, "GET, HEAD")
    assert asked(server.port, "/streams/secret/name")[0].status == 403


def test_they_give_way_to_the_application_s_own(serve: Serve) -> None:
    server = serve()
    server.get("/healthz")(lambda _request: {"mine": True})
    assert json.loads(fetch(server.port, "/healthz")[1]) == {"mine": True}
    assert status(server.port, "/readyz") == 200
    server.get("/{*rest}")(lambda _request: {"mine": True})
    assert json.loads(fetch(server.port, "/readyz")[1]) == {"mine": True}


def test_they_can_be_elsewhere_or_nowhere(serve: Serve) -> None:
    moved = serve(health="/internal/alive", ready="/internal/ready")
    assert [status(moved.port, f"/internal/{path}") for path in ("alive", "ready")] == [200, 200]
    off = serve(health=None, ready=None)
    for server in (moved, off):
        assert [status(server.port, path) for path in ("/healthz", "/readyz")] == [404, 404]


@pytest.mark.parametrize("path", ["healthz", "", "/a b", "/%68", "/a?b", "/{a}", 7, b"/x"])
def test_a_path_that_no_request_has_is_refused(path: object) -> None:
    with pytest.raises(sse_fast.SettingError, match=r"health=.*a path such as"):
        sse_fast.serve(0, health=path)  # type: ignore[arg-type]


def test_they_are_answered_beyond_the_limit_of_connections(serve: Serve) -> None:
    server = serve(max_connections=2)
    server.stream("s")
    with Reader(server.port) as first, Reader(server.port) as second:
        first.open()
        second.open()
        assert status(server.port, "/other") == 503
        assert [status(server.port, path) for path in ("/healthz", "/readyz")] == [200, 200]


def test_while_it_drains_it_says_so_where_it_still_listens(serve: Serve) -> None:
    server = serve(metrics="127.0.0.1:0")
    port = port_of_metrics(server)
    release = threading.Event()
    server.get("/blocks")(lambda _request: release.wait(DEADLINE) and "done")
    assert status(port, "/readyz") == 200
    with Reader(server.port, "/blocks") as reader:
        until(lambda: server.stats().requests == 1)
        closing = threading.Thread(target=server.close, kwargs={"drain": DEADLINE})
        closing.start()
        until(lambda: status(port, "/readyz") == 503, what="it drains")
        assert status(port, "/healthz") == 200
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port))
        release.set()
        while reader.pump():
            pass
        assert b'"done"' in reader.received
    closing.join(DEADLINE)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


LEAVES = """
import asyncio, sse_fast, sys, threading
lame_duck, how = float(sys.argv[1]), sys.argv[2]
server = sse_fast.serve(0, lame_duck=lame_duck)
server.stream("s").publish("before")

@server.post("/close")
def close(request):
    threading.Thread(target=server.close).start()

print(server.port, flush=True)
if how == "wait":
    server.wait()
else:
    asyncio.run(server.wait_async())
print("closed", server.closed)
"""


@pytest.mark.parametrize("how", ["wait", "wait_async"])
def test_after_a_signal_the_port_stays_open_and_it_says_that_it_leaves(how: str) -> None:
    with Program(LEAVES, 3600, how) as program:
        port = int(program.line())
        assert status(port, "/readyz") == 200
        until(lambda: program.catches(signal.SIGTERM))
        program.send_signal(signal.SIGTERM)
        until(lambda: status(port, "/readyz") == 503, what="it leaves")
        assert status(port, "/healthz") == 200
        with Reader(port, "/streams/s", headers=[("Accept", "text/event-stream")]) as reader:
            reader.open()
            # It serves until it is closed, here before its time.
            assert status(port, "/close", method="POST") < 300
            reader.rest()
        assert program.wait() == 0
        assert program.read_to_end()[-1] == "closed True"


@pytest.mark.parametrize("how", ["wait", "wait_async"])
def test_when_that_time_is_over_it_closes(how: str) -> None:
    with Program(LEAVES, 0.1, how) as program:
        program.line()
        until(lambda: program.catches(signal.SIGTERM))
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0
        assert program.read_to_end()[-1] == "closed True"


def test_a_second_signal_does_not_wait_for_that_time() -> None:
    with Program(LEAVES, 3600, "wait") as program:
        port = int(program.line())
        until(lambda: program.catches(signal.SIGTERM))
        program.send_signal(signal.SIGTERM)
        until(lambda: status(port, "/readyz") == 503)
        program.send_signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM
