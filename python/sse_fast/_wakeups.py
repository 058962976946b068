"""What an event loop waits on for the streams that its tasks read, publish into, or wait for.

Owns: one descriptor for each event loop, however many of its tasks wait for however many streams.
Must not know: events; asyncio and trio, each of which has a file of its own beside this one (`_loops` tells which).
A publish costs one wake-up for each loop, not for each task; a task that is cancelled leaves nothing behind.

Invariants: a stream is watched exactly while a task waits for it; a task registers first and looks at the stream once
more after that, so that no news falls between. Nothing here keeps a loop: one that is closed while its tasks still wait
is forgotten with them, and its descriptor closed.

Changes together with the engine's `stream/watch.rs` and `stream/task.rs`.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._core import Account, Wakeups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._core import Reader, Stream, Watch

#: Whatever a loop has to wait for once: a future, an event.
Signal = Any

# A stream's number is a multiple of eight: what is waited for beside its news, and who waits for room, have others.
_EMPTY = 1
_ROOM = 2


@dataclass
class _Watched:
    """What tasks of the loop wait for, in one stream."""

    watch: Watch
    waiting: set[Signal] = field(default_factory=set)


class LoopWakeups:
    """The wake-ups of one event loop; every method is called in its thread, except `settle_soon`."""

    def __init__(self) -> None:
        """A loop's own class has the loop call `take` when `engine` is readable."""
        self.engine = Wakeups()
        self._watched: dict[int, _Watched] = {}
        self._rooms: dict[int, Signal] = {}
        self._numbers = itertools.count(_ROOM, 8)
        self._accounts: weakref.WeakKeyDictionary[object, Account] = weakref.WeakKeyDictionary()

    # ---- What each kind of loop does in its own way ----

    def signal(self) -> Signal:
        """What a task waits for."""
        raise NotImplementedError

    def settle(self, signal: Signal) -> None:
        """Wakes the task that waits for it."""
        raise NotImplementedError

    def settle_soon(self, signal: Signal) -> None:
        """The same from any thread; RuntimeError where the loop has ended."""
        raise NotImplementedError

    def discard(self, signal: Signal) -> None:
        """Nobody waits for it any more."""

    async def wait(self, signal: Signal, timeout: float | None) -> None:
        """Waits until it is settled or `timeout` seconds have passed."""
        raise NotImplementedError

    async def let_others(self) -> None:
        """Lets the other tasks of the loop run."""
        raise NotImplementedError

    def task(self) -> object:
        """The running task; None where there is none."""
        raise NotImplementedError

    # ---- What all of them do alike ----

    def account(self) -> Account:
        """What the running task has waited for readers, in all streams."""
        task = self.task()
        if task is None:
            return Account()
        return self._accounts.setdefault(task, Account())

    @contextlib.contextmanager
    def news(self, reader: Reader) -> Iterator[Signal]:
        """What news of the reader's stream settles; look at the stream once more before awaiting it."""
        number = reader.stream_number
        with self._watching(number, lambda: self.engine.watch(reader, number)) as signal:
            yield signal

    @contextlib.contextmanager
    def emptiness(self, stream: Stream) -> Iterator[Signal]:
        """The same for the last subscriber's leaving."""
        number = stream._number + _EMPTY  # noqa: SLF001 - part of this package
        watch = lambda: stream._watch_empty(self.engine, number)  # noqa: E731, SLF001 - part of this package
        with self._watching(number, watch) as signal:
            yield signal

    @contextlib.contextmanager
    def room(self) -> Iterator[tuple[int, Callable[[], Signal]]]:
        """A number of the task's own, and what gives it a new signal to wait for before it looks."""
        number = next(self._numbers)

        def again() -> Signal:
            signal = self._rooms[number] = self.signal()
            return signal

        try:
            yield number, again
        finally:
            if (signal := self._rooms.pop(number, None)) is not None:
                self.discard(signal)

    def take(self) -> None:
        """Wakes the tasks for which there is something."""
        for number in self.engine.take():
            if (watched := self._watched.get(number)) is not None:
                watched.watch.rearm()
                for signal in watched.waiting:
                    self.settle(signal)
            elif (room := self._rooms.get(number)) is not None:
                self.settle(room)

    @contextlib.contextmanager
    def _watching(self, number: int, watch: Callable[[], Watch]) -> Iterator[Signal]:
        watched = self._watched.get(number)
        if watched is None:
            watched = self._watched[number] = _Watched(watch())
        signal = self.signal()
        watched.waiting.add(signal)
        try:
            yield signal
        finally:
            watched.waiting.discard(signal)
            if not watched.waiting:
                del self._watched[number]
                watched.watch.stop()
            self.discard(signal)
