"""Healthy readers as a Python program has them: a plain socket and a thread each, all in one process.

    python -m loadtest.waiting_readers JSON      JSON is {"port", "path", "readers"}

Owns: reading as fast as one interpreter lets that many threads, and an exact account of each. Must not know: what is
published when. It says so once all have their heads; the line `published N` tells how many events each is owed, and
is answered with the accounts once each has got or been told of all of them, or after `_PATIENCE`.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time

from .frames import Frames
from .ledger import Ledger

_AT_ONCE = 1 << 16
_LOOK = 0.25  # Seconds without a byte after which a reader looks whether it has everything.
_PATIENCE = 120.0
_NEVER = 1 << 62
_GAP = b"event: gap\n"


class Reader:
    """One subscription, read by a thread of its own."""

    def __init__(self, port: int, path: str) -> None:
        """Returns with the whole response head received."""
        self.frames, self.gaps, self.owed, self.closed = Frames(Ledger(0)), 0, _NEVER, False
        self._socket = socket.create_connection(("127.0.0.1", port), 10.0)
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            received = self._socket.recv(4096)
            head += received
            if not received:
                break
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a reader was refused: {head[:80]!r}")
        self._took(head.partition(b"\r\n\r\n")[2])
        # By the socket's own option, because a timeout of Python's costs a second system call for every read.
        self._socket.settimeout(None)
        seconds = struct.pack("@ll", int(_LOOK), int(_LOOK % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Ends its thread, whatever it still lacks."""
        if self.thread.is_alive():
            self._socket.shutdown(socket.SHUT_RDWR)
            self.thread.join()

    def account(self) -> dict[str, object]:
        """In the words of neutral/readers.c."""
        ledger = self.frames.ledger
        names = ("last", "delivered", "announced", "missing", "repeats", "unknown")
        return {"role": "healthy", "stream": 0, "closed": self.closed, "gaps": self.gaps} | {
            name: getattr(ledger, name) for name in names
        }

    def _read(self) -> None:
        while self.frames.ledger.last < self.owed:
            try:
                received = self._socket.recv(_AT_ONCE)
            except BlockingIOError:
                continue
            if not received:
                self.closed = True
                return
            self._took(received)

    def _took(self, received: bytes) -> None:
        self.gaps += self.frames.take(received).count(_GAP)


def main() -> None:
    """Reads until it has been told how much it is owed, and has it."""
    job = json.loads(sys.argv[1])
    readers = [Reader(job["port"], job["path"]) for _ in range(job["readers"])]
    print(json.dumps({"answered": len(readers), "refused": 0}), flush=True)
    _, owed = sys.stdin.readline().split()
    for reader in readers:
        reader.owed = int(owed)
    end = time.monotonic() + _PATIENCE
    for reader in readers:
        reader.thread.join(max(0.0, end - time.monotonic()))
    late = sum(reader.thread.is_alive() for reader in readers)
    for reader in readers:
        reader.end()
    print(json.dumps({"readers": [reader.account() for reader in readers], "late": late}), flush=True)


if __name__ == "__main__":
    main()
