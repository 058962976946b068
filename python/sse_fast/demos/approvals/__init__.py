"""Approvals and clarifications: an agent's questions that wait for a person, one queue of each for every session.

The hard part is not the queue. It is that every page shows the same head at the same time: whatever asks, answers,
connects, lags or comes back in between.

`app` has the queues and routes, `troubles` what the page's visitor may break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_fast.demos._site import Demo, Place

from . import app, troubles

if TYPE_CHECKING:
    from pathlib import Path

    import sse_fast


def install(server: sse_fast.Server, data: Path) -> app.Queues:
    """Adds the application to `server`; its database is kept in the folder `data`."""
    queues = app.install(server, data / "questions.sqlite")
    troubles.install(server, queues)
    return queues


def _install(server: sse_fast.Server, place: Place) -> None:
    install(server, place.data)


DEMO = Demo(
    path="/approvals",
    name="Approvals",
    title="Approvals and clarifications",
    summary=(
        "An agent's questions wait for a person. Every page shows the head of the queue and the count: through bursts, "
        "slow readers, switched sessions and lost connections."
    ),
    failed="A handler took its own lock twice and hung every page; a timer reconnected healthy pages each minute.",
    package=__name__,
    install=_install,
)

__all__ = ["DEMO", "install"]
