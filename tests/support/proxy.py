"""A TCP proxy that can cut every connection, as an impatient proxy or a lost network does."""

from __future__ import annotations

import contextlib
import socket
import threading

from .deadline import DEADLINE


class Proxy:
    """Forwards a port of its own to another; `cut` resets what is open.

    `refusing` also closes what would come, `refusing_streams` only what asks for an event stream; `swallowing` keeps
    event streams open but lets no byte of their bodies through, as a proxy does that waits for the end of a response;
    while `flowing` is cleared they are kept back. `keeping_answers` lets requests through and no byte of an answer.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.connections = 0
        self.refusing = False
        self.refusing_streams = False
        self.swallowing = False
        self.keeping_answers = False
        self.flowing = threading.Event()
        self.flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()  # Protects the set of open sockets.
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Ends every connection that is open, without a proper end."""
        with self._lock:
            sockets, self._open = self._open, set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if self.refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            streaming = False
            while data := source.recv(1 << 16):
                if is_answer and self.keeping_answers:
                    continue
                if streaming:
                    self.flowing.wait(DEADLINE)
                head, blank, _ = data.partition(b"\r\n\r\n")
                if self.refusing_streams and b"\r\naccept: text/event-stream" in head.lower():
                    break
                begins = not streaming and b"content-type: text/event-stream" in head.lower()
                if begins and self.swallowing:
                    sink.sendall(head + blank)
                elif not (streaming and self.swallowing):
                    sink.sendall(data)
                streaming = streaming or begins
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()
        with self._lock:
            self._open.discard(source)
