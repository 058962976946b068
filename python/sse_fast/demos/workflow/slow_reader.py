"""A reader that never reads, beside a flood: what the page's panel does to show that it delays nobody else.

    POST /api/workflow/slow-reader   {"decision_set_id": ...}: adds one, floods the stream, says how long that took

Must not know: the workflow, but for where its streams are. Not part of what there is to copy.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import sse_fast

EVENTS = 4000
_DATA = "x" * 1000  # Four megabytes altogether: more than the buffers of a socket on loopback hold.
_KEPT = 3  # Readers that are kept open; the engine cuts each off when it has taken nothing for `stall_timeout`.


class SlowReaders:
    """The route, and the connections that nobody reads."""

    def __init__(self, server: sse_fast.Server) -> None:
        """Adds the route."""
        self._server = server
        self._sockets: list[socket.socket] = []
        server.post("/api/workflow/slow-reader")(self.flood)

    def flood(self, request: sse_fast.Request) -> dict[str, Any]:
        """Adds a reader that never reads and publishes far more than its socket takes."""
        name = f"workflow/{request.json()['decision_set_id']}"
        stream = next((stream for stream in self._server.streams() if stream.name == name and not stream.ended), None)
        if stream is None:
            raise sse_fast.HttpError(409, "This workflow has ended; submit another message first.", error="ended")
        self._connect(f"/streams/{name}")
        worst, began = 0.0, time.monotonic()
        try:
            for number in range(EVENTS):
                before = time.monotonic()
                stream.publish({"number": number, "data": _DATA}, event="flood")
                worst = max(worst, time.monotonic() - before)
        except sse_fast.StreamEnded as error:
            raise sse_fast.HttpError(409, "The workflow ended during the flood.", error="ended") from error
        return {"events": EVENTS, "seconds": time.monotonic() - began, "worst_seconds": worst}

    def _connect(self, path: str) -> None:
        """One more connection that is never read, once the engine has answered it."""
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.settimeout(5.0)
        reader.connect(("127.0.0.1", self._server.port))
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._server.port}\r\n\r\n".encode())
        reader.recv(1)  # The head's first byte: it is subscribed. The rest stays where it is.
        self._sockets.append(reader)
        while len(self._sockets) > _KEPT:
            with contextlib.suppress(OSError):
                self._sockets.pop(0).close()
