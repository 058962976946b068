"""Approvals and clarifications: an agent's questions that wait for a person, one queue of each for every session.

The hard part is not the queue. It is that every page shows the same head at the same time: whoever asks, answers,
connects, lags or comes back in between.

`app` has the queues and routes, `troubles` what the page's visitor may break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_fast.demos._site import Demo, install_files, page_of

from . import app, troubles

if TYPE_CHECKING:
    from pathlib import Path

    import sse_fast

DEMO = Demo(
    path="/approvals",
    title="Approvals and clarifications",
    summary=(
        "An agent's questions wait for a person. Every page shows the head of the queue and the count, through bursts, "
        "slow readers, switched sessions and lost connections."
    ),
)
_FILES = ("page.css", "page.js", "card.js")

__all__ = ["DEMO", "install"]


def install(server: sse_fast.Server, data: Path) -> None:
    """Adds the application and its page to `server`; its database is kept in the folder `data`."""
    queues = app.install(server, data / "questions.sqlite")
    troubles.install(server, queues)
    server.get("/approvals")(page_of(__package__, "page.html"))
    install_files(server, "/approvals", __package__, _FILES)
