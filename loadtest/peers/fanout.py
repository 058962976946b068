"""What every Python peer needs and none of them brings: one publisher, many subscribers, a bounded queue for each.

Owns: the fan-out that an application on these libraries writes itself. Must not know: any library.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Events a subscriber may lag; the same as the longest burst of any comparison, so that no peer must skip.
MOST_WAITING = 1000

_waiting: set[asyncio.Queue[str]] = set()


def publish(data: str) -> None:
    """Hands the data to every subscriber; one that lags too far loses it."""
    for queue in list(_waiting):
        with contextlib.suppress(asyncio.QueueFull):
            queue.put_nowait(data)


async def events() -> AsyncIterator[str]:
    """Everything published from now on."""
    queue: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
    _waiting.add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        _waiting.discard(queue)
