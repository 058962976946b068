"""An event stream as the standard reads it: bytes in, events out.

Owns: lines, fields, what dispatches an event.
Must not know: connections, resuming; what any event means.
Invariants: an event is given once its blank line is there, whatever pieces the bytes come in. An event without an
``id`` line of its own has none; `last_id` keeps the newest, as browsers do.
"""

from __future__ import annotations

import re

from sse_fast._event import Event

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # A CR at the very end may be half of a CRLF.
_BOM = b"\xef\xbb\xbf"


class Incoming:
    """One response's events.

    Attributes:
        last_id: the newest id; None before the first.
        retry: the seconds that the server asks to wait before a reconnect; None where it said nothing.
    """

    def __init__(self, last_id: str | None = None) -> None:
        """Nothing has come; `last_id` is what the reader has from before."""
        self.last_id = last_id
        self.retry: float | None = None
        self._kept = b""
        self._begun = False
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None
        self._retry: float | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Takes what came; gives the events that it completes."""
        self._kept += data
        if not self._begun:
            if len(self._kept) < len(_BOM) and _BOM.startswith(self._kept):
                return []
            self._kept = self._kept.removeprefix(_BOM)
            self._begun = True
        lines = _LINE_END.split(self._kept) if b"\r" in self._kept else self._kept.split(b"\n")
        self._kept = lines.pop()
        events: list[Event] = []
        for line in lines:
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = self._retry = int(value) / 1000

    def _dispatch(self) -> Event | None:
        data, event, own, retry = self._data, self._event, self._id, self._retry
        self._data, self._event, self._id, self._retry = [], "", None, None
        if own is not None:
            self.last_id = own or None
        return Event("\n".join(data), event or "message", own or None, retry) if data else None
