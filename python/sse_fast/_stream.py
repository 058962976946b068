"""Events as readers in this process see them: the iterator that `Stream.events` returns.

Owns: iteration, synchronous and asynchronous, over the engine's reader. `Stream` itself is native (`_core.Stream`),
because publishing is the hot path.
Must not know: logs, subscribers, threads.
Invariants: an event is taken from the reader only to be returned, so that a cancelled `async for` loses none; no event
loop's module is imported but by those who use it; a task that does not wait has nothing registered anywhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from ._core import Reader
from ._event import Event
from ._exceptions import WaitTimeout
from ._loops import TURN, current
from ._settings import checked_seconds

if TYPE_CHECKING:
    from ._wakeups import LoopWakeups, Signal


class Events:
    """The events of a stream, one after another: an iterator and an asynchronous iterator.

    It ends after the terminal event, or when the server closes or the stream is removed. A reader that is slower than
    the publisher and falls out of the stream's history gets a ``gap`` event that says how many it missed; it never
    slows a publisher.

    Args:
        reader: the engine's reader.
        name: the stream's name, for messages.
        timeout: seconds of silence after which `WaitTimeout` is raised, and iteration may go on; None waits without
            limit.

    >>> import sse_fast
    >>> with sse_fast.serve(0) as server:
    ...     stream = server.stream("example", start="all")
    ...     _ = stream.publish({"n": 1})
    ...     _ = stream.end()
    ...     [(event.event, event.data) for event in stream.events(timeout=5.0)]
    [('message', '{"n":1}'), ('end', 'null')]
    """

    def __init__(self, reader: Reader, name: str, timeout: float | None = None) -> None:
        """See the class."""
        self._reader = reader
        self._name = name
        self._timeout = None if timeout is None else checked_seconds("timeout", timeout)
        # What the task that waits for an event waits for, and on which loop.
        self._awaited: tuple[LoopWakeups, Signal] | None = None
        self._in_turn = 0  # Events taken since the loop last had a turn.
        self._over = False

    def __iter__(self) -> Iterator[Event]:
        """Itself."""
        return self

    def __next__(self) -> Event:
        """The next event; waits without holding the interpreter, and Ctrl-C interrupts it."""
        event = None if self._over else self._taken(*self._reader.next(self._timeout))
        if event is not None:
            return event
        if self._over:
            raise StopIteration
        raise self._silent()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event; costs no thread. The task may be asyncio's, also on uvloop, or trio's.

        Raises:
            RuntimeError: another task is waiting for it; give each task an iteration of its own. Or the task runs on
                an event loop of another kind.
        """
        if self._in_turn >= TURN:
            await self._let_others()
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._over:
            event = self._taken(*self._reader.try_next())
            if event is None and not self._over:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._silent()
                event = await self._news(left)
            if event is not None:
                self._in_turn += 1
                return event
        raise StopAsyncIteration

    def close(self) -> None:
        """Ends the iteration; iterating to the end does it too.

        A task that waits for an event is told at once; a thread that does gets that event first.
        """
        self._over = True
        if (awaited := self._awaited) is not None:
            loop, arrived = awaited
            with contextlib.suppress(RuntimeError):  # The loop was closed while the task waited: nobody is to be told.
                loop.settle_soon(arrived)

    def _taken(self, row: tuple[str, str | None, str | None, float | None] | None, reason: str | None) -> Event | None:
        """The engine's answer as an event, or None; notes the end."""
        if row is not None:
            data, event, id_, retry = row
            return Event(data, event if event is not None else "message", id_, retry)
        if reason != "timeout":  # A timeout does not undo a close that came during it.
            self._over = True
        return None

    def _silent(self) -> WaitTimeout:
        return WaitTimeout(f"stream {self._name!r} was silent for {self._timeout} s")

    async def _let_others(self) -> None:
        self._in_turn = 0
        await current().let_others()

    async def _news(self, timeout: float | None) -> Event | None:
        """Waits until there may be an event, `timeout` seconds have passed, or it was closed.

        One that came just before the waiting began is returned at once.
        """
        if self._awaited is not None:
            raise RuntimeError(f"two tasks iterate over the same events of stream {self._name!r}: give each its own")
        self._in_turn = 0
        loop = current()
        with loop.news(self._reader) as arrived:
            self._awaited = (loop, arrived)  # A close from here on settles it.
            try:
                event = self._taken(*self._reader.try_next())
                if event is None and not self._over:
                    await loop.wait(arrived, timeout)
            finally:
                self._awaited = None
        return event
