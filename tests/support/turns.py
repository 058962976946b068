"""Waiting for another task of an event loop by turns of that loop: a sleep of no time, and by no clock."""

from __future__ import annotations

import asyncio

#: So many after its start, or after an event was published, a task that reads a stream waits for the next one: the
#: loop looks at its descriptors, the future is settled, the task runs.
TO_WAIT = 3


async def turns(count: int = TO_WAIT) -> None:
    """Lets every other task run so many times."""
    for _ in range(count):
        await asyncio.sleep(0)
