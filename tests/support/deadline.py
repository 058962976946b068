"""Waiting for a condition with a deadline.

A deadline here is a guard against hanging, never a statement about speed: it is
generous, and a condition that holds is noticed within milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds. Long enough for a loaded machine with two cores.
DEADLINE = 20.0


def until(condition: Callable[[], T], deadline: float = DEADLINE, *, what: str = "") -> T:
    """Return the first true value of `condition()`; fail after `deadline` seconds."""
    end = time.monotonic() + deadline
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what or condition} did not hold within {deadline} s; last value {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


async def until_async(condition: Callable[[], T], deadline: float = DEADLINE, *, what: str = "") -> T:
    """The same in a program of asyncio, whose loop goes on while it waits."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"{what or condition} did not hold within {deadline} s; last value {value!r}"
        await asyncio.sleep(0.001)
    return value
