"""A TCP proxy that resets each of its connections after a random number of bytes, in the middle of whatever they are.

Owns: when it cuts, drawn from a seed. Must not know: what the bytes say.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading


class CuttingProxy:
    """Forwards a port of its own; a connection lives for 0 to `longest` bytes of both directions together.

    `cuts` counts how many were cut in the middle; while `cutting` is False none is.
    """

    def __init__(self, target: int, seed: int, longest: int) -> None:
        self.cuts = 0
        self.connections = 0
        self.cutting = True
        self._target = target
        self._random = random.Random(seed)
        self._longest = longest
        self._lock = threading.Lock()  # Protects the counts and the source of chance.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CuttingProxy:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                left = self._random.randrange(self._longest)
            server = socket.create_connection(("127.0.0.1", self._target))
            pair = _Pair(self, client, server, left)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=pair.forward, args=(source, sink), daemon=True).start()

    def count(self) -> None:
        with self._lock:
            self.cuts += 1


class _Pair:
    """One connection and its other half."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket, left: int) -> None:
        self._proxy = proxy
        self._sockets = (client, server)
        self._left = left
        self._lock = threading.Lock()  # Protects `_left`, and that a cut happens once.
        self._ended = 0

    def forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    taken = len(data) if not self._proxy.cutting else min(self._left, len(data))
                    self._left -= taken
                sink.sendall(data[:taken])
                if taken < len(data):
                    self._cut()
                    break
            else:
                sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._ended += 1
            is_over = self._ended == len(self._sockets)
        if is_over:
            for sock in self._sockets:
                sock.close()

    def _cut(self) -> None:
        """Has both halves reset when they are closed, and wakes the other thread, so that they are."""
        self._proxy.count()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RD)
