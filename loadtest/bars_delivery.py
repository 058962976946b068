"""Rows about events that go to thousands of subscribers: CPU per delivery, the last one's delay, bursts, overload.

Owns: the loads of these bars and the bounds on them. Must not know: how a load is put on a server (`bars_stage`).
"""

from __future__ import annotations

import socket
import time

from . import peers
from .bars_figure import Bar, Figure, beside, median, times, worst
from .bars_stage import Ours, Stage, load
from .sse import Response

_FIRST_ROW_RUNS = 5  # The row that everything else is judged by: a median of five, as its bar says.
_SETTLED_EVENTS = 40


def _paced(stage: Stage) -> list:
    # `--runs 1` asks for a look, not for a result.
    runs = max(stage.runs, _FIRST_ROW_RUNS) if stage.runs > 1 else 1
    return stage.pairs(load("paced"), runs=runs)


def _per_delivery(stage: Stage) -> list[Figure]:
    pairs = _paced(stage)
    return [
        median("CPU per delivery", times(pairs, "cpu_us"), "times floor", at_most=1.08, beside=beside(pairs, "cpu_us")),
        _lost(pairs),
    ]


def _at_other_sizes(stage: Stage) -> list[Figure]:
    figures = []
    # A thousand subscribers give a fifteenth of the deliveries, so they are given more events.
    for subscribers, events in ((1000, 100), (15000, _SETTLED_EVENTS)):
        pairs = stage.pairs(load("paced", name=f"paced-{subscribers}", subscribers=subscribers, events=events))
        what = f"CPU per delivery, {subscribers:,} subscribers"
        figures.append(median(what, times(pairs, "cpu_us"), "times floor", at_most=1.1, beside=beside(pairs, "cpu_us")))
        figures.append(_lost(pairs))
    return figures


def _tail(stage: Stage) -> list[Figure]:
    pairs, figure = _paced(stage), "tail_p50_ms"
    return [
        median("the last has it, p50", times(pairs, figure), "times floor", at_most=0.9, beside=beside(pairs, figure))
    ]


def _overload(stage: Stage) -> list[Figure]:
    calm = stage.pairs(load("paced", name="calm", subscribers=5000, events=_SETTLED_EVENTS))
    # The floor cannot go that fast, and takes minutes for it.
    wanted = load("paced", name="overload", subscribers=5000, events=2000, rate=200.0)
    hard = [{"sse_fast": stage.delivery(wanted, Ours)} for _ in range(stage.runs)]
    delays = [h["sse_fast"]["p99_ms"] / c["sse_fast"]["p99_ms"] for h, c in zip(hard, calm, strict=True)]
    known = {
        f"{name}, {what}": value
        for what, pairs in (("5/s", calm), ("200/s", hard))
        for name, value in beside(pairs, "p99_ms").items()
    }
    return [_lost(hard), median("p99 delay", delays, "times that at 5/s", at_most=2.0, beside=known)]


def _burst(stage: Stage) -> list[Figure]:
    wanted, rival = load("flatout"), peers.DurableStreams
    hint = rival.hint()
    pairs = stage.pairs(wanted, *([] if hint else [rival]))
    cpu, own = beside(pairs, "cpu_us"), _own_events(stage, wanted.events)
    tail = "the last has it, p50"
    return [
        median("CPU per event and subscriber", times(pairs, "cpu_us"), "times floor", at_most=0.04, beside=cpu),
        _lost(pairs),
        Figure("events merged into another", wanted.events - own, "events", at_most=0),
        Figure(tail, None, "times durable-streams", missing=f"durable-streams is not installed: {hint}")
        if hint
        else median(
            tail,
            times(pairs, "tail_p50_ms", over=rival.name),
            f"times {rival.name}",
            at_most=1.0,
            beside=beside(pairs, "tail_p50_ms"),
        ),
    ]


def _own_events(stage: Stage, count: int) -> int:
    """How many events a parser that follows the standard sees of a burst."""
    with stage.serving(Ours) as server, socket.create_connection(("127.0.0.1", server.port), 5.0) as connection:
        request = f"GET {server.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        connection.sendall(request.encode())
        response, seen, end = Response(), 0, time.monotonic() + 5.0
        while not response.status:
            response.feed(connection.recv(1 << 16))
        server.publish(1, count, 0.0)
        while seen < count and time.monotonic() < end:
            seen += sum(event.data.count('"seq":') == 1 for event in response.feed(connection.recv(1 << 16)))
    return seen


def _slow(stage: Stage) -> list[Figure]:
    pairs = stage.pairs(load("slow"))
    delay, grew = ([pair["sse_fast"][name] for pair in pairs] for name in ("p50_ms", "grew_mib"))
    return [
        median("CPU per delivery", times(pairs, "cpu_us"), "times floor", at_most=0.3, beside=beside(pairs, "cpu_us")),
        _lost(pairs),
        median("p50 delay", delay, "ms", at_most=100.0, beside=beside(pairs, "p50_ms")),
        median("memory grows by", grew, "MiB", at_most=32.0),
    ]


def _big(stage: Stage) -> list[Figure]:
    pairs = stage.pairs(load("big"))
    cpu = median("CPU per delivery", times(pairs, "cpu_us"), "times floor", at_most=1.1, beside=beside(pairs, "cpu_us"))
    return [cpu, _lost(pairs)]


def _lost(pairs: list) -> Figure:
    return worst("lost, or announced as a gap", (pair["sse_fast"]["lost"] for pair in pairs), "events", at_most=0)


_CPU = "CPU of the server's process tree while events are delivered, divided by deliveries, over the floor's"

BARS = (
    Bar("delivery", "10,000 subscribers, 100 B, 5 events/s", "≤ 1.08 times floor, median of five", _CPU, _per_delivery),
    Bar(
        "sizes",
        "the same at 1,000 and 15,000 subscribers",
        "≤ 1.10 times the floor at that size",
        _CPU,
        _at_other_sizes,
    ),
    Bar(
        "tail",
        "time until the last of 10,000 has the event",
        "p50 ≤ 0.90 times floor",
        "from publish to the last subscriber's read, in the runs of `delivery`",
        _tail,
    ),
    Bar(
        "overload",
        "200 events/s to 5,000 subscribers",
        "nothing lost, p99 delay ≤ 2 times that at 5/s",
        "2,000 events; the delay of every delivery, client and server sharing the cores",
        _overload,
    ),
    Bar(
        "burst",
        "200 events of 100 B back to back to 5,000 subscribers, published in-process from Python",
        "CPU ≤ 0.04 times floor, nothing lost, each its own event, tail p50 ≤ durable-streams'",
        "CPU from before the first publish until nothing comes any more; one more subscriber parses by the standard",
        _burst,
    ),
    Bar(
        "slow",
        "500 events of 1 KB flat out, 5,000 subscribers and 100 that never read",
        "≤ 0.30 times floor, nothing lost to who reads, p50 ≤ 100 ms, memory grows by ≤ 32 MB",
        "the floor has no readers that stall; memory is the peak of Pss over that before the first event",
        _slow,
    ),
    Bar("big", "10 KB events, 20/s, 1,000 subscribers", "≤ 1.10 times floor", _CPU, _big),
)
