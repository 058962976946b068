"""Exits with code 0 and without a result, as a runner does whose output got lost."""

import sys


def kernel(n: int) -> None:
    """Ends the process."""
    print("exiting without a result, size", n)
    sys.exit(0)
