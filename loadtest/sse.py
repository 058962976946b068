"""HTTP and event-stream parsing by the standards, incremental, for the probes.

Owns: the response head, chunked bodies (RFC 9112, 7.1) and the event stream (HTML standard, 9.2.6). Must not know:
sockets, clocks, what is in an event's data.

Invariant: any split of the bytes gives the same events in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass


class ProtocolError(Exception):
    """Bytes that are not what they claim to be."""


@dataclass(frozen=True)
class Event:
    """One event, or with `comment` one comment line."""

    event: str = ""
    data: str = ""
    last_event_id: str = ""
    comment: str | None = None


class Response:
    """A response as it arrives: feed bytes, take events; `status` and `ended` say how far it is."""

    def __init__(self) -> None:
        """Starts with nothing received."""
        self.status: int | None = None
        self.ended = False
        self.last_event_id = ""
        self._bytes = b""
        self._chunked = False
        self._left = 0  # Bytes of the present chunk that are still to come, its CR LF included.
        self._line = b""
        self._clear()

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        if self.status is None:
            self._bytes += data
            head, blank, data = self._bytes.partition(b"\r\n\r\n")
            if not blank:
                return []
            self._bytes = b""
            self._head(head)
        return self._lines(self._unchunk(data) if self._chunked else data)

    def _head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():  # noqa: PLR2004
            raise ProtocolError(f"not a status line: {first[:80]!r}")
        self.status = int(words[1])
        fields = {name.strip().lower(): value.strip().lower() for name, _, value in (x.partition(b":") for x in lines)}
        self._chunked = fields.get(b"transfer-encoding") == b"chunked"

    def _unchunk(self, data: bytes) -> bytes:
        """The body's bytes among the chunked ones; what is incomplete waits for the next call."""
        data = self._bytes + data
        body, at = [], 0
        while not self.ended:
            if not self._left:
                end = data.find(b"\r\n", at)
                if end < 0:
                    break
                size = int(data[at:end].partition(b";")[0], 16)
                at = end + 2
                self._left = size + 2
                self.ended = size == 0
                continue
            piece = data[at : at + self._left]
            body.append(piece[: max(0, self._left - 2)])
            at += len(piece)
            self._left -= len(piece)
            if self._left:
                break
        self._bytes = data[at:]
        return b"".join(body)

    def _lines(self, data: bytes) -> list[Event]:
        # The engine ends lines with LF only (its wire contract), so a CR here is a fault and not a line end.
        *lines, self._line = (self._line + data).split(b"\n")
        events: list[Event] = []
        for line in lines:
            if b"\r" in line:
                raise ProtocolError(f"a CR in {line[:80]!r}")
            self._take(line.decode("utf-8"), events)
        return events

    def _take(self, line: str, events: list[Event]) -> None:
        if not line:
            if self._data:
                events.append(Event(self._event or "message", "\n".join(self._data), self.last_event_id))
            self._clear()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            events.append(Event(comment=value))
        elif name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_event_id = value

    def _clear(self) -> None:
        self._event = ""
        self._data: list[str] = []
