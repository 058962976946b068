"""The wake-ups of asyncio's event loops, and of those that stand in for them, such as uvloop's.

Owns: futures. Must not know: streams. The loop must be able to watch descriptors (`add_reader`), as asyncio's selector
loop and uvloop do. Invariant: a future is settled once.
"""

from __future__ import annotations

import asyncio

from ._wakeups import LoopWakeups


class AsyncioWakeups(LoopWakeups):
    """The wake-ups of the running loop."""

    def __init__(self) -> None:
        """The loop keeps them, and lets go of them when it is closed."""
        super().__init__()
        asyncio.get_running_loop().add_reader(self.engine.fileno(), self.take)

    def signal(self) -> asyncio.Future[None]:
        """A future."""
        return asyncio.get_running_loop().create_future()

    def settle(self, signal: asyncio.Future[None]) -> None:
        """Gives it a result, once."""
        if not signal.done():
            signal.set_result(None)

    def settle_soon(self, signal: asyncio.Future[None]) -> None:
        """The same from any thread."""
        signal.get_loop().call_soon_threadsafe(self.settle, signal)

    def discard(self, signal: asyncio.Future[None]) -> None:
        """Cancels it: whatever comes for it later finds it done."""
        signal.cancel()

    async def wait(self, signal: asyncio.Future[None], timeout: float | None) -> None:
        """Waits for it; the future outlives a cancellation, for others may know it."""
        await asyncio.wait([signal], timeout=timeout)

    def task(self) -> object:
        """The running task."""
        return asyncio.current_task()

    async def let_others(self) -> None:
        """A turn of the loop."""
        await asyncio.sleep(0)
