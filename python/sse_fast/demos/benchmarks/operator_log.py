"""The operator's log: what the runners print, as a stream of its own.

Owns: the logging handler that publishes log records. Must not know: submissions. The engine has already told marked
lines from all others; a log line can reach this stream and no other.
"""

from __future__ import annotations

import logging

import sse_fast

LOGGER = "sse_fast.run"  # Where the engine logs what runs print.


class OperatorLog(logging.Handler):
    """Publishes each record into a stream, whose history is the ring that a late reader gets first."""

    def __init__(self, stream: sse_fast.Stream) -> None:
        """Takes the stream; `attach` begins."""
        super().__init__(logging.INFO)
        self._stream = stream

    def attach(self) -> None:
        """Begins to publish what the runners print."""
        logger = logging.getLogger(LOGGER)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Publishes a record; once its server is closed the handler takes itself away."""
        try:
            line = {"at": round(record.created, 3), "level": record.levelname, "text": record.getMessage()}
            self._stream.publish(line, event="log")
        except (sse_fast.ServerClosed, sse_fast.StreamEnded):
            logging.getLogger(LOGGER).removeHandler(self)
        except Exception:
            self.handleError(record)
