"""Rows about subscribers that come and stay silent: CPU to accept one, 15,000 at once, heartbeats.

Owns: the loads, and which peers stand beside them. Must not know: how a peer is started (`peers`).
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

from . import peers
from .bars_figure import Bar, Figure, beside, median, times, worst
from .bars_stage import Ours, Stage, Tree, load
from .compare import pace, settle

if TYPE_CHECKING:
    from .bars_stage import Row

_SILENT = 15000
_HEARTBEAT = 15.0  # Seconds: the default of every server here.
_CONNECTED_AT = (
    4000.0  # Per second, so that heartbeats by the time of connecting would come in four seconds of fifteen.
)


class Nchan2(peers.Nchan):
    """nginx with nchan, two workers wherever it runs, as the bar says."""

    name = "nchan (2 workers)"
    workers = 2


def _accept(stage: Stage) -> list[Figure]:
    pairs = stage.pairs(load("churn"), *([] if peers.Nchan1.hint() else [peers.Nchan1]))
    cpu = beside(pairs, "accept_us")
    return [
        median("CPU per subscriber", times(pairs, "accept_us"), "times floor", at_most=1.5, beside=cpu),
        _beside_nchan("CPU per subscriber", pairs, "accept_us", peers.Nchan1, 0.9),
        _refused(pairs),
    ]


def _at_once(stage: Stage) -> list[Figure]:
    wanted = load("churn", name="storm", subscribers=_SILENT, ramp=1e6)
    pairs = stage.pairs(wanted, *([] if Nchan2.hint() else [Nchan2]))
    took = [pair["sse_fast"]["connected_s"] for pair in pairs]
    return [
        _beside_nchan("all subscribed after", pairs, "connected_s", Nchan2, 1.0),
        median("all subscribed after", took, "s", beside=beside(pairs, "connected_s")),
        _refused(pairs),
    ]


def _beside_nchan(what: str, pairs: list, figure: str, kind: type[peers.Peer], at_most: float) -> Figure:
    unit = f"times {kind.name}"
    if hint := kind.hint():
        return Figure(what, None, unit, missing=f"nchan is not installed: {hint}")
    return median(what, times(pairs, figure, over=kind.name), unit, at_most=at_most, beside=beside(pairs, figure))


def _refused(pairs: list) -> Figure:
    return worst("refused", (pair["sse_fast"]["refused"] for pair in pairs), "subscribers", at_most=0)


def _idle(stage: Stage) -> list[Figure]:
    pairs = []
    for number in range(stage.runs):
        pairs.append({"floor": _silent(stage, peers.Floor), "sse_fast": _silent(stage, Ours)})
        stage.say(f"  silent, run {number + 1}: {pairs[-1]}")
    ours = [pair["sse_fast"] for pair in pairs]
    cpu = beside(pairs, "heartbeat_us")
    return [
        median("CPU per heartbeat", times(pairs, "heartbeat_us"), "times floor", at_most=1.15, beside=cpu),
        median("heartbeats", (row["due"] for row in ours), "of those due", at_least=0.9),
        worst("busiest second", (row["busiest"] for row in ours), "times its share", at_most=3.0),
        median("CPU per subscriber and second", (row["second_us"] for row in ours), "µs"),
    ]


def _silent(stage: Stage, kind: type[peers.Peer]) -> Row:
    with stage.serving(kind) as server, stage.crowd(server, _SILENT, ramp=_CONNECTED_AT):
        process = Tree(server)
        settle(2)
        sent = server.ask()["stats"]["heartbeats"] if kind is Ours else 0
        cpu, began = process.cpu(), time.monotonic()
        time.sleep(2 * _HEARTBEAT)  # What is measured: two intervals of silence, in which nobody is asked anything.
        spent, took = process.cpu() - cpu, time.monotonic() - began
        due = _SILENT * took / _HEARTBEAT
        # The floor sends its share of every moment, so what is due is what it sent.
        sent = server.ask()["stats"]["heartbeats"] - sent if kind is Ours else due
        row = {"heartbeat_us": spent / sent * 1e6, "due": sent / due, "second_us": spent / took / _SILENT * 1e6}
        # Counted afterwards, because asking every second would cost CPU time too.
        return row | ({"busiest": _busiest_second(server)} if kind is Ours else {})


def _busiest_second(server: Ours) -> float:
    counts = [server.ask()["stats"]["heartbeats"]]
    began = time.monotonic()
    for second in range(1, int(_HEARTBEAT) + 2):
        pace(began + second)
        counts.append(server.ask()["stats"]["heartbeats"])
    return max(after - before for before, after in pairwise(counts)) / (_SILENT / _HEARTBEAT)


BARS = (
    Bar(
        "accept",
        "CPU per accepted subscriber, 10,000 connecting as fast as they are taken",
        "≤ 0.9 times nchan with one worker, ≤ 1.5 times floor",
        "CPU of the process tree from before the first to when the last has its head",
        _accept,
    ),
    Bar(
        "at-once",
        "15,000 connecting at once",
        "all subscribed no later than with nchan with two workers, none refused",
        "from the first connect to the last head, as the client sees it, at most 3,000 connects in flight",
        _at_once,
    ),
    Bar(
        "heartbeats",
        "idle: 15,000 silent subscribers with 15 s heartbeats",
        "CPU ≤ 1.15 times what the floor's send() of the same heartbeats costs; no second carries over 3 times its "
        "share",
        "CPU of 30 s divided by the heartbeats sent in them; afterwards the server's count, second by second for 16 s, "
        "with subscribers that came within 4 s",
        _idle,
    ),
)
