"""What a thread of this process does at the moment, as the operating system says it (Linux).

A test that is about a thread that waits must know that it does: to start it, or to let time pass, is not enough on a
machine that has something else to do.
"""

from __future__ import annotations

import threading
from pathlib import Path

from .beats import Beats


def slept(thread: threading.Thread, beats: Beats) -> bool:
    """Whether it slept through an interval of the heartbeats, or has ended.

    One that only has not been given the processor yet is ready to run, and does not sleep.
    """
    try:
        before = _rest(thread)
        beats.wait(2)
        return "S (sleeping)" in before[0] and _rest(thread) == before
    except (FileNotFoundError, ProcessLookupError):  # Its directory goes first; what is open already cannot be read.
        return True


def _rest(thread: threading.Thread) -> list[str]:
    """Its state, and how often it was put to sleep or interrupted."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
    return [line for line in status if line.startswith("State:") or "ctxt_switches" in line]
