"""SAXPY: a x + y, element by element."""

from functools import cache


@cache
def vector(n: int, seed: int) -> list[float]:
    """Made once, outside of what is timed."""
    return [(seed * i) % 13 / 13 for i in range(n)]


def kernel(n: int) -> list[float]:
    """Element by element."""
    a = 2.5
    return [a * x + y for x, y in zip(vector(n, 3), vector(n, 5), strict=True)]


def flops(n: int) -> int:
    """A multiplication and an addition for each element."""
    return 2 * n
