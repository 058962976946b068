"""SIGINT and SIGTERM, while a program waits for the end of its server.

Owns: which handlers are put in place, for how long, and what becomes of those that were there. Must not know: servers,
event loops. Handlers run in the main thread, which alone may set them.

Invariants: a handler that somebody else installed is called as before, and is in place again once the waiting is over;
what is ignored stays ignored. The first signal ends the waiting and puts everything back, so that a second one has its
usual effect: it ends the process. A handler of ours that outlives its waiting, because only another thread could tell,
passes the next signal on.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Calls `tell`, once, when SIGINT or SIGTERM comes; in the main thread, in the middle of whatever that does."""

    def __init__(self, tell: Callable[[], object]) -> None:
        """Changes nothing yet."""
        self._tell = tell
        self._previous: dict[int, Any] = {}  # What was there, of the signals that are ours now.
        self._over = False

    def install(self) -> None:
        """Takes the signals over; called in the main thread, and does nothing in another."""
        if self._over or threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            previous = signal.getsignal(number)
            # None is a handler that was not installed from Python: it could not be put back.
            if previous is not None and previous is not signal.SIG_IGN:
                self._previous[number] = previous
                signal.signal(number, self._handle)

    def end(self) -> None:
        """Puts back what was there. In another thread than the main one only notes that the waiting is over."""
        self._over = True
        if threading.current_thread() is threading.main_thread():
            self._put_back()

    def _put_back(self) -> None:
        for number, previous in list(self._previous.items()):
            if signal.getsignal(number) == self._handle:  # Somebody who came later keeps theirs, and calls ours.
                signal.signal(number, previous)
                del self._previous[number]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number)
        waited = not self._over
        self._over = True
        self._put_back()
        if waited:
            self._tell()
        if callable(previous) and (not waited or not _only_stops(previous)):
            previous(number, frame)
        elif not waited and number not in self._previous:
            signal.raise_signal(number)  # What is there now is the system's own answer.


def _only_stops(handler: object) -> bool:
    """Whether a handler does nothing but stop what the main thread does: Python's for Ctrl-C, and `asyncio.run`'s."""
    if handler is signal.default_int_handler:
        return True
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return type(runner).__module__ == "asyncio.runners"
