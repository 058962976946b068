"""Prefill: a language model's server whose first token comes after minutes inside one call.

The hard part is not the model. It is that the client hears of it by the clock while nothing in Python can run, so that
it is still there when the first token comes.

`app` has the routes, `model` the simulated model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_fast.demos._site import Demo, Place

from .app import install
from .model import Pace

if TYPE_CHECKING:
    import sse_fast


def _install(server: sse_fast.Server, place: Place) -> None:
    install(server, may_hold=place.local)


DEMO = Demo(
    path="/prefill",
    name="Prefill",
    title="Prefill",
    summary=(
        "A language model reads a long prompt inside one call that lets no Python run. Heartbeats by the clock keep "
        "the client there until the first token; a client that hangs up stops the work."
    ),
    failed="One chunk took 962 s. The keepalive waited for a callback, and the first token met a dead socket.",
    package=__name__,
    install=_install,
)

__all__ = ["DEMO", "Pace", "install"]
