"""Intervals counted by what a reader saw: the heartbeats of a stream made for that.

A test that needs time to pass does not sleep: it waits for heartbeats, which the
engine writes by the clock that the test is about. Where the machine was busy and
the engine late, the interval is as late.
"""

from __future__ import annotations

import contextlib
import itertools

import sse_fast

from .reader import Reader

_NUMBERS = itertools.count()


class Beats:
    """A stream of heartbeats, one every so many seconds."""

    def __init__(self, server: sse_fast.Server, every: float) -> None:
        name = f"beats/{next(_NUMBERS)}"
        self.stream = server.stream(name, heartbeat=every)
        self._reader = Reader(server.port, f"/streams/{name}").open()

    def __enter__(self) -> Beats:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        self._reader.close()
        self.stream.remove()

    def wait(self, count: int = 1) -> None:
        """Until so many more heartbeats have come from here on: at least `count - 1` intervals.

        What came before, while nobody read, does not count.
        """
        seen = self.seen()
        self._reader.read_until(lambda: len(self._reader.parser.comments) >= seen + count, what=f"{count} heartbeats")

    def seen(self) -> int:
        """How many have come by now."""
        with contextlib.suppress(TimeoutError):
            while self._reader.pump(0.0):
                pass
        return len(self._reader.parser.comments)
