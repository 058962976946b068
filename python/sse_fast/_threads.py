"""Threads that wait inside the engine, also in programs of gevent and eventlet, which make threads greenlets.

Owns: starting them, and locks between them. Must not know: what they do.
With gevent such a thread is a real one, of the operating system: a greenlet that waited inside the engine would stop
its hub, and with it the program, and gevent's locks work between threads. Eventlet's do not (a thread that waits for
one that a greenlet holds, such as `logging`'s, would wait for good): there it is a greenlet, which looks into the
engine now and then (`hub.rs`). Invariants: it delays nothing at exit; joining one leaves the hub to others.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_real: set[int] = set()  # The real threads that were started here and run, in a program of gevent.
_LEAVING = 0.1  # Seconds for all threads that leave: they need microseconds, and more only where cores are scarce.
_JOIN_CHECK = 0.005  # How late, in seconds, a greenlet sees the end of a real thread: it can only look now and then.


class Started(Protocol):
    """A thread that was started."""

    def join(self, timeout: float) -> None:
        """Waits at most `timeout` seconds until it has ended."""

    def is_current(self) -> bool:
        """Whether the caller is this thread."""


class _Thread(threading.Thread):
    """A thread of Python's own, or what stands in for it."""

    def is_current(self) -> bool:
        """Whether the caller is this thread."""
        return threading.current_thread() is self


class _RealThread:
    """A thread of the operating system where `threading` makes greenlets."""

    def __init__(self, target: Callable[[], object]) -> None:
        """Starts it."""
        self._target = target
        self._over = False
        self._ident: int | None = None
        _original("start_new_thread")(self._run, ())

    def _run(self) -> None:
        self._ident = _original("get_ident")()
        _real.add(self._ident)
        try:
            self._target()
        except BaseException:
            traceback.print_exc()
        finally:
            _real.discard(self._ident)
            self._over = True

    def join(self, timeout: float) -> None:
        """Waits at most `timeout` seconds until it has ended."""
        deadline = time.monotonic() + timeout
        while not self._over and time.monotonic() < deadline:
            time.sleep(_JOIN_CHECK)  # The hub's, so that other greenlets run.

    def is_current(self) -> bool:
        """Whether the caller is this thread."""
        return bool(_original("get_ident")() == self._ident)


def start(target: Callable[[], object], name: str) -> Started:
    """A daemon thread that runs `target`, which may wait inside the engine."""
    if patched() == "gevent":
        return _RealThread(target)
    thread = _Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def join_those_that_leave(threads: Iterable[Started]) -> None:
    """Waits for threads that have nothing left to do; for others, which may still run a handler, only a moment."""
    until = time.monotonic() + _LEAVING
    for thread in threads:
        if not thread.is_current():
            thread.join(max(0.0, until - time.monotonic()))


def lock() -> Any:  # noqa: ANN401 - the type has no public name
    """A lock between such threads and the program's; held for a moment only."""
    return _original("allocate_lock")() if patched() == "gevent" else threading.Lock()


def patched() -> str | None:
    """Who has made `threading`'s threads greenlets: gevent, eventlet or nobody. Imports neither."""
    if (gevent := sys.modules.get("gevent.monkey")) is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if (eventlet := sys.modules.get("eventlet.patcher")) is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None


def hub_sleep() -> Callable[[float], object] | None:
    """The sleep that leaves the calling thread's hub to others; None in a thread that has no hub."""
    if (gevent := sys.modules.get("gevent")) is not None:
        local = sys.modules.get("gevent._hub_local")
        has_hub = local is not None and local.get_hub_if_exists() is not None
        # What a program of greenlets runs outside of one will be one of a hub when it first waits.
        if has_hub or (patched() == "gevent" and _original("get_ident")() not in _real):
            return gevent.sleep  # type: ignore[no-any-return]
    if (eventlet := sys.modules.get("eventlet")) is not None:
        hubs = sys.modules.get("eventlet.hubs")
        if patched() == "eventlet" or getattr(getattr(hubs, "_threadlocal", None), "hub", None) is not None:
            return eventlet.sleep  # type: ignore[no-any-return]
    return None


def may_have_hubs() -> bool:
    """Whether the program uses gevent or eventlet by now."""
    return "gevent" in sys.modules or "eventlet" in sys.modules


def _original(name: str) -> Any:  # noqa: ANN401 - any of its names
    """What gevent has put something else in the place of, in Python's `_thread`."""
    return sys.modules["gevent.monkey"].get_original("_thread", name)
