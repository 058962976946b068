"""An event stream parser written from the HTML standard, section 9.2.6.

It is incremental (any split of the bytes gives the same events), takes CR, LF
and CRLF, strips one leading byte order mark, and follows the dispatch rules to
the letter: no data, no event. Comments are kept, for the heartbeat tests, and
every event remembers whether its own block had an id line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One dispatched event. `own_id` is None where its block had no id line."""

    event: str
    data: str
    last_event_id: str
    own_id: str | None = None
    retry: int | None = None

    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Parser:
    """Feed bytes, take `events` and `comments`."""

    events: list[Event] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    #: Bytes that would be given to the parser after the last blank line: an unfinished event.
    last_event_id: str = ""
    reconnection_time: int | None = None

    def __post_init__(self) -> None:
        self._line = bytearray()
        self._after_cr = False
        self._first_line = True
        self._clear()
        self._id_buffer = ""

    def _clear(self) -> None:
        self._data: list[str] = []
        self._type = ""
        self._own_id: str | None = None
        self._retry: int | None = None

    @property
    def unfinished(self) -> bool:
        """Whether lines of an event have arrived whose blank line has not."""
        return bool(self._line or self._data or self._type or self._own_id is not None)

    def feed(self, data: bytes) -> None:
        for piece in data.splitlines(keepends=True) if b"\r" not in data else _split(data):
            if self._after_cr:
                self._after_cr = False
                if piece == b"\n":
                    continue
            if piece.endswith(b"\r"):
                self._after_cr = True
                self._end_line(piece[:-1])
            elif piece.endswith(b"\n"):
                self._end_line(piece[:-1])
            else:
                self._line += piece

    def _end_line(self, rest: bytes) -> None:
        line = bytes(self._line) + rest
        self._line.clear()
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            self._dispatch()
        elif line.startswith(b":"):
            self.comments.append(line[1:].decode())
        else:
            name, _, value = line.partition(b":")
            self._field(name.decode(), value.removeprefix(b" ").decode())

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            if "\0" not in value:
                self._id_buffer = self._own_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.reconnection_time = self._retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id_buffer
        if self._data:
            self.events.append(
                Event(self._type or "message", "\n".join(self._data), self.last_event_id, self._own_id, self._retry)
            )
        self._clear()


def _split(data: bytes) -> list[bytes]:
    """Lines with their ends, where an end is CR or LF; CRLF gives the LF a line of its own."""
    pieces, start = [], 0
    for position, byte in enumerate(data):
        if byte in b"\r\n":
            pieces.append(data[start : position + 1])
            start = position + 1
    if start < len(data):
        pieces.append(data[start:])
    return pieces


def parse(data: bytes) -> list[Event]:
    """All events of complete bytes."""
    parser = Parser()
    parser.feed(data)
    return parser.events
