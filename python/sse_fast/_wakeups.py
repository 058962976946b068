"""What an event loop waits on for news of the streams that its tasks read.

Owns: one descriptor for each event loop, however many of its tasks read however many streams. Must not know: events.
A publish costs one wake-up for each loop, not for each task; a task that is cancelled leaves nothing behind. The loop
must be able to watch descriptors (`add_reader`): asyncio's selector loop and uvloop do.

Invariants: a stream is watched exactly while a task waits for it; a task registers first and looks at the stream once
more after that, so that no news falls between. Nothing here keeps a loop: one that is closed while its tasks still wait
is forgotten with them, and its descriptor closed.

Changes together with the engine's `stream/watch.rs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ._core import Wakeups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import Reader, Watch


@dataclass
class _Watched:
    """A stream that tasks of the loop wait for."""

    watch: Watch
    waiting: set[asyncio.Future[None]] = field(default_factory=set)


class _LoopWakeups:
    """The wake-ups of one event loop; every method is called in its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = Wakeups()
        self._streams: dict[int, _Watched] = {}
        loop.add_reader(self._engine.fileno(), self._news)

    def enter(self, reader: Reader, arrived: asyncio.Future[None]) -> None:
        """News of the reader's stream from here on settles the future."""
        number = reader.stream_number
        watched = self._streams.get(number)
        if watched is None:
            watched = self._streams[number] = _Watched(self._engine.watch(reader, number))
        watched.waiting.add(arrived)

    def leave(self, reader: Reader, arrived: asyncio.Future[None]) -> None:
        """The task no longer waits."""
        number = reader.stream_number
        watched = self._streams[number]
        watched.waiting.discard(arrived)
        if not watched.waiting:
            del self._streams[number]
            watched.watch.stop()

    def _news(self) -> None:
        for number in self._engine.take():
            watched = self._streams.get(number)
            if watched is not None:
                watched.watch.rearm()
                for arrived in watched.waiting:
                    settle(arrived)


# Weak on both sides: wake-ups hold futures, and these their loop, which would then never be forgotten. What keeps the
# wake-ups of a loop is the loop, to which `_news` was given; it lets go of that when it is closed.
_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_LoopWakeups]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def awaiting(reader: Reader) -> Iterator[asyncio.Future[None]]:
    """A future that news of the reader's stream settles; look at the stream once more before awaiting it."""
    loop = asyncio.get_running_loop()
    known = _loops.get(loop)
    wakeups = known() if known is not None else None
    if wakeups is None:
        wakeups = _LoopWakeups(loop)
        _loops[loop] = weakref.ref(wakeups)
    arrived = loop.create_future()
    wakeups.enter(reader, arrived)
    try:
        yield arrived
    finally:
        wakeups.leave(reader, arrived)
        arrived.cancel()


def settle(arrived: asyncio.Future[None]) -> None:
    """Wakes the task that waits for the future, once."""
    if not arrived.done():
        arrived.set_result(None)
