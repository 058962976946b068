"""Whose call this code serves.

Owns: the mark that a handler's code carries, in its thread, its task, and what either hands on (`asyncio.to_thread`).
Invariant: the mark is gone once the call has its answer, also for tasks that the handler began.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import Server as Engine


class _Mark:
    def __init__(self, engine: Engine) -> None:
        self.engine: Engine | None = engine


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


def serves(engine: Engine) -> bool:
    """Whether the calling code serves a call of the engine's, which is not answered before it returns."""
    mark = _mark.get()
    return mark is not None and mark.engine is engine
