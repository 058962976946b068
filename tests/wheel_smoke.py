"""What an installed wheel must be able to do, with the standard library alone; `scripts/test-wheels` runs it.

    python -I wheel_smoke.py

It is a program, not a pytest module: the environments it runs in hold the wheel and what the wheel depends on, nothing
else. It serves, publishes, reads over a socket, resumes, runs a child that emits, iterates in asyncio, and closes.
"""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
import socket
import sys
import threading
import types
import typing
from pathlib import Path

import sse_fast
from sse_fast import runner, testing

DEADLINE = 30.0

CHILD = """
from sse_fast.runner import emit
print("an ordinary log line")
emit("COMPILING", {"step": 1})
emit("BENCHMARKED", {"runtime_ms": 4.2})
"""


def read(port: int, path: str, last_event_id: str = "") -> tuple[str, str]:
    """Head and body of a stream that ends; HTTP/1.0, so that the body is the stream's own bytes."""
    resume = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{resume}\r\n".encode())
        received = b""
        while data := sock.recv(65536):
            received += data
    head, _, body = received.decode().partition("\r\n\r\n")
    return head, body


def nothing_is_borrowed() -> None:
    """The package comes from this environment, whole, and no compiler is in reach."""
    package = Path(sse_fast.__file__).resolve().parent
    assert Path(sys.prefix).resolve() in package.parents, package
    assert sse_fast.__version__
    demos = ("demos/base.css", "demos/site.js", "demos/benchmarks/page.html", "demos/workflow/page.html")
    for name in ("py.typed", "_core.pyi", "static/sse-fast.js", "static/sse-fast.d.ts", *demos):
        assert (package / name).is_file(), name
    assert shutil.which("cargo") is None
    assert shutil.which("rustc") is None


def annotations_resolve() -> None:
    """Those of every public name, also where the interpreter's typing lacks what a type checker's has."""
    for module in (sse_fast, runner, testing):
        for name in module.__all__:
            value = getattr(module, name)
            for annotated in (value, *(vars(value).values() if isinstance(value, type) else ())):
                function = getattr(annotated, "fget", getattr(annotated, "__wrapped__", annotated))
                if isinstance(function, (type, types.FunctionType)):
                    typing.get_type_hints(function)
    assert typing.get_type_hints(sse_fast.serve)["return"] is sse_fast.Server
    assert typing.get_type_hints(sse_fast.Stream.stats) == {}, "what is native has its types in the stub"


def streams(server: sse_fast.Server) -> None:
    """Publish, read, resume, and be told that there is nothing more."""
    stream = server.stream("runs/42", start="all", heartbeat=None)
    first = stream.publish({"status": "COMPILING"}, event="COMPILING")
    last = stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED")
    compiling = f'event: COMPILING\nid: {first}\ndata: {{"status":"COMPILING"}}\n\n'
    benchmarked = f'event: BENCHMARKED\nid: {last}\ndata: {{"status":"BENCHMARKED"}}\n\n'
    head, body = read(server.port, "/streams/runs/42")
    assert head.split()[1] == "200", head
    assert body == compiling + benchmarked, body
    assert read(server.port, "/streams/runs/42", first)[1] == benchmarked
    assert read(server.port, "/streams/runs/42", last)[0].split()[1] == "204"


def live(server: sse_fast.Server) -> None:
    """A subscriber that is there first gets events as they come."""
    stream = server.stream("live")
    bodies: list[str] = []
    reader = threading.Thread(target=lambda: bodies.append(read(server.port, "/streams/live")[1]))
    reader.start()
    while not stream.subscribers:
        threading.Event().wait(0.005)
    for number in range(1000):
        stream.publish(number)
    stream.end("over")
    reader.join(DEADLINE)
    assert bodies, "the reader did not come to an end"
    data = [line[6:] for line in bodies[0].splitlines() if line.startswith("data: ")]
    assert data == [*map(str, range(1000)), "over"]


def run(server: sse_fast.Server) -> None:
    """A child's emitted events are its stream; what it prints is not."""
    child = server.run([sys.executable, "-I", "-c", CHILD], stream="run")
    assert child.wait(timeout=DEADLINE) == 0
    assert (child.status, child.result) == ("BENCHMARKED", {"runtime_ms": 4.2})
    _, body = read(server.port, "/streams/run")
    assert [line for line in body.splitlines() if line.startswith("event: ")] == [
        "event: COMPILING",
        "event: BENCHMARKED",
        "event: end",
    ]
    assert "ordinary" not in body


async def iterate(server: sse_fast.Server) -> None:
    """`async for`, while a thread publishes."""
    stream = server.stream("async")
    threading.Timer(0.05, lambda: (stream.publish({"n": 1}), stream.end("over"))).start()
    seen = [(event.event, event.data) async for event in stream.events(start="all", timeout=DEADLINE)]
    assert seen == [("message", '{"n":1}'), ("end", "over")], seen


def handlers(server: sse_fast.Server) -> None:
    """A handler in Python, its answer in JSON."""
    server.get("/answer")(lambda request: {"path": request.path})
    assert json.loads(read(server.port, "/answer")[1]) == {"path": "/answer"}


def main() -> None:
    """Everything above on one server, which is then gone."""
    nothing_is_borrowed()
    annotations_resolve()
    with sse_fast.serve(0) as server:
        streams(server)
        live(server)
        run(server)
        asyncio.run(iterate(server))
        handlers(server)
        open_stream = server.stream("open")
    try:
        open_stream.publish("too late")
    except sse_fast.ServerClosed:
        pass
    else:
        raise AssertionError("published into a server that is closed")
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", server.port)) != 0, "it still listens"
    print(f"sse_fast {sse_fast.__version__} works on {platform.python_implementation()} {platform.python_version()}")


if __name__ == "__main__":
    main()
