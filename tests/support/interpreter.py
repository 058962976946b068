"""A blocked interpreter, and readers in another process that can tell.

`hold_the_interpreter` is what a long computation in C does. A `Watcher` reads a stream then, in a process of its
own, and says when it has seen enough: a test that holds the interpreter until then proves, without a clock, that what
was seen came while it was held.
"""

from __future__ import annotations

import ctypes
import select
import socket
import time

from .deadline import DEADLINE
from .process import Program

#: A reader in another process: prints the time of each line of the body that is not empty.
WATCHER = """
import socket, sys, time
port, path = int(sys.argv[1]), sys.argv[2]
sock = socket.create_connection(("127.0.0.1", port))
sock.sendall(f"GET {path} HTTP/1.0\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n".encode())
file = sock.makefile("rb")
while file.readline() != b"\\r\\n":
    pass
print("ready", flush=True)
for line in file:
    if line != b"\\n":
        print(time.monotonic(), line.decode().rstrip("\\n"), flush=True)
"""

#: The same, but it keeps the lines until the stream ends: nobody empties its pipe while the interpreter is held.
COUNTER = """
import socket, sys
port, count, teller = map(int, sys.argv[1:4])
path, word = sys.argv[4], sys.argv[5].encode()
teller = socket.create_connection(("127.0.0.1", teller))
sock = socket.create_connection(("127.0.0.1", port))
sock.sendall(f"GET {path} HTTP/1.0\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n".encode())
file = sock.makefile("rb")
while file.readline() != b"\\r\\n":
    pass
print("ready", flush=True)
lines = []
for line in file:
    lines.append(line.decode().rstrip("\\n"))
    count -= word in line
    if word in line and count == 0:
        teller.sendall(b"enough")
for line in lines:
    print(line)
print("that was all")
"""


def hold_the_interpreter(seconds: float) -> tuple[float, float]:
    """Sleep inside C without releasing the interpreter lock, as a long computation does."""
    libc = ctypes.PyDLL(None)
    start = time.monotonic()
    libc.usleep(ctypes.c_uint(int(seconds * 1_000_000)))
    return start, time.monotonic()


class Watcher:
    """Subscribes to `path` in another process, and counts lines that hold `word`."""

    def __init__(self, port: int, path: str, word: str, count: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(DEADLINE)
            self._program = Program(COUNTER, port, count, listener.getsockname()[1], path, word)
            self._told, _ = listener.accept()
        assert self._program.line() == "ready"

    def __enter__(self) -> Watcher:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        self._told.close()
        self._program.__exit__(None, None, None)

    def hold_the_interpreter_until_enough(self) -> bool:
        """Waits in C, with the interpreter lock, until `count` lines have come; False where they never do."""

        class PollFd(ctypes.Structure):
            _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))

        poll = ctypes.PyDLL(None).poll  # PyDLL keeps the lock; CDLL would let go of it.
        return bool(poll(ctypes.byref(PollFd(self._told.fileno(), select.POLLIN, 0)), 1, int(DEADLINE * 1000)) == 1)

    def lines(self) -> list[str]:
        """Every line of the stream, which must have ended."""
        lines = []
        while (line := self._program.line()) != "that was all":
            lines.append(line)
        return lines
