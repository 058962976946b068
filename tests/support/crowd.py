"""Many readers in one process of their own, so that no interpreter lock is shared with the server.

    python crowd.py PORT PATH COUNT LAST

opens COUNT subscriptions, prints `ready`, reads all of them until each has seen
an event named LAST, and prints one JSON line: for each reader the CRC of every
byte after its head, how many events it saw, how many of them were gaps and the
sum skipped. The first reader's body is also parsed as a stranger would, and
its `data` values are written to standard output as one JSON list.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.http import ChunkDecoder
from support.sse import Parser


class Member:
    """One reader of the crowd; only the first keeps its bytes."""

    def __init__(self, port: int, path: str, keep: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = bytearray()
        self.socket.settimeout(60)
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(1)
            if not data:
                raise SystemExit(f"closed in the head: {bytes(head)!r}")
            head += data
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not a subscription: {bytes(head)!r}")
        self.socket.setblocking(False)
        self.crc = 0
        self.size = 0
        self.gaps = 0
        self.tail = b""
        self.kept = bytearray() if keep else None

    def take(self, data: bytes, last: bytes) -> bool:
        """Account for bytes; True when the last event has been seen."""
        self.crc = zlib.crc32(data, self.crc)
        self.size += len(data)
        both = self.tail + data
        # An event name and its line end always fit the tail, so nothing is counted twice.
        self.gaps += both.count(b"event: gap\n") - self.tail.count(b"event: gap\n")
        found = b"event: " + last + b"\n" in both
        self.tail = both[-64:]
        if self.kept is not None:
            self.kept += data
        return found


def main() -> None:
    port, path, count, last = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4].encode()
    members = [Member(port, path, keep=number == 0) for number in range(count)]
    selector = selectors.DefaultSelector()
    for member in members:
        selector.register(member.socket, selectors.EVENT_READ, member)
    print("ready", flush=True)
    waiting = len(members)
    end = time.monotonic() + 150
    while waiting and time.monotonic() < end:
        for key, _ in selector.select(timeout=1):
            data = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
            if not data:
                raise SystemExit(f"closed early, tail {key.data.tail!r}")
            if key.data.take(data, last):
                waiting -= 1
                selector.unregister(key.fileobj)
    # What follows the last event's name (its data, the last chunk) does not matter to the comparison.
    first = members[0].kept
    assert first is not None
    decoder, parser = ChunkDecoder(), Parser()
    parser.feed(decoder.feed(bytes(first)))
    print(json.dumps([[event.event, event.data] for event in parser.events]), flush=True)
    print(
        json.dumps([{"crc": m.crc, "size": m.size, "gaps": m.gaps, "tail": m.tail.decode()} for m in members]),
        flush=True,
    )
    print(f"unfinished {waiting}", flush=True)


main()
