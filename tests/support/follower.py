"""A reader that comes back: what a browser's EventSource does, on a thread of its own, until the stream has ended.

It resumes by the last id that it has, at the next of its addresses after each loss, and keeps every event in order.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from types import TracebackType

from .deadline import until
from .reader import Reader
from .sse import Event


class Follower:
    """Reads one stream at the given addresses in turn, until the end of the block."""

    def __init__(self, addresses: Sequence[tuple[str, int]], path: str) -> None:
        self.events: list[Event] = []
        self.gaps: list[Event] = []
        self.connections = 0
        self.statuses: set[int] = set()
        self._addresses, self._path = addresses, path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Follower:  # noqa: PYI034 - typing has no Self before Python 3.11
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(30)
        if error is not None:
            print(f"{self._path} at {self._addresses}: {len(self.events)} events, {len(self.gaps)} gaps")

    @property
    def ids(self) -> list[str]:
        """What it has, in the order in which it came."""
        return [str(event.own_id) for event in self.events]

    def has(self, count: int, deadline: float = 60.0) -> None:
        """Waits until it has so many events."""
        until(
            lambda: len(self.events) >= count, deadline, what=f"{count} events of {self._path}, {len(self.events)} now"
        )

    def _follow(self) -> None:
        while not self._over.is_set():
            address = self._addresses[self.connections % len(self._addresses)]
            self.connections += 1
            with contextlib.suppress(OSError):
                self._read(address)
            self._over.wait(0.05)  # As `retry` would have it, but sooner.

    def _read(self, address: tuple[str, int]) -> None:
        last = self.events[-1].own_id if self.events else None
        headers = [("Accept", "text/event-stream")]
        with Reader(address[1], self._path, host=address[0], last_event_id=last, headers=headers) as reader:
            taken = 0
            while not (self._over.is_set() or reader.eof or reader.finished):
                with contextlib.suppress(TimeoutError):
                    reader.pump(0.2)
                if reader.head is not None:
                    self.statuses.add(reader.head.status)
                for event in reader.parser.events[taken:]:
                    taken += 1
                    (self.gaps if event.event == "gap" else self.events).append(event)
