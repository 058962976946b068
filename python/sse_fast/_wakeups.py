"""What an event loop waits on for news of the streams that its tasks read.

Owns: one descriptor for each event loop, however many of its tasks read however many streams. Must not know: events.
A publish costs one wake-up for each loop, not for each task; a task that is cancelled leaves nothing behind.

Invariants: a stream is watched exactly while a task waits for it; a task registers first and looks at the stream once
more after that, so that no news falls between.

Changes together with the engine's `stream/watch.rs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ._core import Wakeups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import Reader, Watch

_SLICE = (
    0.5  # How long the thread that stands in where a loop cannot watch sockets may outlive the last task that waits.
)


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
        self._stand_in: asyncio.Task[None] | None = None
        self._watches_itself = True
        try:
            loop.add_reader(self._engine.fileno(), self._news)
        except NotImplementedError:  # A loop that cannot watch sockets: a thread waits instead.
            self._watches_itself = False

    def enter(self, reader: Reader, arrived: asyncio.Future[None]) -> None:
        """News of the reader's stream from here on settles the future."""
        number = reader.stream_number
        watched = self._streams.get(number)
        if watched is None:
            watched = self._streams[number] = _Watched(self._engine.watch(reader, number))
        watched.waiting.add(arrived)
        if not self._watches_itself and self._stand_in is None:
            self._stand_in = asyncio.ensure_future(self._wait_in_a_thread())

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

    async def _wait_in_a_thread(self) -> None:
        try:
            while self._streams:
                await asyncio.to_thread(select.select, [self._engine.fileno()], [], [], _SLICE)
                self._news()
        finally:  # Where it was cancelled the next task that waits makes another.
            self._stand_in = None


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopWakeups] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def awaiting(reader: Reader) -> Iterator[asyncio.Future[None]]:
    """A future that news of the reader's stream settles; look at the stream once more before awaiting it."""
    loop = asyncio.get_running_loop()
    wakeups = _loops.get(loop)
    if wakeups is None:
        wakeups = _loops[loop] = _LoopWakeups(loop)
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
