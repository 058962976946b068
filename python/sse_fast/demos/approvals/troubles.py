"""What a visitor of the page may break, to see it survive: a reader that does not read, and connections that are lost.

Owns: the routes of the page's "break it" panel. Must not know: what a question is.

    POST /api/approvals/slow-reader   {"kind", "session_id", "seconds"}: subscribes and does not read for so long;
                                      then reads, and answers with what it was given
    POST /api/approvals/drop          {"kind", "session_id"}: ends every connection of a queue's stream
    GET  /api/approvals/readers       ?kind=&session_id=: how many subscribers the queue's stream has
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import sse_fast

from .app import KINDS, Queues, text_of

MAX_SECONDS = 20.0
MAX_READERS = 4  # Each holds a handler's thread while it does not read.
READ_BUFFER = 4096  # Bytes that the system takes for a reader that does not read: a few questions.
QUIET = 0.5  # Seconds without a byte after which a reader has everything.

_slow_readers = threading.BoundedSemaphore(MAX_READERS)


def install(server: sse_fast.Server, queues: Queues) -> None:
    """Adds the routes to `server`."""

    def stream_of(given: object) -> sse_fast.Stream:
        kind = text_of(given, "kind")
        if kind not in KINDS:
            raise sse_fast.HttpError(400, f"kind: must be one of {', '.join(KINDS)}", error="bad_field")
        return queues.stream(kind, text_of(given, "session_id"))

    @server.post("/api/approvals/slow-reader")
    def slow_reader(request: sse_fast.Request) -> dict[str, Any]:
        body = request.json()
        stream, seconds = stream_of(body), body.get("seconds", 5.0)
        if not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_SECONDS:
            raise sse_fast.HttpError(400, f"seconds: must be from 0 to {MAX_SECONDS:g}", error="bad_field")
        if not _slow_readers.acquire(blocking=False):
            raise sse_fast.HttpError(
                503, f"{MAX_READERS} readers are not reading already", headers={"Retry-After": "5"}
            )
        try:
            kind, _, session_id = stream.name.partition("/")
            return read_late(server.url, f"/api/{kind}/stream?session_id={session_id}", seconds)
        finally:
            _slow_readers.release()

    @server.post("/api/approvals/drop")
    def drop(request: sse_fast.Request) -> dict[str, int]:
        stream = stream_of(request.json())
        dropped = stream.subscribers
        stream.remove()
        return {"dropped": dropped}

    @server.get("/api/approvals/readers")
    def readers(request: sse_fast.Request) -> dict[str, int]:
        return {"subscribers": stream_of(request.query).subscribers}


def read_late(url: str, path: str, seconds: float) -> dict[str, Any]:
    """Subscribes with a small buffer, does not read for `seconds`, then reads what there is.

    Returns:
        ``events`` that came, ``skipped`` ones that a gap told of, and the ``newest`` state.
    """
    address = urlsplit(url)
    with contextlib.closing(
        socket.socket(socket.AF_INET6 if ":" in (address.hostname or "") else socket.AF_INET)
    ) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BUFFER)
        sock.connect((address.hostname, address.port))
        # HTTP/1.0: the events come as they are, without chunks around them.
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n".encode())
        time.sleep(seconds)
        sock.settimeout(QUIET)
        received = bytearray()
        with contextlib.suppress(TimeoutError):
            while data := sock.recv(1 << 16):
                received += data
    return summary(received.partition(b"\r\n\r\n")[2].decode())


def summary(text: str) -> dict[str, Any]:
    """What the events of a queue's stream come to."""
    events, skipped, newest = 0, 0, None
    for block in text.split("\n\n")[:-1]:
        lines = dict(line.partition(": ")[::2] for line in block.split("\n"))
        if "data" not in lines:
            continue
        data = json.loads(lines["data"])
        if lines.get("event") == "gap":
            skipped += data["skipped"] or 0
        else:
            events, newest = events + 1, data
    return {"events": events, "skipped": skipped, "newest": newest}
