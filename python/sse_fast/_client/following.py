"""Reading a stream across connections: what to ask, what an answer means, when to come back.

Owns: the place in the stream, the pauses between connections, what is the end.
Must not know: sockets, clocks: time and chance come in as arguments.
Invariants: an event is given once; the next connection is asked for what follows the last one given. It is at an end
only where the server said so: 204, or a page that says that the stream has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .attempts import Attempts
from .incoming import Incoming

if TYPE_CHECKING:
    from sse_fast._event import Event

    from .questions import Asking, Question

_RETRY = 0.1  # Seconds until it comes back where the server asked for nothing: it may go on elsewhere at once.
_EMPTY_RETRY = 1.0  # The same where nothing came at all.
#: Seconds without a byte after which a connection counts as dead: four heartbeats, where they are as by default. A
#: stream that sends fewer loses nothing by it, as it is resumed; one without ids is not, and waited for without limit.
SILENCE = 60.0


class Following:
    """One reader of one stream.

    Attributes:
        over: whether the stream is at its end.
    """

    def __init__(self, asking: Asking, name: str, last_id: str | None, retry_for: float) -> None:
        """See the class."""
        self._asking = asking
        self.name = name
        self._retry_for = retry_for
        self._retry: float | None = None
        self._incoming = Incoming(last_id)
        self._attempts: Attempts | None = None
        self._had_events = False  # In this response.
        self.over = False

    @property
    def last_id(self) -> str | None:
        """The place to resume at."""
        return self._incoming.last_id

    @property
    def silence(self) -> float | None:
        """How many seconds without a byte are too many; None for any number."""
        return None if self.last_id is None else SILENCE

    def question(self) -> Question:
        """What the next connection asks."""
        return self._asking.subscribe(self.name, self.last_id)

    def asks_whether_ended(self) -> Question | None:
        """What to ask after a proper end: only a reader with ids is told by the next connection.

        A response without an event is none of a stream: the server said to come back.
        """
        return self._asking.page(self.name, None) if self.last_id is None and self._had_events else None

    def opened(self, status: int) -> None:
        """An answer of success began."""
        self._attempts = None
        self._incoming = Incoming(self.last_id)
        self._had_events = False
        self.over = status == 204  # noqa: PLR2004 - the reader has everything

    def take(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        events = self._incoming.feed(data)
        self._had_events = self._had_events or bool(events)
        if self._incoming.retry is not None:
            self._retry = self._incoming.retry
        return events

    def closed(self, chance: float) -> float:
        """The response came to an end: seconds until the next."""
        own = _RETRY if self._had_events else _EMPTY_RETRY
        return (own if self._retry is None else self._retry) * (0.75 + chance / 2)

    def failed(self, now: float, chance: float, *, asked: float = 0.0) -> float | None:
        """There was no response: seconds until the next attempt; None gives up."""
        if self._attempts is None:
            self._attempts = Attempts(now, self._retry_for)
        return self._attempts.again(now, chance, sent=False, asked=asked)
