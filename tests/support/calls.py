"""A callback that counts its calls."""

from __future__ import annotations


class Count:
    """Takes whatever it is called with."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_arguments: object) -> None:
        self.calls += 1
