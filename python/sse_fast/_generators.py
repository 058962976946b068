"""Handlers that are generators: what they yield is a stream of its own, as long as somebody reads it.

Owns: `Feed`, one generator's stream and the call that it answers; the pumps that take from generators; the threads of
synchronous ones.
Must not know: which handler a call is for (`_handlers`), whose event loop it is, sockets.
Invariants: what a generator raises before its first event is its answer, as any handler's; after that it is the
stream's last event. A generator is asked for the next item only when the one before was published, which waits for its
reader. It is closed by the pump that takes from it, and not asked again once its reader has gone. Its stream always
ends.
"""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _records, _threads
from ._answers import INTERNAL_ERROR, LOG, error_body, log_failure, refuse, refuse_busy
from ._calling import serving
from ._event import Event
from ._exceptions import EventTypeError, HttpError, ServerClosed, StreamEnded
from ._loops import TURN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from ._core import Call, Stream
    from ._core import Server as Engine
    from ._request import Request

    RunGenerator = Callable[[Call, Request | None, Generator[object, Any, Any] | None], None]

_END = "end"  # The name of an event that ends its stream.
_READER_LEFT = b'{"error":"reader_left","detail":"nobody read this stream any more, so what filled it was closed"}'
# Seconds until a reader is looked at again whose socket was full, at first and at most: long for an event loop, and
# short for a reader that takes a buffer of many events at a time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


@dataclass(frozen=True)
class _Step:
    """An event on its way into the stream; `last` ends that."""

    data: object
    event: str | None = None
    id: str | None = None
    retry: float | None = None
    last: bool = False


def _step_of(item: object) -> _Step:
    """What was yielded, as an event."""
    if isinstance(item, Event):
        name = None if item.event == "message" else item.event  # As readers call an event without a name.
        return _Step(item.data, name, item.id, item.retry, last=name == _END)
    if isinstance(item, tuple):
        if len(item) != 2:  # noqa: PLR2004 - as in publish_many
            raise EventTypeError(f"a tuple is (data, event), not {len(item)} items")
        data, event = item
        return _Step(data, event, last=event == _END)
    return _Step(item)


class Feed:
    """The stream that one generator fills, and the call that it answers."""

    def __init__(self, engine: Engine, call: Call, request: Request, options: dict[str, Any]) -> None:
        """Opens nothing: the generator may refuse before its first event."""
        self._engine = engine
        self._call = call
        self._request = request
        self._options = options
        self._stream: Stream | None = None
        self._answered = False
        self._is_read = False  # Whether the reader has come; before that the stream's history is all that keeps events.

    @property
    def is_lost(self) -> bool:
        """Whether nobody waits for the answer any more, or reads the stream."""
        return self._call.lost

    def feed(self, step: _Step, *, wait: bool) -> bool:
        """Publishes; waits for the reader, or, unless `wait`, returns False where it would have to."""
        if self._stream is None:
            self._stream = self._engine.generated(self._request.path, self._call.key, self._options)
        if self._answered and not self._await_reader(self._stream, wait=wait):
            return False
        done = self._engine.feed(
            self._stream, step.data, event=step.event, id=step.id, retry=step.retry, last=step.last, wait=wait
        )
        if done and not self._answered:  # It has its first event: a reader who comes now gets that at once.
            self._answered = True
            self._call.answer_stream(self._stream, [], generated=True)
        return done

    def _await_reader(self, stream: Stream, *, wait: bool) -> bool:
        """Waits until the reader has come, or left before: a moment, for its response is on its way."""
        pause = _FIRST_PAUSE
        while not self._is_read:
            self._is_read = stream.subscribers > 0 or self.is_lost
            if not self._is_read:
                if not wait:
                    return False
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        return True

    def failed(self, error: BaseException) -> _Step | None:
        """How the stream ends after what the generator raised; None where that is the call's answer."""
        if not self._answered:
            refuse(self._call, self._request, error, self._engine.json)
            return None
        if isinstance(error, HttpError):
            try:
                return _Step(error_body(error, self._engine.json), "error", last=True)
            except BaseException as unsendable:  # It has a body of its own that is not JSON.
                error = unsendable
        log_failure(self._request, error)
        return _Step(INTERNAL_ERROR, "error", last=True)

    def abandoned(self) -> _Step | None:
        """How the stream ends that nobody reads: who comes back later gets what there was, and that it is not whole."""
        return _Step(_READER_LEFT, "error", last=True) if self._answered else None

    def closing_failed(self) -> None:
        """Logs the exception that is handled now, which closing the generator raised."""
        with contextlib.suppress(BaseException):  # A logging handler of the application may raise.
            path = _records.shown(self._request.path)
            LOG.exception("closing the generator of %s %r failed", self._request.method, path)


def pump(feed: Feed, generator: Generator[object, Any, Any]) -> None:
    """Publishes what a generator yields, on this thread, until its end or its reader's leaving."""
    ending: _Step | None = None
    try:
        ending = _take_all(feed, generator)
    except StopIteration:
        ending = _Step(None, _END, last=True)
    except (ServerClosed, StreamEnded):
        pass
    except BaseException as error:  # SystemExit too: here it could end only this thread of the server.
        ending = feed.failed(error)
    try:
        generator.close()
    except BaseException:  # What it does in `finally` may raise anything.
        feed.closing_failed()
    if ending is not None:
        with contextlib.suppress(ServerClosed, StreamEnded):
            feed.feed(ending, wait=True)


def _take_all(feed: Feed, generator: Generator[object, Any, Any]) -> _Step | None:
    """Takes until there is a reason to stop, and returns how the stream ends; a generator's end is an exception."""
    item = next(generator)
    while not feed.is_lost:
        try:
            step = _step_of(item)
            feed.feed(step, wait=True)
        except (ServerClosed, StreamEnded):
            raise
        except Exception as error:  # It cannot be an event: the generator is told where it yielded it.
            item = generator.throw(error)
            continue
        if step.last:
            return None
        if not feed.is_lost:  # It may have waited for a reader who has left since.
            item = next(generator)
    return feed.abandoned()


async def pump_async(feed: Feed, generator: AsyncGenerator[object, Any]) -> None:
    """Publishes what an asynchronous generator yields; cancelling the task cancels what the generator awaits."""
    import asyncio  # noqa: PLC0415 - only programs that use it pay for it

    ending: _Step | None = None
    try:
        ending = await _take_all_async(feed, generator)
    except StopAsyncIteration:
        ending = _Step(None, _END, last=True)
    except (ServerClosed, StreamEnded):
        pass
    except asyncio.CancelledError as error:  # Its reader has left, or the server closes.
        ending = feed.abandoned() if feed.is_lost else feed.failed(error)
    except BaseException as error:  # As in `pump`.
        ending = feed.failed(error)
    try:
        await generator.aclose()
    except BaseException:  # As in `pump`.
        feed.closing_failed()
    if ending is not None:
        with contextlib.suppress(ServerClosed, StreamEnded, asyncio.CancelledError):
            await _feed_async(feed, ending)


async def _take_all_async(feed: Feed, generator: AsyncGenerator[object, Any]) -> _Step | None:
    """As `_take_all`."""
    import asyncio  # noqa: PLC0415 - as above

    item, in_turn = await generator.__anext__(), 0
    while not feed.is_lost:
        try:
            step = _step_of(item)
            await _feed_async(feed, step)
        except (ServerClosed, StreamEnded):
            raise
        except Exception as error:  # As there.
            item = await generator.athrow(error)
            continue
        if step.last:
            return None
        in_turn += 1
        if in_turn % TURN == 0:
            await asyncio.sleep(0)
        if not feed.is_lost:
            item = await generator.__anext__()
    return feed.abandoned()


async def _feed_async(feed: Feed, step: _Step) -> None:
    """Publishes as soon as the reader has room."""
    import asyncio  # noqa: PLC0415 - as above

    pause = 0.0
    while not feed.feed(step, wait=False):
        await asyncio.sleep(pause)
        pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)


class GeneratorThreads:
    """The threads of synchronous generators: one for each that runs, and one that waits for the next call.

    Args:
        engine: whose calls are taken.
        limit: the most threads; while all of them run generators, calls wait in the engine.
        run: runs the generator of a call; without one it makes that first.
    """

    def __init__(self, engine: Engine, limit: int, run: RunGenerator) -> None:
        """Starts nothing."""
        self._engine = engine
        self._limit = limit
        self._run = run
        self._counting = _threads.lock()  # Protects what follows; nothing is waited for under it.
        self._count = 0
        self._threads: set[_threads.Started] = set()  # For who waits until they have ended.
        self._waiting = 0  # Those of them that wait for a call.

    def start(self) -> None:
        """Has a thread wait for calls from now on."""
        with self._counting:
            if self._waiting == 0:
                self._add_waiting()

    def run(self, call: Call, request: Request, generator: Generator[object, Any, Any]) -> None:
        """Runs a generator that a handler of another kind returned, on a thread of its own."""
        with self._counting:
            has_room = self._count < self._limit
            if has_room:
                self._start(functools.partial(self._run_one, call, request, generator))
        if not has_room:
            generator.close()
            refuse_busy(call, "as many generators run as may (generator_threads); try again")

    def threads(self) -> list[_threads.Started]:
        """Those that run now."""
        with self._counting:
            return list(self._threads)

    def _start(self, work: Callable[[], object]) -> None:
        """Starts a thread, which is known until it ends; under the lock."""
        known: list[_threads.Started] = []

        def run() -> None:
            try:
                work()
            finally:
                with self._counting:  # Only now is it known itself.
                    self._threads.difference_update(known)

        known.append(_threads.start(run, "sse_fast generator"))
        self._threads.update(known)
        self._count += 1

    def _add_waiting(self) -> None:
        """Adds a thread that waits, where there may be one more; under the lock."""
        if self._count < self._limit:
            self._start(self._serve)
            self._waiting += 1

    def _serve(self) -> None:
        """One thread: waits, runs what comes while another waits, and ends where another still does."""
        while (call := self._engine.next_call("generators")) is not None:
            if isinstance(call, int):  # The loop's lane alone has numbers.
                continue
            with self._counting:
                self._waiting -= 1
                if self._waiting == 0:
                    with contextlib.suppress(RuntimeError):  # The system gives no thread: this one will wait again.
                        self._add_waiting()
            self._run_safely(call, None, None)
            del call  # Dropped before the wait, because a call without an answer becomes a 500 when it is dropped.
            with self._counting:
                if self._waiting > 0:
                    self._count -= 1
                    return
                self._waiting += 1

    def _run_one(self, call: Call, request: Request, generator: Generator[object, Any, Any]) -> None:
        self._run_safely(call, request, generator)
        with self._counting:
            self._count -= 1

    def _run_safely(self, call: Call, request: Request | None, generator: Generator[object, Any, Any] | None) -> None:
        try:
            with serving(self._engine):
                self._run(call, request, generator)
        except BaseException:  # Logging raised, or the engine refused; this thread goes on.
            with contextlib.suppress(BaseException):
                LOG.exception("running a generator failed")
