"""Rows about waiting: a newcomer's head while events are fanned out, and a lone event on an idle server.

Owns: these two loads and their bounds. Must not know: how a head is timed (`bars_probe`), how an event is (`neutral`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import peers
from .bars_figure import Bar, Figure, beside, median, times
from .bars_stage import Ours, Stage, load
from .compare import pace
from .processes import Child

if TYPE_CHECKING:
    from .bars_stage import Row

_FANNED_OUT_TO = 8000
_EVENTS, _RATE = 45, 5.0
_PAUSE = 0.013  # Seconds between newcomers: no divisor of the time between events, so that they meet it at all phases.


def _head(stage: Stage) -> list[Figure]:
    pairs = []
    for number in range(stage.runs):
        pairs.append({kind.name: _heads(stage, kind) for kind in (peers.Floor, Ours)})
        stage.say(f"  heads, run {number + 1}: {pairs[-1]}")
    ours = {what: [pair["sse_fast"][what] for pair in pairs] for what in ("p50_ms", "p90_ms", "p99_ms")}
    return [
        median("head, p90", ours["p90_ms"], "ms", at_most=5.0, beside=beside(pairs, "p90_ms")),
        median("head, p50", ours["p50_ms"], "ms", beside=beside(pairs, "p50_ms")),
        median("head, p99", ours["p99_ms"], "ms", beside=beside(pairs, "p99_ms")),
    ]


def _heads(stage: Stage, kind: type[peers.Peer]) -> Row:
    with stage.serving(kind) as server, stage.crowd(server, _FANNED_OUT_TO) as crowd:
        # It starts after the first event, which may be slow, and ends before the last.
        seconds = (_EVENTS - 5) / _RATE
        job = {"port": server.port, "path": server.path, "seconds": seconds, "pause": _PAUSE}
        probe, began = None, time.monotonic()
        try:
            for number in range(_EVENTS):
                pace(began + number / _RATE)
                server.publish(number + 1, 1, 0.0)
                probe = probe or Child.module("bars_probe", job)
            heads = probe.answer()
        finally:
            if probe:
                probe.end()
        crowd.seen()
        return heads


def _lone(stage: Stage) -> list[Figure]:
    pairs = stage.pairs(load("paced", name="lone", subscribers=1, events=300, rate=50.0))
    ours, floor = ([pair[name]["p50_ms"] * 1e3 for pair in pairs] for name in ("sse_fast", "floor"))
    return [
        median("p50", times(pairs, "p50_ms"), "times floor", at_most=2.0, beside=beside(pairs, "p50_ms")),
        median("p50", ours, "µs"),
        median("floor's p50", floor, "µs"),
    ]


BARS = (
    Bar(
        "head",
        "head of a new connection while 8,000 are being fanned out to at 5 events/s",
        "p90 ≤ 5 ms",
        "from connect to the first bytes, by a process of its own that opens a connection every 13 ms for 8 s",
        _head,
    ),
    Bar(
        "lone",
        "a lone event to one subscriber, publish to receipt",
        "p50 ≤ 2 times the floor's",
        "300 events, 50/s, published in the server's own process, stamped right before; received by epoll",
        _lone,
    ),
)
