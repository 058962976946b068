"""Whose call this code serves.

Owns: the mark that a handler's code carries, in its thread, its task, and what either hands on (`asyncio.to_thread`),
and that of the thread of a server's own event loop, which ends with it.
Invariant: a handler's mark is gone once the call has its answer, also for tasks that the handler began.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import Server as Engine


class _Mark:
    def __init__(self, engine: Engine) -> None:
        self.engine: Engine | None = engine


_thread = threading.local()
_mark: ContextVar[_Mark | None] = ContextVar("sse_fast_call", default=None)


@contextlib.contextmanager
def serving(engine: Engine) -> Iterator[None]:
    """The code in the block serves a call of the engine's."""
    mark = _Mark(engine)
    before = _mark.set(mark)
    try:
        yield
    finally:
        mark.engine = None
        with contextlib.suppress(ValueError):  # A generator that was closed in another context.
            _mark.reset(before)


def belongs_to(engine: Engine) -> None:
    """This thread runs the event loop of the engine's server: closing waits for every task on it."""
    _thread.engine = engine


def serves(engine: Engine) -> bool:
    """Whether closing waits for the calling code: it serves a call of the engine's, or runs on its server's loop."""
    mark = _mark.get()
    return (mark is not None and mark.engine is engine) or getattr(_thread, "engine", None) is engine
