"""Chance, for pauses that a crowd must not make together; what a program draws from `random` stays as it seeded it."""

from __future__ import annotations

import random

_SYSTEM = random.SystemRandom()


def chance() -> float:
    """A number from 0 up to, but not including, 1."""
    return _SYSTEM.random()
