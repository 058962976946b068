"""How a server ends: waiting for that, in a thread or a coroutine, and closing.

Owns: the order in which the parts of a server end, who waits for that, and which event loop takes its signals.
Must not know: how signals are taken over (`_signals`), how each part ends.
Invariants: the engine ends first, then what it called; each of these has until the drain is over. A closing that an
exception has left, a signal handler's or a cancellation, goes on, and nobody waits for it again. A handler of the
server never waits for its own answer.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Protocol

from . import _exit, _threads
from ._calling import serves
from ._early_signal import EarlySignal
from ._exceptions import WaitTimeout
from ._loops import current
from ._settings import checked_seconds
from ._signals import Waiting

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from ._core import Server as Engine
    from ._logs import LogThread

_SIGNAL_CHECK = 0.1  # How late, in seconds, `wait` acts on a signal.


class Ends(Protocol):
    """A part of a server that ends with it."""

    def finish(self, until: float) -> None:
        """Waits until it has ended, at most until that time of `time.monotonic`; called once the engine has stopped."""


class Lifetime:
    """The end of one server.

    Args:
        engine: the server's.
        drain: the setting, in seconds.
        lame_duck: the same.
        parts: what ends after the engine, in that order.
        logs: ends last; it tells of the engine's end, too.
    """

    def __init__(self, engine: Engine, drain: float, lame_duck: float, parts: Sequence[Ends], logs: LogThread) -> None:
        """The server is open."""
        self.left = False  # Whether an exception has left the closing.
        self._engine = engine
        self._drain = drain
        self._lame_duck = lame_duck
        self._parts = parts
        self._logs = logs
        self._loop = _loop_of_the_main_thread()
        self._early: EarlySignal | None = None

    def enter(self) -> None:
        """A ``with`` block begins: a loop that runs it takes the server's signals."""
        found = _loop_of_the_main_thread()
        loop = None if found is None else found()
        if loop is not None:
            self._loop = found
            self._early = EarlySignal(loop)

    def leave(self) -> None:
        """The block has ended, and what it had to close is closed."""
        early, self._early = self._early, None
        if early is not None:
            early.end()

    def wait(self, timeout: float | None, told: threading.Event | None = None) -> None:
        """See `Server.wait`; `told` is set by a signal, and may have been by one that came before."""
        seconds = None if timeout is None else checked_seconds("timeout", timeout)
        until = None if seconds is None else time.monotonic() + seconds
        told, outcome = told or threading.Event(), _Told()

        def tell() -> bool:
            told.set()
            return True

        try:
            with self._told_by_signals(tell, outcome):
                if not self._ends_before(until, told):
                    raise WaitTimeout(f"the server was not closed within {seconds} s")
                outcome.consumed = True
        except KeyboardInterrupt:  # A handler of the program's own raised it, or Python's where ours could not be.
            if told.is_set():  # A second signal: it does not wait for the drain.
                self.left = True
                raise
        try:
            if told.is_set() and self._leaves():
                self._engine.wait_stopped(self._lame_duck)
            self.close(None)
        except KeyboardInterrupt:  # Perhaps before closing began.
            self.left = True
            raise

    def _ends_before(self, until: float | None, told: threading.Event) -> bool:
        """Whether a signal came, or the engine stopped, before that time of `time.monotonic`."""
        while until is None or time.monotonic() < until:
            left = _SIGNAL_CHECK if until is None else min(_SIGNAL_CHECK, max(0.0, until - time.monotonic()))
            if self._engine.wait_stopped(left) or told.is_set():
                return True
        # Once more: a signal may have come in the last moment, and then this is no timeout.
        return self._engine.wait_stopped(0.0) or told.is_set()

    async def wait_async(self) -> None:
        """See `Server.wait_async`."""
        loop = current()
        over = loop.signal()
        told, outcome = threading.Event(), _Told()

        def wake() -> bool:
            try:
                loop.settle_soon(over)
            except RuntimeError:  # The loop was closed: nobody waits.
                return False
            return True

        def tell() -> bool:
            told.set()
            return wake()

        try:
            with self._told_by_signals(tell, outcome), self._logs.tells_of_the_end(wake):
                if not self._engine.wait_stopped(0.0):
                    await loop.wait(over, None)
                outcome.consumed = True
            if told.is_set() and self._leaves():
                over = loop.signal()  # What settled the other one was the signal.
                with self._logs.tells_of_the_end(wake):
                    if not self._engine.wait_stopped(0.0):
                        await loop.wait(over, self._lame_duck)
            await self.aclose(None)
        except BaseException:
            if told.is_set():  # As above.
                self.left = True
            raise

    def _leaves(self) -> bool:
        """A signal came: whether the port stays open for a while, and the server says that it is to be sent no more."""
        if self._lame_duck == 0.0 or self._engine.closed:
            return False
        self._engine.leave()
        return True

    def close(self, drain: float | None) -> None:
        """See `Server.close`."""
        seconds = self._drain if drain is None else checked_seconds("drain", drain)
        if serves(self._engine):
            self._close_elsewhere(seconds, lambda _failed: None)
        else:
            self._close(seconds)

    async def aclose(self, drain: float | None) -> None:
        """See `Server.aclose`."""
        seconds = self._drain if drain is None else checked_seconds("drain", drain)
        if serves(self._engine):
            self._close_elsewhere(seconds, lambda _failed: None)
            return
        loop = current()
        done = loop.signal()
        failed: list[BaseException] = []

        def tell(error: BaseException | None) -> None:
            if error is not None:
                failed.append(error)
            with contextlib.suppress(RuntimeError):  # As above.
                loop.settle_soon(done)

        self._close_elsewhere(seconds, tell)
        try:
            await loop.wait(done, None)
        except BaseException:
            self.left = True
            _exit.closed(self)
            raise
        if failed:
            raise failed[0]

    def _close(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        try:
            self._engine.close(seconds)
        except BaseException:
            self.left = True
            raise
        finally:
            if self._engine.closed:  # Not where the stack was too full to begin with it.
                _exit.closed(self)
        # The terminal events of runs were published: who is told of them hears so before the process may end.
        for part in self._parts:
            part.finish(until)
        self._logs.finish()

    def _close_elsewhere(self, seconds: float, tell: Callable[[BaseException | None], None]) -> None:
        """Closes in a thread of its own, and tells of the end and what was raised."""

        def close() -> None:
            failed: BaseException | None = None
            try:
                self._close(seconds)
            except BaseException as error:  # It is the caller's.
                failed = error
            tell(failed)

        # Not a thread of an event loop's own: those are waited for at its end, and are few.
        _threads.start(close, "sse_fast close")

    @contextlib.contextmanager
    def _told_by_signals(self, tell: Callable[[], bool], outcome: _Told) -> Iterator[None]:
        """Inside the block SIGINT and SIGTERM call `tell`, where the main thread can be had."""
        waiting = Waiting(tell)
        elsewhere = threading.current_thread() is not threading.main_thread()
        loop = self._loop() if elsewhere and self._loop is not None else None
        early = self._early

        def begin() -> None:
            waiting.begin()
            if early is not None:
                early.tell(tell)

        if early is not None:
            early.awaited(by=1)
        with contextlib.suppress(RuntimeError):  # A loop that was closed takes no signals.
            begin() if loop is None else loop.call_soon_threadsafe(begin)
        try:
            yield
        finally:
            if early is not None:
                early.awaited(by=-1)
                if outcome.consumed:
                    early.consume()
            waiting.end(consumed=outcome.consumed)
            with contextlib.suppress(RuntimeError):
                if loop is not None:
                    loop.call_soon_threadsafe(functools.partial(waiting.end, consumed=outcome.consumed))


class _Told:
    """Whether what ended the waiting, perhaps a signal, was acted upon."""

    consumed = False


def _loop_of_the_main_thread() -> weakref.ref[asyncio.AbstractEventLoop] | None:
    """The event loop that runs in this thread, if this is the main one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or threading.current_thread() is not threading.main_thread():
        return None
    loop = asyncio._get_running_loop()  # noqa: SLF001 - unlike get_running_loop it does not raise; documented in asyncio
    return None if loop is None else weakref.ref(loop)
