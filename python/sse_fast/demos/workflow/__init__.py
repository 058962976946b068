"""Workflow timeline: pages ask for a stream before the worker has written the row that makes it known.

`app` has all of it in one file, made to be copied; `slow_reader` is the part of the page's panel that breaks things.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sse_fast.demos._site import Demo, Place

from . import slow_reader
from .app import Workflow

if TYPE_CHECKING:
    import sse_fast


def _install(server: sse_fast.Server, place: Place) -> None:
    """The workflow, at the pace of ``SSE_FAST_DEMO_PACE``; what breaks it is only for this computer."""
    given = os.environ.get("SSE_FAST_DEMO_PACE", "1")
    if not re.fullmatch(r"\d+(\.\d+)?", given):
        raise ValueError(f"SSE_FAST_DEMO_PACE={given!r} is not allowed: a number, from 0 up")
    Workflow(server, place.data / "workflow.sqlite", pace=float(given))
    if place.local:
        slow_reader.install(server)


DEMO = Demo(
    path="/workflow",
    name="Workflow",
    title="Workflow timeline",
    summary=(
        "A question is enqueued and a graph answers it, node by node. The page asks for the stream before its row "
        "exists, and sees the plan first however late it comes."
    ),
    failed="The page was earlier than the row: one 404, the browser never came back, heartbeats went to nobody.",
    package=__name__,
    install=_install,
)

__all__ = ["DEMO", "Workflow"]
