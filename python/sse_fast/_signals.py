"""SIGINT and SIGTERM, while a program waits for the end of its servers.

Owns: which handlers are put in place, for how long, and what becomes of those that were there. Must not know: servers,
event loops. Handlers belong to the process, and its main thread alone sets them: what is known of them is global.

Invariants: a signal is never lost: it ends a waiting, or has the effect that it had before. Our handler is there while
somebody waits, whatever the order in which waitings end. One that somebody else installed is called as before, and is
in place again afterwards; what is ignored stays ignored. The first signal ends every waiting and puts everything back,
so that a second one has its usual effect: it ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

_waiting: list[Waiting] = []  # Changed in the main thread, but for those that another thread gives up.
_previous: dict[int, Any] = {}  # What was there, of the signals that were ours last; kept for those who call ours.
_origin: dict[int, Any] = {}  # What was there when they were ours first.
_owner: list[int] = []  # The process that waits; a forked child has our handler, and nobody who waits.
_told: list[bool] = []  # For each `_handle` under way, whether it told anybody.


class Waiting:
    """Somebody who is told, once, that SIGINT or SIGTERM came; in the main thread, in the middle of what that does.

    Args:
        tell: called then; returns whether somebody could be told. It must not raise.
        numbers: which of the two it waits for.
        is_last: whether it is told only where nobody else could be.
    """

    def __init__(self, tell: Callable[[], bool], numbers: tuple[int, ...] = _NUMBERS, *, is_last: bool = False) -> None:
        """Changes nothing yet."""
        self._tell = tell
        self.numbers = numbers
        self.is_last = is_last
        self._over = False
        self.told: int | None = None  # Which signal it was.

    def begin(self) -> None:
        """Takes the signals over; called in the main thread, and does nothing in another."""
        if self._over or threading.current_thread() is not threading.main_thread():
            return
        _waiting.append(self)
        _install(self.numbers)

    def end(self, *, consumed: bool) -> None:
        """Puts back what was there, once nobody waits; a signal that was not `consumed` has its usual effect."""
        self._over = True
        with contextlib.suppress(ValueError):  # The signal has ended it.
            _waiting.remove(self)
        if threading.current_thread() is threading.main_thread():
            _put_back()
            if self.told is not None and not consumed:
                signal.raise_signal(self.told)

    def take(self, number: int) -> bool:
        """The signal ends this waiting; False where nobody could be told."""
        if self._over or number not in self.numbers or not self._tell():
            return False
        self.told = number
        return True


def _install(numbers: tuple[int, ...]) -> None:
    _owner[:] = [os.getpid()]
    for number in numbers:
        there = signal.getsignal(number)
        # None is a handler that was not installed from Python: it could not be put back.
        if there is not None and there is not signal.SIG_IGN and there is not _handle:
            _previous[number] = there
            _origin.setdefault(number, there)
            signal.signal(number, _handle)


def _put_back() -> None:
    """What was there, for each signal that nobody waits for."""
    for number in set(_NUMBERS).difference(*(each.numbers for each in _waiting)):
        if signal.getsignal(number) is _handle:  # Somebody who came later keeps theirs, and may call ours.
            signal.signal(number, _previous[number])


def _handle(number: int, frame: FrameType | None) -> None:
    if _told:  # One that was put over ours, and that ours has called, calls ours again.
        if not _told[-1]:
            _pass_on(_origin[number], number, frame)
        return
    waiting = list(_waiting) if _owner == [os.getpid()] else []
    told = any([each.take(number) for each in waiting if not each.is_last])  # noqa: C419 - everybody is told
    told = told or any([each.take(number) for each in waiting if each.is_last])  # noqa: C419 - as above
    _waiting.clear()
    _put_back()
    previous = _previous[number]
    _told.append(told)
    try:
        if not told:
            _pass_on(previous, number, frame)
        elif callable(previous) and not _only_stops(previous):
            previous(number, frame)
    finally:
        _told.pop()


def _pass_on(handler: Any, number: int, frame: FrameType | None) -> None:  # noqa: ANN401 - as `signal` has them
    """Gives the signal the effect that it had before."""
    if callable(handler):
        handler(number, frame)
    else:
        signal.signal(number, handler)
        signal.raise_signal(number)


def _only_stops(handler: object) -> bool:
    """Whether a handler does nothing but stop what the main thread does: Python's for Ctrl-C, and `asyncio.run`'s."""
    if handler is signal.default_int_handler:
        return True
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return type(runner).__module__ == "asyncio.runners"
