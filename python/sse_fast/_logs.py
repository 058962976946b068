"""The engine's log records, handed to `logging`.

Owns: the one thread that takes them, which ends with the engine, and tells those who want to know of that.
Must not know: what is logged, or which handlers there are; `logging` is never configured here.
Invariants: when an application's handler or filter raises, the next record is logged all the same.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from typing import TYPE_CHECKING

from . import _records, _threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._core import Server as Engine

_FLUSH = 1.0  # Seconds that closing waits for the last records; a handler that blocks must not delay it longer.


class LogThread:
    """Logs records until the engine has stopped; does not hold the interpreter while there are none."""

    def __init__(self, engine: Engine) -> None:
        """Takes the engine whose records it logs."""
        self._engine = engine
        self._to_tell: list[Callable[[], object]] = []  # Who wants to know that the engine has stopped.
        self._thread: _threads.Started | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = _threads.start(self.run, "sse_fast logs")

    def run(self) -> None:
        """Logs every batch of records that the engine gives, and tells of its end."""
        while (batch := self._engine.next_logs()) is not None:
            for record in batch:
                _write(*record)
        for tell in list(self._to_tell):
            tell()

    @contextlib.contextmanager
    def tells_of_the_end(self, tell: Callable[[], object]) -> Iterator[None]:
        """Calls `tell` when the engine stops inside the block; look whether it has once more before waiting for that.

        `tell` must not raise.
        """
        self._to_tell.append(tell)
        try:
            yield
        finally:
            self._to_tell.remove(tell)

    def finish(self) -> None:
        """Waits until the last records are logged; called once the engine has stopped."""
        # A log handler may close the server, and is then on this thread.
        if self._thread is not None and not self._thread.is_current():
            self._thread.join(_FLUSH)


def _write(level: int, logger: str, text: str) -> None:
    try:
        _records.logger(logger).log(level, "%s", text)
    except BaseException:  # The thread goes on after any exception.
        if logging.raiseExceptions:  # `logging` itself prints the errors of handlers under the same condition.
            traceback.print_exc()
