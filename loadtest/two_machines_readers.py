"""The readers of `two-machines` and `durable`: each reads a stream, and comes back at the next engine.

    python -m loadtest.two_machines_readers JSON

Owns: the connections, to whom they go, and an account for each reader. Must not know: which engine lives. The first
line says that all have come. Each line that is read is an order: `home` leads readers back to the engine they began at,
`leave HOST` away from one, `delays` says how late events came since the last such order, `account SECONDS OWED`
waits until everybody has as many events as its stream owes, a number for each stream, and nothing has come for a
second, and says what everybody has.
"""

from __future__ import annotations

import heapq
import json
import re
import select
import socket
import struct
import sys
import time
from typing import Any

from .histogram import Histogram
from .two_machines_account import Account

# An event stands in one chunk. Its data is its publisher, that one's number, and when it was published.
_EVENT = re.compile(rb"id: ([^\n]+)\ndata: (\S+) (\d+) (\d+) [^\n]*\n\n")
_GAP = b"event: gap\n"
_READ_BYTES = 1 << 18
_RETRY = 0.25  # Seconds until a reader whose engine has gone tries the next.
_RESET = struct.pack("ii", 1, 0)
_QUIET = 1.0
_PATIENCE = 5.0  # Seconds in which a head must come; a machine that has left the network answers nothing at all.


class Reader:
    """One reader: its account, and the connection that it has at the moment."""

    def __init__(self, stream: int, engines: list[tuple[str, int]], home: int) -> None:
        """Not connected yet."""
        self.stream, self.account = stream, Account()
        self.engines, self.home, self.at = engines, home, home
        self.socket: socket.socket | None = None
        self.lost_at: float | None = None
        self.since = 0.0
        self.opened_ns = 0
        self.has_head = False
        self._rest = b""

    def connect(self) -> socket.socket:
        """Asks the engine whose turn it is; the answer comes later."""
        self._rest, self.has_head, self.since = b"", False, time.monotonic()
        self.socket = sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self.engines[self.at])
        return sock

    def ask(self) -> None:
        """Sends the request; the socket is connected."""
        assert self.socket is not None
        last = f"Last-Event-ID: {self.account.last_id}\r\n" if self.account.last_id else ""
        host = ":".join(map(str, self.engines[self.at]))
        self.opened_ns = time.monotonic_ns()
        headers = f"Host: {host}\r\nAccept: text/event-stream\r\n{last}"
        self.socket.sendall(f"GET /streams/load/{self.stream} HTTP/1.1\r\n{headers}\r\n".encode())

    def take(self, delays: Histogram) -> None:
        """Reads what has come. Raises OSError where the connection is over."""
        assert self.socket is not None
        came = self.socket.recv(_READ_BYTES)
        if not came:
            raise ConnectionError("the engine closed the connection")
        data = self._rest + came
        if not self.has_head:
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._rest = head
                return
            if b" 200 " not in head.partition(b"\r\n")[0]:
                raise ConnectionError(head.decode(errors="replace"))
            self.has_head = True
        now, end = time.monotonic_ns(), 0
        for event in _EVENT.finditer(data):
            self._gaps(data[end : event.start()])
            end = event.end()
            self.account.event(event[1].decode(), event[2].decode(), int(event[3]))
            if int(event[4]) > self.opened_ns:  # Else it is replayed: how old it is says nothing.
                delays.record((now - int(event[4])) / 1e6)
        self._rest = data[end:]

    def _gaps(self, between: bytes) -> None:
        for _ in range(between.count(_GAP)):
            self.account.gap()


class Crowd:
    """All readers on one poll, with those that wait to try again."""

    def __init__(self, job: dict[str, Any]) -> None:
        """Reader i reads stream i modulo the streams, and begins at engine i modulo the engines."""
        self._poll = select.epoll()
        self._by_fd: dict[int, Reader] = {}
        self._waiting: list[tuple[float, int, Reader]] = []
        self.delays, self.away = Histogram(), Histogram()
        self.losses = 0
        engines = [(host, port) for host, port in job["engines"]]
        self.readers = [
            Reader(at % job["streams"], engines, at // job["streams"] % len(engines)) for at in range(job["readers"])
        ]
        for reader in self.readers:
            self._connect(reader)

    @property
    def connected(self) -> int:
        """How many have their head."""
        return sum(reader.has_head for reader in self.readers)

    def turn(self, seconds: float) -> int:
        """Reads what comes within so many seconds, lets those try again whose time has come; how many were served."""
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._connect(heapq.heappop(self._waiting)[2])
        ready = self._poll.poll(seconds, 1024)
        for fd, kinds in ready:
            reader = self._by_fd.get(fd)
            if reader is None:
                continue
            try:
                if kinds & select.EPOLLOUT:
                    self._asked(fd, reader)
                if kinds & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    had = reader.has_head
                    reader.take(self.delays)
                    if reader.has_head and not had:
                        self._back(reader)
            except BlockingIOError:
                continue
            except OSError:
                self._lost(reader)
        return len(ready)

    def look_for_silence(self) -> None:
        """Leaves engines that have not answered a request for long: their machine may be away."""
        now = time.monotonic()
        for reader in self.readers:
            if reader.socket is not None and not reader.has_head and now - reader.since > _PATIENCE:
                self._lost(reader)

    def home(self) -> None:
        """Leads everybody back to the engine they began at, by cutting who is elsewhere."""
        for reader in self.readers:
            if reader.at != reader.home:
                if reader.socket is not None:
                    self._lost(reader)
                reader.at = reader.home

    def leave(self, host: str) -> None:
        """Cuts everybody at that host, as a load balancer does whose check of `/readyz` has failed."""
        for reader in self.readers:
            if reader.socket is not None and reader.engines[reader.at][0] == host:
                self._lost(reader)

    def _asked(self, fd: int, reader: Reader) -> None:
        self._poll.modify(fd, select.EPOLLIN)
        reader.ask()

    def _back(self, reader: Reader) -> None:
        if reader.lost_at is not None:
            self.away.record((time.monotonic() - reader.lost_at) * 1e3)
            reader.lost_at = None

    def _connect(self, reader: Reader) -> None:
        sock = reader.connect()
        self._by_fd[sock.fileno()] = reader
        self._poll.register(sock.fileno(), select.EPOLLOUT)

    def _lost(self, reader: Reader) -> None:
        sock = reader.socket
        assert sock is not None
        self._poll.unregister(sock.fileno())
        del self._by_fd[sock.fileno()]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()
        now = time.monotonic()
        if reader.has_head:
            self.losses += 1
            reader.lost_at = now
        reader.socket, reader.has_head = None, False
        reader.at = (reader.at + 1) % len(reader.engines)
        heapq.heappush(self._waiting, (now + _RETRY, id(reader), reader))


def account(crowd: Crowd, patience: float, owed: list[int]) -> dict[str, Any]:
    """What everybody has, once everybody has what is owed and nothing has come for a second."""
    began = last = time.monotonic()
    lacking, complete = list(crowd.readers), patience
    while time.monotonic() - began < patience and (lacking or time.monotonic() - last < _QUIET):
        crowd.look_for_silence()
        if crowd.turn(0.05):
            last = time.monotonic()
        if lacking:
            lacking = [each for each in lacking if not each.has_head or each.account.events < owed[each.stream]]
            complete = patience if lacking else time.monotonic() - began
    streams: dict[int, list[dict]] = {}
    for reader in crowd.readers:
        streams.setdefault(reader.stream, []).append(reader.account.to_dict())
    return {
        "connected": crowd.connected,
        "losses": crowd.losses,
        "complete_s": round(complete, 3),
        "delays_ms": {name: crowd.delays.percentile(percent) for name, percent in (("p50", 50), ("p99", 99))},
        "away_ms": {name: crowd.away.percentile(percent) for name, percent in (("p50", 50), ("most", 100))},
        "streams": [streams[number] for number in sorted(streams)],
    }


def main() -> None:
    """Reads until its input ends."""
    crowd = Crowd(json.loads(sys.argv[1]))
    while crowd.connected < len(crowd.readers):
        crowd.look_for_silence()
        crowd.turn(0.05)
    print(json.dumps({"connected": crowd.connected}), flush=True)
    orders = select.poll()
    orders.register(sys.stdin.fileno(), select.POLLIN)
    while True:
        crowd.turn(0.02)
        crowd.look_for_silence()
        if not orders.poll(0):
            continue
        order, _, what = sys.stdin.readline().strip().partition(" ")
        if order == "account":
            patience, *owed = what.split()
            print(json.dumps(account(crowd, float(patience), [int(each) for each in owed])), flush=True)
        elif order == "delays":
            delays, crowd.delays = crowd.delays, Histogram()
            print(json.dumps({"p50": delays.percentile(50), "p99": delays.percentile(99)}), flush=True)
        elif order == "home":
            crowd.home()
            print(json.dumps({"connected": crowd.connected}), flush=True)
        elif order == "leave":
            crowd.leave(what)
            print(json.dumps({"connected": crowd.connected}), flush=True)
        elif order == "look":
            print(json.dumps({"connected": crowd.connected}), flush=True)
        else:
            return


if __name__ == "__main__":
    main()
