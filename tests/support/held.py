"""A handler that stays in its call until it is let go, so that a test decides what happens before it answers."""

from __future__ import annotations

import threading

import sse_fast

from .deadline import DEADLINE


class Held:
    """Answers "done" to each request once `go` is set, at the latest at the end of the block.

    `begun` is set once it was called; `asked` are the requests that it was called with, in that order.
    """

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.asked: list[sse_fast.Request] = []

    def __call__(self, req: sse_fast.Request) -> str:
        self.asked.append(req)
        self.begun.set()
        self.go.wait(2 * DEADLINE)  # Longer than a test waits for anything, so that it fails for the right reason.
        return "done"

    def __enter__(self) -> Held:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        self.go.set()
