"""A Redis of one measurement alone.

Owns: how it is started and asked. Must not know: who uses it.
"""

from __future__ import annotations

import os
import shutil
import socket
from typing import TYPE_CHECKING

from .processes import Child, ChildError, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def program() -> str | None:
    """Where it is: `scripts/with-redis` says so, or it is on the PATH."""
    return os.environ.get("REDIS_SERVER") or shutil.which("redis-server")


def started(host: str, folder: Path) -> tuple[Child, str]:
    """It listens, keeps nothing on disk, and its URL."""
    found = program()
    if not found:
        raise ChildError("redis-server is needed: scripts/with-redis installs it")
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    words = ["--port", str(port), "--bind", host, "--dir", str(folder), "--save", "", "--appendonly", "no"]
    child = Child([found, *words, "--protected-mode", "no"], log=(folder / "redis.log").open("wb"))

    def listens() -> bool:
        child.check()
        with socket.socket() as sock:
            return sock.connect_ex((host, port)) == 0

    wait_until(listens, 10, "redis-server listens")
    return child, f"redis://{host}:{port}/0"


def used_memory(host: str, port: int) -> int:
    """Bytes of its data and what it needs for it, as `INFO memory` says."""
    with socket.create_connection((host, port), 10.0) as sock:
        sock.sendall(b"INFO memory\r\n")
        received = b""
        while b"used_memory:" not in received or not received.endswith(b"\r\n"):
            received += sock.recv(1 << 16)
    line = next(line for line in received.split(b"\r\n") if line.startswith(b"used_memory:"))
    return int(line.partition(b":")[2])
