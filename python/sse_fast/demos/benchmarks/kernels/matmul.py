"""Product of two n by n matrices."""

from functools import cache
from operator import mul


@cache
def matrix(n: int, seed: int) -> list[list[float]]:
    """Made once, outside of what is timed."""
    return [[(seed * i + j) % 7 / 7 for j in range(n)] for i in range(n)]


def kernel(n: int) -> list[list[float]]:
    """Rows times columns."""
    columns = list(zip(*matrix(n, 5), strict=True))
    return [[sum(map(mul, row, column)) for column in columns] for row in matrix(n, 3)]


def flops(n: int) -> int:
    """A multiplication and an addition for each of n³ pairs."""
    return 2 * n**3
