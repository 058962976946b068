"""`Watch`: a Python callable that is polled, and whose changes are a stream.

Owns: one thread for each watch; what counts as a change, as terminal, as a failure.
Must not know: the engine beyond a stream's `publish` and `end`, and its reader.
Invariants: the same value is never published twice in a row. A failing poll never ends the thread silently: it is
logged, counted and retried with back-off, and after `max_failures` in a row the stream ends with an ``error`` event. At
shutdown the thread ends at its next publish or wake-up; it is a daemon and delays nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ._exceptions import ServerClosed, StreamEnded, WaitTimeout
from ._settings import checked_seconds

if TYPE_CHECKING:
    from ._core import Stream

_LOG = logging.getLogger("sse_fast.watch")
_MAX_BACK_OFF = 60.0  # Seconds: a service that is down is polled once a minute, so that its return is noticed soon.
_CHECK_INTERVAL = 0.5  # How late a watch notices that its server closed, or that its stream is over.
_UNSEEN = object()  # Differs from every value that a poll may return.

Until = Callable[[Any], bool] | Collection[str]


class Watch:
    """A running watch; made by `Server.watch`.

    Attributes:
        stream: where changes are published.
        value: the last value polled; None before the first.
        failures: how often in a row `poll` has raised, or returned what cannot be published.
        done: whether the watch is over: terminal value, too many failures, `stop`, or the end of stream or server.
    """

    def __init__(  # noqa: PLR0913 - the arguments of Server.watch
        self,
        poll: Callable[[], Any],
        *,
        every: float,
        stream: Stream,
        until: Until,
        event: str | None,
        max_failures: int,
    ) -> None:
        """Starts the thread; see `Server.watch`."""
        self.stream = stream
        self.value: Any = None
        self.failures = 0
        self._poll = poll
        self._every = every
        self._until = until
        self._event = event
        self._max_failures = max_failures
        self._reader = stream._reader("new", None)  # noqa: SLF001 - tells the end of stream and server
        self._published: object = _UNSEEN
        self._stopping = threading.Event()
        self._over = threading.Event()
        threading.Thread(target=self._watch, name=f"sse_fast watch {stream.name}", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether the watch is over."""
        return self._over.is_set()

    def stop(self) -> None:
        """Ends the watch soon. The stream stays open for other publishers, and a poll under way is not interrupted."""
        self._stopping.set()

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the watch is over.

        Args:
            timeout: seconds; None waits without limit.

        Raises:
            WaitTimeout: it was not over within `timeout`.
            SettingError: `timeout` is not allowed.
        """
        if not self._over.wait(None if timeout is None else checked_seconds("timeout", timeout)):
            raise WaitTimeout(f"the watch of {self.stream.name!r} was not over within {timeout} s")

    def __repr__(self) -> str:
        """The stream's name and the state."""
        return f"<Watch {self.stream.name!r} {'done' if self.done else 'running'}>"

    def _watch(self) -> None:
        try:
            self._poll_until_over()
        except (ServerClosed, StreamEnded):
            _LOG.debug("the watch of %r is over: its stream takes no more events", self.stream.name)
        except Exception:
            _LOG.exception("the watch of %r failed", self.stream.name)
        finally:
            self._over.set()

    def _poll_until_over(self) -> None:
        while not self._stopping.is_set():
            try:
                over = self._poll_once()
                self.failures = 0
                if over:
                    return
            except (ServerClosed, StreamEnded):
                raise
            except BaseException as error:  # SystemExit too: it would end only this thread and leave the stream open.
                if self._count_failure(error):
                    return
            if not self._wait_for_next_poll():
                return

    def _poll_once(self) -> bool:
        """Polls once and publishes a changed value; True when the value was terminal."""
        value = self._poll()
        self.value = value
        if self._is_terminal(value):
            self.stream.end(value, event=self._event_name(value))
            return True
        if self._published is _UNSEEN or value != self._published:
            self.stream.publish(value, event=self._event_name(value))
            self._published = value
        return False

    def _count_failure(self, error: BaseException) -> bool:
        """Counts a failure; True when there were too many and the stream was ended."""
        self.failures += 1
        _LOG.warning(
            "polling for %r failed (%d of %d)", self.stream.name, self.failures, self._max_failures, exc_info=error
        )
        if self.failures < self._max_failures:
            return False
        report = {"error": "watch_failed", "failures": self.failures, "detail": type(error).__name__}
        self.stream.end(report, event="error")
        return True

    def _wait_for_next_poll(self) -> bool:
        """Waits until the next poll is due; False when the watch is over."""
        back_off = 2.0 ** min(max(self.failures - 1, 0), 16)
        due = time.monotonic() + min(self._every * back_off, max(_MAX_BACK_OFF, self._every))
        while (left := due - time.monotonic()) > 0:
            if self._stopping.wait(min(left, _CHECK_INTERVAL)) or self._stream_is_over():
                return False
        return True

    def _stream_is_over(self) -> bool:
        """Whether another publisher ended or removed the stream, or the server closed."""
        row, reason = self._reader.try_next()
        while row is not None:  # Skips what was published since the last check, by this watch or by others.
            row, reason = self._reader.try_next()
        return reason != "timeout"

    def _is_terminal(self, value: Any) -> bool:  # noqa: ANN401 - what the user's poll returns
        if callable(self._until):
            return bool(self._until(value))
        return _status_of(value) in self._until

    def _event_name(self, value: object) -> str:
        """The event's name: as given, or the value's own status."""
        if self._event is not None:
            return self._event
        status = value.get("status") if isinstance(value, dict) else None
        return status if isinstance(status, str) and status else "status"


def _status_of(value: object) -> object:
    """The value's status: a dict's ``"status"``, or the value itself where it is a str."""
    if isinstance(value, dict):
        value = value.get("status")
    return value if isinstance(value, str) else None
