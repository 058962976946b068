"""Who reads: the callbacks of a server, and waiting until nobody reads a stream any more.

Owns: the callbacks by their keys, and the one thread that calls them, which starts with the first. Must not know: when
a stream is empty, who is here; the engine says so, in order (`presence.rs`).
Invariants: a callback's exception is logged and stops nothing; what the engine forgets is forgotten here. Nothing here
holds the engine, so that a closed server leaves nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import time
from typing import TYPE_CHECKING, Any, TypeVar

from . import _records, _threads
from ._exceptions import ServerClosed, WaitTimeout
from ._loops import current
from ._settings import checked_seconds, wrong_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import Presence, Stream

    Function = TypeVar("Function", bound=Callable[..., object])

_LOG = _records.logger("sse_fast.presence")

_AFTER = 10.0  # Seconds: a browser's EventSource comes back after three, and its network after a little more.
_AFTER_NAMELESS = 1.0  # Nobody can come back to a stream without a name; a moment for one that is just handed on.


class PresenceCallbacks:
    """The callbacks of one server."""

    def __init__(self, presence: Presence) -> None:
        """Takes the engine's queue."""
        self._presence = presence
        self._keys = itertools.count(1)
        self._on_empty: dict[int, Callable[[], object]] = {}
        self._on_join: list[Callable[[Stream, str | None], object]] = []
        self._on_leave: list[Callable[[Stream, str | None], object]] = []
        self._thread: _threads.Started | None = None
        self._starting = _threads.lock()  # Protects `_thread` and `_closed`; nothing is called under it.
        self._closed = False

    def on_join(self, callback: Function) -> Function:
        """See `Server.on_join`."""
        self._add(self._on_join, callback)
        return callback

    def on_leave(self, callback: Function) -> Function:
        """See `Server.on_leave`."""
        self._add(self._on_leave, callback)
        return callback

    def on_empty(self, stream: Stream, callback: Callable[[], object], after: float | None) -> Callable[[], object]:
        """See `Stream.on_empty`, which calls this."""
        _check_callback(callback)
        seconds = _after(stream, after)
        self._start()
        key = next(self._keys)
        self._on_empty[key] = callback
        try:
            stream._on_empty(key, seconds)  # noqa: SLF001 - part of this package
        except BaseException:
            self._on_empty.pop(key, None)
            raise
        return callback

    def finish(self, until: float) -> None:
        """Waits until the last callbacks have returned, at most until then; called once the engine has stopped."""
        with self._starting:
            self._closed = True
            thread = self._thread
        # A callback may close the server, and is then on this thread.
        if thread is not None and not thread.is_current():
            thread.join(max(until - time.monotonic(), 0.0))

    def _add(self, callbacks: list[Callable[[Stream, str | None], object]], callback: Function) -> None:
        _check_callback(callback)
        self._start()
        callbacks.append(callback)
        self._presence.want()

    def _start(self) -> None:
        with self._starting:
            if self._closed:
                raise ServerClosed("the server is closed: nobody comes or goes any more")
            if self._thread is None:
                self._thread = _threads.start(self._run, "sse_fast presence")

    def _run(self) -> None:
        """The thread: takes what happened, and calls."""
        while (rows := self._presence.take(self)) is not None:
            for kind, what, reader in rows:
                self._call(kind, what, reader)
        # A callback may hold a stream, and that holds this.
        self._on_empty.clear()
        self._on_join.clear()
        self._on_leave.clear()

    def _call(self, kind: str, what: Any, reader: str | None) -> None:  # noqa: ANN401 - a stream or a key
        if kind in {"join", "leave"}:
            for callback in list(self._on_join if kind == "join" else self._on_leave):
                _call(callback, what, reader)
            return
        told = self._on_empty.get(what) if kind == "empty" else self._on_empty.pop(what, None)
        if told is not None and kind != "forgotten":
            _call(told)


def wait_empty(stream: Stream, timeout: float | None, after: float | None) -> None:
    """See `Stream.wait_empty`, which calls this."""
    limit = None if timeout is None else checked_seconds("timeout", timeout)
    outcome = stream._wait_empty(_after(stream, after), limit)  # noqa: SLF001 - part of this package
    if outcome != "empty":
        raise _closed(stream) if outcome == "closed" else _not_empty(stream, limit)


async def await_empty(stream: Stream, timeout: float | None, after: float | None) -> None:
    """See `Stream.await_empty`, which calls this."""
    limit = None if timeout is None else checked_seconds("timeout", timeout)
    deadline = None if limit is None else time.monotonic() + limit
    seconds = _after(stream, after)
    loop = current()
    while True:
        with loop.emptiness(stream) as signal:
            wait = stream._empty_in(seconds)  # noqa: SLF001 - part of this package
            if wait == 0.0:
                return
            if stream._closed:  # noqa: SLF001 - as above
                raise _closed(stream)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0.0:
                raise _not_empty(stream, limit)
            waits = [seconds for seconds in (wait, left) if seconds is not None]
            await loop.wait(signal, min(waits) if waits else None)


def _call(callback: Callable[..., object], *arguments: object) -> None:
    try:
        callback(*arguments)
    except BaseException:  # SystemExit too: here it could end only this thread of the server.
        with contextlib.suppress(BaseException):  # A logging handler of the application may raise.
            _LOG.exception("the callback %r failed", callback)


def _check_callback(callback: object) -> None:
    if not callable(callback):
        raise wrong_type("callback", callback, "a callable")
    if inspect.iscoroutinefunction(callback):
        allowed = "a plain function, which a thread calls; a coroutine waits by `await stream.await_empty()` itself"
        raise wrong_type("callback", callback, allowed)


def _after(stream: Stream, after: float | None) -> float:
    if after is None:
        return _AFTER if stream.name else _AFTER_NAMELESS
    return checked_seconds("after", after)


def _shown(stream: Stream) -> str:
    return f"stream {stream.name!r}" if stream.name else "a nameless stream"


def _closed(stream: Stream) -> ServerClosed:
    return ServerClosed(f"the server of {_shown(stream)} is closed")


def _not_empty(stream: Stream, timeout: float | None) -> WaitTimeout:
    return WaitTimeout(f"{_shown(stream)} was not empty within {timeout} s")
