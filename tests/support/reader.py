"""A client made of one socket that keeps every byte it received.

`Reader` subscribes with a request written by hand and reads head, chunks and
events as they come; `exchange` sends raw bytes and returns one whole response.
Both work on blocking sockets with deadlines: a wait ends when the bytes are
there, and a deadline that passes is an assertion showing what had arrived.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from .deadline import DEADLINE
from .http import ChunkDecoder, Head, parse_head
from .sse import Event, Parser


def request(
    path: str,
    port: int,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    host: str | None = None,
    body: bytes = b"",
    version: str = "HTTP/1.1",
) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} {version}", f"Host: {host if host is not None else f'127.0.0.1:{port}'}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Reader:
    """One connection. Everything it ever received is in `received`."""

    def __init__(
        self,
        port: int,
        path: str = "/streams/s",
        *,
        headers: Iterable[tuple[str, str]] = (),
        method: str = "GET",
        body: bytes = b"",
        version: str = "HTTP/1.1",
        last_event_id: str | None = None,
        receive_buffer: int | None = None,
        raw: bytes | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.close()
            raise
        self.received = bytearray()
        self.body = bytearray()
        self.head: Head | None = None
        self.parser = Parser()
        self.eof = False
        self._decoder: ChunkDecoder | None = None
        self._taken = 0
        all_headers = list(headers)
        if last_event_id is not None:
            all_headers.append(("Last-Event-ID", last_event_id))
        if raw is None:
            raw = request(path, port, method=method, headers=all_headers, body=body, version=version)
        try:
            self.send(raw)
        except OSError:  # A server that has read enough of what is no request may close before it has read all of it.
            self.close()
            raise

    def __enter__(self) -> Reader:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close with a RST, as a client that died does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, raw: bytes) -> None:
        """One more request on the same connection. What came before is forgotten."""
        self.received.clear()
        self.body.clear()
        self.head, self.parser, self._decoder, self._taken = None, Parser(), None, 0
        self.send(raw)

    @property
    def chunks(self) -> list[bytes]:
        """The chunks of a chunked body, apart."""
        assert self._decoder is not None, "the body is not chunked"
        return self._decoder.chunks

    @property
    def finished(self) -> bool:
        """Whether the body came to its proper end (last chunk, or end of file where not chunked)."""
        return self._decoder.finished if self._decoder is not None else self.eof

    def pump(self, timeout: float = DEADLINE) -> bool:
        """Receive once. False at the end of the file; TimeoutError when nothing came."""
        self.socket.settimeout(max(timeout, 0.001))
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.eof = True
            return False
        self.received += data
        if self.head is not None:
            self._feed(data)
        else:
            self._find_head()
        return True

    def _find_head(self) -> None:
        end = self.received.find(b"\r\n\r\n")
        if end >= 0:
            self.head = parse_head(bytes(self.received[: end + 4]))
            if self.head.chunked:
                self._decoder = ChunkDecoder()
            self._feed(bytes(self.received[end + 4 :]))

    def _feed(self, data: bytes) -> None:
        decoded = self._decoder.feed(data) if self._decoder is not None else data
        self.body += decoded
        self.parser.feed(decoded)

    def read_until(self, condition: Callable[[], object], deadline: float = DEADLINE, *, what: str = "") -> None:
        """Receive until `condition()` holds."""
        self.pump_while(lambda: not condition() and not self.eof, deadline, f"no {what}")
        assert condition(), f"the server closed before {what}; {self.seen()}"

    def pump_while(self, going_on: Callable[[], object], deadline: float, complaint: str) -> None:
        """Receive as long as `going_on()` holds."""
        end = time.monotonic() + deadline
        try:
            while going_on():
                self.pump(end - time.monotonic())
        except TimeoutError:
            raise AssertionError(f"{complaint} within {deadline} s; {self.seen()}") from None

    def seen(self) -> str:
        return f"received {len(self.received)} bytes, the last being {bytes(self.received[-600:])!r}"

    def read_head(self, deadline: float = DEADLINE) -> Head:
        self.read_until(lambda: self.head is not None, deadline, what="response head")
        assert self.head is not None
        return self.head

    def open(self) -> Reader:
        """Read the head and insist on a subscription."""
        head = self.read_head()
        assert head.status == 200, head.raw
        assert head["content-type"].partition(";")[0] == "text/event-stream", head.raw
        return self

    def take(self, count: int = 1, deadline: float = DEADLINE) -> list[Event]:
        """The next `count` events."""
        wanted = self._taken + count
        self.read_until(lambda: len(self.parser.events) >= wanted, deadline, what=f"event {wanted}")
        events = self.parser.events[self._taken : wanted]
        self._taken = wanted
        return events

    def next(self, deadline: float = DEADLINE) -> Event:
        return self.take(1, deadline)[0]

    def rest(self, deadline: float = DEADLINE) -> list[Event]:
        """Every further event up to the end of the response, which must be a proper one."""
        self.read_to_end(deadline)
        events = self.parser.events[self._taken :]
        self._taken = len(self.parser.events)
        return events

    def read_to_end(self, deadline: float = DEADLINE) -> bytes:
        """The whole body. The response must end properly within the deadline."""
        self.pump_while(lambda: not (self.eof or self._whole()), deadline, "the response did not end")
        assert self.finished or self._length_reached(), f"the response was cut; {self.seen()}"
        return bytes(self.body)

    def _whole(self) -> bool:
        return (self._decoder is not None and self._decoder.finished) or self._length_reached()

    def _length_reached(self) -> bool:
        if self.head is None:
            return False
        if self.head.status in {204, 304}:
            return True
        return "content-length" in self.head and len(self.body) >= int(self.head["content-length"])

    def read_eof(self, deadline: float = DEADLINE) -> bytes:
        """Everything until the server closes the connection."""
        self.pump_while(lambda: not self.eof, deadline, "the connection was not closed")
        return bytes(self.received)

    def assert_silent(self, seconds: float) -> None:
        """Nothing arrives for so long, and the connection stays open."""
        before = len(self.received)
        try:
            alive = self.pump(seconds)
        except TimeoutError:
            return
        raise AssertionError(
            f"expected silence, got {bytes(self.received[before:])!r}" if alive else "the server closed the connection"
        )


def fetch(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    deadline: float = DEADLINE,
) -> tuple[Head, bytes]:
    """One request, its whole response."""
    with Reader(port, path, method=method, headers=headers, body=body) as reader:
        head = reader.read_head(deadline)
        if method == "HEAD":
            return head, b""
        return head, reader.read_to_end(deadline)


def exchange(port: int, raw: bytes, deadline: float = DEADLINE) -> Head | None:
    """Send bytes as they are; the head of the answer, or None where the server only closes."""
    with Reader(port, raw=raw) as reader:
        reader.pump_while(lambda: reader.head is None and not reader.eof, deadline, "neither answer nor close")
        return reader.head
