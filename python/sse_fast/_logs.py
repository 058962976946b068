"""The engine's log records, handed to `logging`.

Owns: the one thread that takes them.
Must not know: what is logged, or which handlers there are; `logging` is never configured here.
Invariants: when an application's handler or filter raises, the next record is logged all the same.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from . import _threads

if TYPE_CHECKING:
    from ._core import Server as Engine

_FLUSH = 1.0  # Seconds that closing waits for the last records; a handler that blocks must not delay it longer.


class LogThread:
    """Logs records until the engine has stopped; does not hold the interpreter while there are none."""

    def __init__(self, engine: Engine) -> None:
        """Takes the engine whose records it logs."""
        self._engine = engine
        self._thread: _threads.Started | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = _threads.start(self.run, "sse_fast logs")

    def run(self) -> None:
        """Logs every batch of records that the engine gives."""
        while (batch := self._engine.next_logs()) is not None:
            for record in batch:
                _write(*record)

    def finish(self) -> None:
        """Waits until the last records are logged; called once the engine has stopped."""
        # A log handler may close the server, and is then on this thread.
        if self._thread is not None and not self._thread.is_current():
            self._thread.join(_FLUSH)


def _write(level: int, logger: str, text: str) -> None:
    try:
        logging.getLogger(logger).log(level, "%s", text)
    except BaseException:  # The thread goes on after any exception.
        if logging.raiseExceptions:  # `logging` itself prints the errors of handlers under the same condition.
            traceback.print_exc()
