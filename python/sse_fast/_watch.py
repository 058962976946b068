"""`Watch`: a Python callable that is polled, and whose changes are a stream.

Owns: one thread for each watch, and the event loop of an ``async def`` poll; what counts as a change, as terminal, as a
failure; which watches a server has.
Must not know: the engine beyond a stream's `publish` and `end`, its encoding and its reader.
Invariants: the same event, by its name and bytes, is never published twice in a row. A failing poll never ends the
thread silently: it is logged, counted and retried with back-off, and after `max_failures` in a row the stream ends with
an ``error`` event. At shutdown the thread ends at its next publish or wake-up; it is a daemon and delays nothing.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from . import _records
from ._core import Stream
from ._exceptions import ServerClosed, StreamEnded, StreamError, WaitTimeout
from ._settings import checked_seconds

if TYPE_CHECKING:
    import asyncio

_LOG = _records.logger("sse_fast.watch")
_MAX_BACK_OFF = 60.0  # Seconds: a service that is down is polled once a minute, so that its return is noticed soon.
_CHECK_INTERVAL = 0.5  # How late a watch notices that its server closed, or that its stream is over.
_MAX_DETAIL = 1000  # Characters of an exception's text in the `error` event.

#: What `Server.watch` polls: a function, or an ``async def`` function, that returns the present state.
Poll = Callable[[], object]
#: Which state is the last: a callable that is given it, or the terminal statuses.
Until = Callable[[Any], bool] | Collection[str]


class Watches:
    """Which watches of a server write into which stream."""

    def __init__(self) -> None:
        """There is none yet."""
        # Protects `_live`. A signal handler that comes in between may begin a watch.
        self._lock = threading.RLock()
        self._live: dict[tuple[Stream, str | None], Watch] = {}  # By what each writes: its stream and event name.

    def start(  # noqa: PLR0913 - the arguments of Server.watch
        self, poll: Poll, *, every: float, stream: Stream, until: Until, event: str | None, max_failures: int
    ) -> Watch:
        """Starts a watch; see `Server.watch`.

        Raises:
            StreamError: a watch that is not over publishes the same into the stream.
        """
        written = (stream, event)
        with self._lock:
            if written in self._live:
                events = "its states" if event is None else f"{event!r} events"
                wrong = (
                    f"the stream {stream.name!r} has a watch already that publishes {events}: wait() for it or stop() "
                    "it first, or give each watch an event= of its own"
                )
                raise StreamError(wrong)

            def over() -> None:
                with self._lock:
                    self._live.pop(written, None)

            # Its thread cannot leave before it is here.
            watch = Watch(
                poll, every=every, stream=stream, until=until, event=event, max_failures=max_failures, over=over
            )
            self._live[written] = watch
        return watch


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
        poll: Poll,
        *,
        every: float,
        stream: Stream,
        until: Until,
        event: str | None,
        max_failures: int,
        over: Callable[[], None],
    ) -> None:
        """Starts the thread, which calls `over` at its end; see `Server.watch`."""
        self.stream = stream
        self.value: Any = None
        self.failures = 0
        self._poll = poll
        self._every = every
        self._until = until
        self._event = event
        self._max_failures = max_failures
        self._tell_over = over
        self._reader = stream._reader("new", None)  # noqa: SLF001 - tells the end of stream and server
        self._published: tuple[str, bytes] | None = None  # The last event: a value itself may change in place.
        self._loop: asyncio.AbstractEventLoop | None = None  # Made for the first poll that is awaited.
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
            self._close_loop()
            self._tell_over()
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
        if inspect.isawaitable(value):
            value = self._awaited(value)
        self.value = value
        name, encoded = self._event_name(value), self.stream._encode(value)  # noqa: SLF001 - publish's own encoding
        if self._is_terminal(value):
            self.stream.end(encoded, event=name)
            return True
        if (name, encoded) != self._published:
            self.stream.publish(encoded, event=name)
            self._published = (name, encoded)
        return False

    def _awaited(self, value: Awaitable[object]) -> object:
        """The result of an asynchronous poll."""
        import asyncio  # noqa: PLC0415 - only programs that use it pay for it

        async def awaited() -> object:
            return await value

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(awaited())

    def _close_loop(self) -> None:
        """Cancels what the polls have left running, and gives the loop's descriptors back."""
        if self._loop is None:
            return
        import asyncio  # noqa: PLC0415 - as above

        async def cancel_all() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        loop, self._loop = self._loop, None
        try:
            loop.run_until_complete(cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException:  # It is the user's code.
            _LOG.exception("ending the tasks of the watch of %r failed", self.stream.name)
        finally:
            loop.close()

    def _count_failure(self, error: BaseException) -> bool:
        """Counts a failure; True when there were too many and the stream was ended."""
        self.failures += 1
        _LOG.warning(
            "polling for %r failed (%d of %d)", self.stream.name, self.failures, self._max_failures, exc_info=error
        )
        if self.failures < self._max_failures:
            return False
        report = {"error": "watch_failed", "failures": self.failures, "detail": _detail(error)}
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


def _detail(error: BaseException) -> str:
    """The exception and its text, in characters that an event can carry."""
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except Exception:  # It is the user's code.
        text = name
    return text[:_MAX_DETAIL].encode("utf-8", "replace").decode("utf-8")


def _status_of(value: object) -> object:
    """The value's status: a dict's ``"status"``, or the value itself where it is a str."""
    if isinstance(value, dict):
        value = value.get("status")
    return value if isinstance(value, str) else None
