"""SIGTERM between the beginning of a ``with`` block, in an event loop of the main thread, and the wait in it.

Owns: who is told of it, and what becomes of it where nobody waits. Must not know: servers.
Invariants: nothing is taken over where the program handles the signal itself. A wait that begins within a moment is
told at once; where none does the signal has the effect that it would have had, that moment later, and where the block
ends before, after it.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from ._signals import Waiting

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_MOMENT = 0.5  # Seconds that a program has from the signal to its wait: one that never waits ends that much later.


class EarlySignal:
    """What a block was told before anybody waited; every method but `awaited` is called in the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes SIGTERM over, where nobody else has."""
        self._loop = loop
        self._waits = 0
        self._came = False
        self._consumed = False
        self._waiting = Waiting(self._take, (signal.SIGTERM,), is_last=True)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._waiting.begin()

    def awaited(self, by: int) -> None:
        """So many more wait now than before, or fewer."""
        self._waits += by

    def tell(self, tell: Callable[[], bool]) -> None:
        """Tells somebody who waits now what came before."""
        if self._came and not self._consumed:
            tell()

    def consume(self) -> None:
        """What came was acted upon."""
        self._consumed = True

    def end(self) -> None:
        """The block ends, or nobody will wait: what came and was not acted upon has its usual effect."""
        self._waiting.end(consumed=self._consumed)

    def _take(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, _MOMENT, self._look)
        except RuntimeError:  # It was closed: the block is over.
            return False
        self._came = True
        return True

    def _look(self) -> None:
        if not self._waits and not self._consumed:
            self.end()
