"""Prefill: a language model's server whose first token comes after minutes inside one call.

The hard part is not the model. It is that the client hears of it by the clock while nothing in Python can run, so that
it is still there when the first token comes.

`app` has the routes, `model` the simulated model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_fast.demos._site import Demo, install_files, page_of

from . import app
from .model import Pace

if TYPE_CHECKING:
    import sse_fast

DEMO = Demo(
    path="/prefill",
    title="Prefill",
    summary=(
        "A model reads a long prompt inside one call that holds the interpreter. Heartbeats by the clock keep the "
        "client there until the first token."
    ),
)
_FILES = ("page.css", "page.js", "completion.js")

__all__ = ["DEMO", "Pace", "install"]


def install(server: sse_fast.Server, pace: Pace | None = None, *, may_hold: bool = True) -> None:
    """Adds the application and its page to `server`; see `app.install`."""
    app.install(server, pace, may_hold=may_hold)
    server.get("/prefill")(page_of(__package__, "page.html"))
    install_files(server, "/prefill", __package__, _FILES)
