"""The wake-ups of trio's runs.

Owns: the system task that waits on the descriptor, as trio lets only one task wait on each. Must not know: streams.
Invariants: the task ends with the run; trio's own rules hold for what waits here: it can be cancelled, and a deadline
around it passes.
"""

from __future__ import annotations

import contextlib
import math

import trio

from ._wakeups import LoopWakeups


class TrioWakeups(LoopWakeups):
    """The wake-ups of the present run."""

    def __init__(self) -> None:
        """The system task keeps them, and ends with the run."""
        super().__init__()
        self._token = trio.lowlevel.current_trio_token()
        trio.lowlevel.spawn_system_task(self._wait, name="sse_fast wake-ups")

    def signal(self) -> trio.Event:
        """An event."""
        return trio.Event()

    def settle(self, signal: trio.Event) -> None:
        """Sets it."""
        signal.set()

    def settle_soon(self, signal: trio.Event) -> None:
        """The same from any thread."""
        self._token.run_sync_soon(signal.set)

    async def wait(self, signal: trio.Event, timeout: float | None) -> None:  # noqa: ASYNC109 - see the base
        """Waits for it."""
        with trio.move_on_after(math.inf if timeout is None else timeout):
            await signal.wait()

    def task(self) -> object:
        """The running task."""
        return trio.lowlevel.current_task()

    async def let_others(self) -> None:
        """A checkpoint."""
        await trio.lowlevel.checkpoint()

    async def _wait(self) -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                await trio.lowlevel.wait_readable(self.engine.fileno())
                self.take()
