"""Which event loop the calling code runs on, and its wake-ups.

Owns: the wake-ups of every loop there is, for as long as the loop keeps them; whose turn it is.
Must not know: streams, what is waited for. asyncio and trio are imported only where a program has done so.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from . import _threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._wakeups import LoopWakeups

TURN = 64  # Events that a task takes or publishes before others get their turn: it would keep the loop to itself.

# Weak on both sides: wake-ups hold futures, and these their loop, which would then never be forgotten. What keeps the
# wake-ups of a loop is the loop, to which `take` was given; it lets go of that when it is closed.
_loops: weakref.WeakKeyDictionary[Any, weakref.ref[LoopWakeups]] = weakref.WeakKeyDictionary()
_turns = threading.local()


def current() -> LoopWakeups:
    """The wake-ups of the loop that the calling coroutine runs on.

    Raises:
        RuntimeError: it runs on none that is known here.
    """
    found = _running()
    if found is None:
        raise RuntimeError(
            "no event loop runs here that sse_fast knows: coroutines read and publish under asyncio, uvloop, and anyio "
            "on either, and under trio; in a thread use the methods without await"
        )
    loop, make = found
    known = _loops.get(loop)
    wakeups = known() if known is not None else None
    if wakeups is None:
        wakeups = make()
        _loops[loop] = weakref.ref(wakeups)
    return wakeups


def is_running() -> bool:
    """Whether an event loop runs in this thread, or a hub of greenlets: it must not be held up."""
    return _running() is not None or _threads.hub_sleep() is not None


async def take_turn() -> None:
    """Lets others run after every `TURN` calls."""
    taken = getattr(_turns, "taken", 0) + 1
    _turns.taken = taken % TURN
    if taken >= TURN:
        await current().let_others()


def _running() -> tuple[Any, Callable[[], LoopWakeups]] | None:
    """The running loop, and what makes its wake-ups. A module that nobody has imported has no running loop."""
    if (trio := sys.modules.get("trio")) is not None:
        # Before asyncio, on top of which trio may run as a guest. A module that is half imported has neither name.
        with contextlib.suppress(AttributeError, RuntimeError):
            trio.lowlevel.current_task()
            return trio.lowlevel.current_trio_token(), _of_trio
    if (asyncio := sys.modules.get("asyncio")) is not None:
        running = getattr(asyncio, "_get_running_loop", None)
        loop = None if running is None else running()
        if loop is not None:
            return loop, _of_asyncio
    return None


def _of_asyncio() -> LoopWakeups:
    from ._wakeups_asyncio import AsyncioWakeups  # noqa: PLC0415 - only programs that use it pay for it

    return AsyncioWakeups()


def _of_trio() -> LoopWakeups:
    from ._wakeups_trio import TrioWakeups  # noqa: PLC0415 - as above

    return TrioWakeups()
