"""A server in a process of its own, for limits and figures that are a process's.

Owns: starting it, its port, and what it says when it ends. Must not know: what is asked of the server.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: What follows the program that makes `server`: it says its port, waits for a line, and prints what `said` gives.
_REST = "\nprint(server.port, flush=True)\ninput()\nprint({said}, flush=True)\n"


class OwnServer:
    """The process, its server's port, and how it is ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.port = int(self._read())

    def end(self) -> str:
        """Ends it; gives what it was to say at its end."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.close()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def own_server(program: str, said: str = "''") -> Iterator[OwnServer]:
    """A process that runs `program`, which makes `server`; at its end it says the value of this expression."""
    command = [sys.executable, "-c", program + _REST.format(said=said)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield OwnServer(process)
        finally:
            process.kill()
