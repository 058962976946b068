"""What the mass looks for in received bytes: event numbers, gap events, the terminal event. Not a parser.

Owns: the cheapest way to account for every event in whatever a `recv` returned. It relies on what this project's server
process publishes (``{"seq":<n>,"t":<ns>,...}`` on one line) and on the wire contract: a frame ends with a blank line
and is one HTTP chunk. Must not know: sockets, clocks. `sse.py` parses by the standard and is what the probes use.

Invariant: any split of the bytes gives the same account.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ledger import Ledger

# At the beginning of the data only: a run's terminal event quotes the data of the last one.
_SEQ = re.compile(rb'data: \{"seq":(\d+)')
_TIME = re.compile(rb'"t":(\d+)')
_SKIPPED = re.compile(rb'"skipped":(\d+|null)')
_ID = re.compile(rb"^id: ([^\n]*)-\d+$", re.MULTILINE)
_BLANK = b"\n\n"


class Frames:
    """One subscriber's bytes, from the end of the head on, entered into its ledger."""

    __slots__ = ("ended", "id_start", "ledger", "rest")

    def __init__(self, ledger: Ledger) -> None:
        """Starts with nothing received."""
        self.ledger = ledger
        self.rest = b""  # The beginning of a frame whose end has not arrived.
        self.id_start = b""  # What comes before the number in this stream's ids, as soon as one was seen.
        self.ended = False  # Whether the terminal event arrived.

    def take(self, data: bytes) -> bytes:
        """Accounts for what was received; returns the part that held whole frames."""
        if self.rest:
            data = self.rest + data
        end = data.rfind(_BLANK)
        rest = data[end + 2 :] if end >= 0 else data
        # Every chunk ends with CR LF, and no frame holds a CR: what is cut off here are whole heartbeats and the head
        # of a chunk, never a part of a frame.
        self.rest = b"" if rest.endswith(b"\r\n") else rest
        if end < 0:
            return b""
        whole = data[:end]
        if b"event: " in whole:
            self._named(whole)
        else:
            event = self.ledger.event
            for number in _SEQ.findall(whole):
                event(int(number))
        if not self.id_start and (found := _ID.search(whole)):
            self.id_start = found[1]
        return whole

    def _named(self, whole: bytes) -> None:
        """The same where at least one frame has a name, one by one: their order matters."""
        for frame in whole.split(_BLANK):
            if b"event: gap\n" in frame:
                skipped = _SKIPPED.search(frame)
                number = None if skipped is None or skipped[1] == b"null" else int(skipped[1])
                self.ledger.gap(number)
                continue
            if found := _SEQ.search(frame):
                self.ledger.event(int(found[1]))
            if b"event: end\n" in frame:
                self.ended = True

    def reconnected(self) -> None:
        """Forgets what the lost connection had begun."""
        self.rest = b""

    @property
    def last_event_id(self) -> bytes | None:
        """What a reconnecting client says; the ids of a run of this harness count as its events do."""
        if not self.id_start or not self.ledger.last:
            return None
        return b"%s-%d" % (self.id_start, self.ledger.last)


def last_seq(whole: bytes) -> int | None:
    """The number of the newest event in what `take` returned."""
    at = whole.rfind(b'data: {"seq":')
    found = _SEQ.match(whole, at) if at >= 0 else None
    return int(found[1]) if found else None


def time_of(whole: bytes) -> int | None:
    """When the newest event in what `take` returned was published, in nanoseconds."""
    at = whole.rfind(b'"t":')
    found = _TIME.match(whole, at) if at >= 0 else None
    return int(found[1]) if found else None
