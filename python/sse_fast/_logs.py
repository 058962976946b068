"""The engine's log records, handed to `logging`.

Owns: the one thread that takes them. Must not know: what is logged, or who listens; `logging` is never configured here.

Invariant: no record is lost because somebody's handler or filter raised at the one before it.
"""

from __future__ import annotations

import logging
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core import Server as Engine

_FLUSH = 1.0  # Seconds that closing waits for the last records: a handler that blocks must not hold it up.


class LogThread(threading.Thread):
    """Takes records, without holding the interpreter while there are none, until the engine has stopped."""

    def __init__(self, engine: Engine) -> None:
        """Takes the engine whose records they are."""
        super().__init__(name="sse_fast logs", daemon=True)
        self._engine = engine

    def run(self) -> None:
        """The thread's work."""
        while (batch := self._engine.next_logs()) is not None:
            for record in batch:
                _write(*record)

    def finish(self) -> None:
        """Waits until the last records are written; the engine has stopped. Closing may be a log handler's doing."""
        if self is not threading.current_thread():
            self.join(_FLUSH)


def _write(level: int, logger: str, text: str) -> None:
    try:
        logging.getLogger(logger).log(level, "%s", text)
    except BaseException:  # Whatever it is, the thread goes on.
        if logging.raiseExceptions:  # As `logging` does where a handler fails in the usual way.
            traceback.print_exc()
