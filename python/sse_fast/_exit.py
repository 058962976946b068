"""The open servers of this process, and what becomes of them when the interpreter ends or the process forks.

Owns: the one set of open servers, which keeps those alive that nothing else refers to; the hook at the interpreter's
exit and the one in a forked child.
Must not know: how a server closes; what a descriptor is (`_fork`).
Invariants: the hooks are registered when the package is imported, so that at the exit those which a program registers
later run before, with its servers open. Every server is closed, and every thread that was in the engine is back in
Python or parked for good, before the interpreter is torn down. A forked child knows no server of its parent's.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from ._core import interpreter_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._fork import Held

_MOST_DRAIN = 1.0  # The most seconds for subscribers at interpreter exit; a script that has finished should not hang.


class _Closable(Protocol):
    def close(self, drain: float) -> None: ...


_open: dict[_Closable, tuple[float, list[Held]]] = {}


def opened(server: _Closable, drain: float, held: Sequence[tuple[str, int, Sequence[int], str | None]]) -> None:
    """The server listens; `held` is what a forked child has to let go of, each as `Held` has it."""
    # Not with the package, whose import it would lengthen by a tenth; nor in the child, which should import nothing.
    from ._fork import Held  # noqa: PLC0415

    _open[server] = min(drain, _MOST_DRAIN), [Held(*each) for each in held]


def closed(server: _Closable) -> None:
    """The server holds nothing any more. Without effect in a forked child, and for one that was closed before."""
    _open.pop(server, None)


@atexit.register
def _close_all() -> None:
    try:
        with contextlib.ExitStack() as stack:  # Where a signal handler raises the others are closed all the same.
            for server, (drain, _) in list(_open.items()):
                stack.callback(server.close, drain=drain)
    finally:
        interpreter_ends()


def _in_child() -> None:
    inherited = [each for _, held in _open.values() for each in held]
    _open.clear()
    if inherited:
        from ._fork import let_go  # noqa: PLC0415 - imported with the first server

        let_go(inherited)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
