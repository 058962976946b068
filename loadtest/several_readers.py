"""The readers of `make several`: each reads several streams, over one connection or over one for each.

    python -m loadtest.several_readers JSON

Owns: the connections, where they are cut, and the account of every stream of every reader. Must not know: how events
are published. The first line says that all have come; each line that is read is an order: `cut N` cuts N connections,
each at the byte it has come to, in the middle of an event or not, and resumes them; `account SENT`, a JSON list, waits
until every reader has everything and says what was wrong. An account is wrong where a number is not the one after the
last of its stream: nothing is lost, doubled or out of order where none is.
"""

from __future__ import annotations

import json
import random
import re
import select
import socket
import struct
import sys
import time
from typing import Any

# An event stands in one chunk: what frames chunks never stands inside. `id` is the connection's, or the stream's own.
_EVENT = re.compile(rb"id: ([^\n]+)\ndata: (\d+) [^\n]*\n\n")
_GAP = b"event: gap\n"
_READ_BYTES = 1 << 18
_DEADLINE = 120.0  # Seconds in which everything must have come.
_RESET = struct.pack("ii", 1, 0)


class Connection:
    """One socket, and the streams that are read over it."""

    def __init__(self, target: tuple[str, int], streams: list[int], address: str) -> None:
        """Not connected yet; its address is one of its own, since an address has 28,000 ports."""
        self.streams, self.last = streams, [0] * len(streams)
        self.wrong = self.gaps = self.cuts = self.events = 0
        self._target, self._address = target, address
        self._id: bytes | None = None
        self._rest = b""
        self._is_head = True
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        sock.bind((self._address, 0))
        sock.connect(self._target)
        names = "&".join(f"name=load/{stream}" for stream in self.streams)
        path = f"/streams?{names}" if len(self.streams) > 1 else f"/streams/load/{self.streams[0]}"
        resume = b"Last-Event-ID: %s\r\n" % self._id if self._id else b""
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._target[1]}\r\n".encode() + resume + b"\r\n")
        return sock

    def cut(self) -> None:
        """Loses the connection where it stands, and comes back."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()
        self.cuts += 1
        self._rest, self._is_head = b"", True
        self.socket = self._connect()

    def take(self) -> None:
        """Reads what has come."""
        data = self._rest + self.socket.recv(_READ_BYTES)
        if data == self._rest:
            raise ConnectionError("a connection was closed by the server")
        if self._is_head:
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._rest = head
                return
            if b" 200 " not in head.partition(b"\r\n")[0]:
                raise ConnectionError(head.decode())
            self._is_head = False
        self.gaps += data.count(_GAP) - self._rest.count(_GAP)
        end = 0
        for event in _EVENT.finditer(data):
            end = event.end()
            self._id = event[1]
            at = int(self._id.partition(b"_")[0], 36) if len(self.streams) > 1 else 0
            number = int(event[2])
            self.wrong += number != self.last[at] + 1
            self.last[at] = number
            self.events += 1
        self._rest = data[end:]


class Readers:
    """All of them, on one poll."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Connects them: reader i reads `names` streams, from the i-th on, spread over all there are."""
        self._poll, self._by_fd = select.epoll(), {}
        count, names, total = job["readers"], job["names"], job["streams"]
        step = max(1, total // names)
        self.connections: list[Connection] = []
        for reader in range(count):
            streams = [(reader + at * step) % total for at in range(names)]
            for group in [[stream] for stream in streams] if job["apart"] else [streams]:
                number = len(self.connections)
                connection = Connection(("127.0.0.1", job["port"]), group, f"127.0.2.{1 + number // 5000}")
                self.connections.append(connection)
                self._add(connection)

    def _add(self, connection: Connection) -> None:
        self._by_fd[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)

    def turn(self, seconds: float) -> bool:
        """Reads what has come within so many seconds; whether anything had."""
        ready = self._poll.poll(seconds, 1024)
        for fd, _ in ready:
            connection = self._by_fd.get(fd)
            if connection is not None:
                connection.take()
        return bool(ready)

    def cut(self, count: int, chance: random.Random) -> None:
        """Cuts some; what had come of an event that is not whole is lost with them."""
        for connection in chance.sample(self.connections, min(count, len(self.connections))):
            fd = connection.socket.fileno()
            self._poll.unregister(fd)
            del self._by_fd[fd]
            connection.cut()
            self._add(connection)

    def account(self, sent: list[int]) -> dict[str, Any]:
        """Waits until everybody has everything that was sent; what was wrong."""
        end = time.monotonic() + _DEADLINE
        while (missing := self._missing(sent)) and time.monotonic() < end:
            for _ in range(50):
                self.turn(0.02)
        total = {
            name: sum(getattr(it, name) for it in self.connections) for name in ("events", "wrong", "gaps", "cuts")
        }
        return total | {"missing": missing, "connections": len(self.connections)}

    def _missing(self, sent: list[int]) -> int:
        pairs = ((stream, last) for it in self.connections for stream, last in zip(it.streams, it.last, strict=True))
        return sum(sent[stream] - last for stream, last in pairs)


def main() -> None:
    """Reads until its input ends."""
    job = json.loads(sys.argv[1])
    readers, chance = Readers(job), random.Random(job["seed"])
    print(json.dumps({"connections": len(readers.connections)}), flush=True)
    orders = select.poll()
    orders.register(sys.stdin.fileno(), select.POLLIN)
    while True:
        readers.turn(0.02)
        if not orders.poll(0):
            continue
        order, _, what = sys.stdin.readline().strip().partition(" ")
        if order == "cut":
            readers.cut(int(what), chance)
            print("{}", flush=True)
        elif order == "account":
            print(json.dumps(readers.account(json.loads(what))), flush=True)
        else:
            return


if __name__ == "__main__":
    main()
