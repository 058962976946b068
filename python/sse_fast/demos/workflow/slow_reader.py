"""A reader that never reads, beside a flood: what the page's panel does to show that it delays nobody else.

    POST /api/workflow/slow-reader   {"decision_set_id": ...}: adds one, floods the stream, says how long that took

Must not know: the workflow, but for where its streams are. Not part of what there is to copy.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import sse_fast

EVENTS = 4000
_DATA = "x" * 1000  # Four megabytes altogether: more than the buffers of a socket on loopback hold.


def install(server: sse_fast.Server) -> None:
    """Adds the route."""

    @server.post("/api/workflow/slow-reader")
    def flood(request: sse_fast.Request) -> dict[str, Any]:
        name = f"workflow/{request.json()['decision_set_id']}"
        stream = next((stream for stream in server.streams() if stream.name == name and not stream.ended), None)
        if stream is None:
            raise sse_fast.HttpError(409, "This workflow has ended; ask something first.", error="ended")
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(5.0)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(f"GET /streams/{name} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            reader.recv(1)  # The head's first byte: it is subscribed. The rest stays where it is.
            return _publish_all(stream)


def _publish_all(stream: sse_fast.Stream) -> dict[str, Any]:
    worst, began = 0.0, time.monotonic()
    try:
        for number in range(EVENTS):
            before = time.monotonic()
            stream.publish({"number": number, "data": _DATA}, event="flood")
            worst = max(worst, time.monotonic() - before)
    except sse_fast.StreamEnded as error:
        raise sse_fast.HttpError(409, "The workflow ended during the flood.", error="ended") from error
    seconds = time.monotonic() - began
    return {"events": EVENTS, "seconds": seconds, "worst_seconds": worst, "subscribers": stream.subscribers}
