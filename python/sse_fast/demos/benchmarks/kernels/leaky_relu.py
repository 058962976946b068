"""Leaky ReLU: x where x > 0, a hundredth of x elsewhere."""

from functools import cache


@cache
def vector(n: int) -> list[float]:
    """Made once, outside of what is timed."""
    return [float(i % 11 - 5) for i in range(n)]


def kernel(n: int) -> list[float]:
    """Element by element."""
    return [x if x > 0 else 0.01 * x for x in vector(n)]


def flops(n: int) -> int:
    """A comparison or a multiplication for each element, counted as one."""
    return n
