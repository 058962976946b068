"""The row about requests that are not subscriptions: the engine's own script, beside plain hyper with the same body.

Owns: building plain hyper, and a client that keeps its connections. Must not know: what else the engine answers.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from . import peers
from .bars_figure import Bar, Figure, beside, median, times
from .bars_stage import Ours, Stage, Tree
from .processes import ROOT, ChildError

if TYPE_CHECKING:
    from pathlib import Path

    from .bars_stage import Row

_MANIFEST = ROOT / "loadtest" / "neutral" / "plain-hyper" / "Cargo.toml"
_BUILT = ROOT / "target" / "plain-hyper"  # Beside everything that cargo builds here.
_LONGEST_BUILD = 600.0
_PATH = "/sse-fast.js"
_CONNECTIONS = 32
_WARM, _ROUNDS = 50, 1000  # In each round one request on every connection.


class PlainHyper(peers.Peer):
    """neutral/plain-hyper: hyper on one thread, one body."""

    name = "plain hyper"

    def __init__(self, folder: Path, port: int, size: int, *, body: bytes) -> None:
        """Not started yet; gives `body` to every request."""
        super().__init__(folder, port, size)
        self._body = body

    @classmethod
    def hint(cls) -> str | None:
        """A Rust toolchain builds it."""
        return None if shutil.which("cargo") else "plain hyper is built by cargo: install Rust"

    def start(self) -> None:
        """Builds it where that has not been done; it listens when this returns."""
        build = ["cargo", "build", "--release", "--locked", "--manifest-path", _MANIFEST, "--target-dir", _BUILT]
        done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=_LONGEST_BUILD)
        if done.returncode:
            raise ChildError(f"plain hyper cannot be built: {done.stderr[-300:]}")
        file = self.folder / "body"
        file.write_bytes(self._body)
        self._spawn(_BUILT / "release" / "plain-hyper", str(self.port), file)


def _requests(stage: Stage) -> list[Figure]:
    if hint := PlainHyper.hint():
        return [Figure("CPU per request", None, "times plain hyper", missing=hint)]
    pairs: list[dict[str, Row]] = []
    for number in range(stage.runs):
        ours, body = _measured(stage, Ours)
        plain, _ = _measured(stage, PlainHyper, body=body)
        one, _ = _measured(stage, Ours, shards=1)
        pairs.append({"plain hyper": plain, "sse_fast": ours, "sse_fast, one shard": one})
        stage.say(f"  requests, run {number + 1}: {pairs[-1]}")
    rates = times(pairs, "per_s", over="plain hyper")
    cpu = times(pairs, "cpu_us", over="plain hyper")
    return [
        median("CPU per request", cpu, "times plain hyper", at_most=1.2, beside=beside(pairs, "cpu_us")),
        median("requests/s", rates, "times plain hyper", beside=beside(pairs, "per_s")),
    ]


def _measured(stage: Stage, kind: type[peers.Peer], **options: bytes | int) -> tuple[Row, bytes]:
    """Figures, and the body of the answer."""
    with stage.serving(kind, **options) as server:
        request = f"GET {_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: */*\r\n\r\n".encode()
        connections = [socket.create_connection(("127.0.0.1", server.port), 10.0) for _ in range(_CONNECTIONS)]
        try:
            connections[0].sendall(request)
            size, body = _answer(connections[0])
            _drive(connections, request, size, _WARM)
            process = Tree(server)
            cpu, began = process.cpu(), time.monotonic()
            _drive(connections, request, size, _ROUNDS)
            took, spent = time.monotonic() - began, process.cpu() - cpu
        finally:
            for connection in connections:
                connection.close()
    count = _ROUNDS * _CONNECTIONS
    return {"cpu_us": round(spent / count * 1e6, 3), "per_s": round(count / took), "bytes": size}, body


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    """How long an answer is, head and all, and its body: every later one is as long."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    if " 200 " not in lines[0]:
        raise ValueError(f"{_PATH} was answered by {lines[0]!r}")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    while len(body) < length:
        body += connection.recv(1 << 16)
    return len(head) + 4 + length, body


def _drive(connections: list[socket.socket], request: bytes, size: int, rounds: int) -> None:
    buffer = bytearray(size)
    for _ in range(rounds):
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            left = size
            while left:
                got = connection.recv_into(buffer, left)
                if not got:
                    raise ChildError("the server closed a connection that was to be kept")
                left -= got


BARS = (
    Bar(
        "requests",
        "HTTP/1.1 requests that are not subscriptions",
        "within 20 % of plain hyper",
        f"GET {_PATH} on 32 connections that are kept, 32,000 requests, each round one on every connection; plain "
        "hyper gives the same body on one thread; CPU of the process tree",
        _requests,
    ),
)
