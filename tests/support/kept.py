"""Servers with a store, in processes that can be killed; and disks that are full.

A `Kept` is such a server: what it is to do is source text, and what it says are lines.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sse_fast

from .deadline import DEADLINE
from .process import Program

#: What each of these programs begins with: `server`, made with the settings that it was given, and `say`.
BEGINNING = """
import json, os, sys, threading, time
import sse_fast
settings = json.loads(sys.argv[1])
server = sse_fast.serve(settings.pop("port", 0), **settings)
def say(*words):
    print(*words, flush=True)
say("port", server.port)
"""


class Kept(Program):
    """A program whose server has a store; `source` does the rest, and then it waits to be killed."""

    def __init__(self, folder: Path, source: str = "", **settings: Any) -> None:
        import json

        given = json.dumps({"store": str(folder), "settle": 0.0, **settings})
        code = BEGINNING + textwrap.dedent(source) + "\nthreading.Event().wait()\n"
        super().__init__(code, given)
        self.port = int(self.line_with("port"))

    def kill(self) -> None:
        """Kill it as nothing can be caught."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def reopened(folder: Path, **settings: Any) -> Iterator[sse_fast.Server]:
    """A server in this process that goes on with the folder."""
    with sse_fast.serve(0, store=folder, settle=0.0, **settings) as server:
        yield server


def texts(server: sse_fast.Server, name: str) -> list[str]:
    """The data of everything that a stream retains."""
    got: list[str] = []
    if not (left := server.stream(name).stats().retained):
        return got
    for event in server.stream(name).events(timeout=DEADLINE, start="all"):
        if event.event not in {"gap", "snapshot"}:
            got.append(str(event.data))
            left -= 1
        if not left:
            break
    return got


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A disk of that size: a file system in memory, which only the administrator may make (Linux)."""
    folder.mkdir()
    size = f"size={mebibytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "sse-fast-test", folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def may_mount() -> bool:
    """Whether this process may make file systems."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "sse-fast-test", "/mnt"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0
