"""A proxy between one client and a server, which keeps the event streams that went through it.

It knows byte by byte what its client was given, so it is what the client is held against. It may give the client
something else than the server wrote (`altering`), for tests of what a difference would do; what it keeps is what the
server wrote. It can also ask in its client's place (`post`), as a gateway does for an EventSource, which cannot POST.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from .deadline import DEADLINE
from .reader import Reader, request
from .sse import Event

Alteration = Callable[[bytes], bytes]


class Tap:
    """Listens on a port of its own until the end of its block."""

    def __init__(self, target: int, post: dict[str, Any] | None = None, altering: Alteration | None = None) -> None:
        self._target, self._post, self._altering = target, post, altering
        self.streams: list[Reader] = []  # One for each response that was an event stream.
        self.altered = False  # Whether the client was given anything else than the server wrote.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Tap:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def events(self) -> list[Event]:
        """What the client must report."""
        return [event for stream in self.streams for event in stream.parser.events]

    @property
    def body(self) -> bytes:
        return b"".join(bytes(stream.body) for stream in self.streams)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.settimeout(DEADLINE)
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            asked = self._asked(client)
            if asked:
                with Reader(self._target, raw=asked) as server:
                    self._forward(server, client)

    def _asked(self, client: socket.socket) -> bytes:
        """One whole request, or nothing."""
        received = b""
        while b"\r\n\r\n" not in received:
            data = client.recv(1 << 16)
            if not data:
                return b""
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        for line in lines:
            name, _, value = line.partition(b":")
            while name.lower() == b"content-length" and len(body) < int(value):
                body += client.recv(1 << 16)
        path = lines[0].split(b" ")[1].decode()
        if self._post is not None and b"\r\naccept: text/event-stream" in head.lower():
            headers = [("Content-Type", "application/json"), ("Accept", "text/event-stream")]
            return request(path, self._target, method="POST", headers=headers, body=json.dumps(self._post).encode())
        return head + b"\r\n\r\n" + body

    def _forward(self, server: Reader, client: socket.socket) -> None:
        """A response as it comes, its chunks as the server made them unless it is altered."""
        head = server.read_head()
        client.sendall(head.raw)
        if head.status != 200 or not head["content-type"].startswith("text/event-stream"):
            client.sendall(server.read_to_end())
            return
        assert head.chunked, head.raw
        self.streams.append(server)
        sent = 0
        while True:
            for data in server.chunks[sent:]:
                altered = self._altering(data) if self._altering else data
                self.altered |= altered != data
                if altered:  # An empty chunk would be the end.
                    client.sendall(b"%x\r\n%s\r\n" % (len(altered), altered))
            sent = len(server.chunks)
            if server.finished:
                client.sendall(b"0\r\n\r\n")
                return
            if not server.pump():
                return
