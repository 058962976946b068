"""Rows about memory: an idle subscriber, after a storm, a stream of one's own, a reader that has stalled.

Owns: what is counted from when to when. Must not know: how the kernel is asked about sockets (`bars_sockets`). Kernel
memory is counted for the stalled reader alone: the socket of an idle subscriber holds nothing.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from . import bars_sockets, peers
from .bars_figure import Bar, Figure, median
from .bars_stage import Ours, Stage, Tree
from .compare import settle
from .processes import wait_until

if TYPE_CHECKING:
    from .bars_stage import Row

_KIB = 1024.0
_STREAMS = 15000
_ROUNDS = 8  # Events into each of 15,000 streams, or into the one that 15,000 read.
_ROUND_SECONDS = 1.0  # From one round to the next: longer than the deliveries of one take.
_STALLED = 100
_STALLED_BYTES = 32 << 20  # Published at readers that stall, in each size: far more than any socket takes.


def _idle(stage: Stage) -> list[Figure]:
    runs = [_subscribed(stage, 10000, 4000.0) for _ in range(stage.runs)]
    return [
        median("per subscriber", (run["kib"] for run in runs), "KiB", at_most=0.2),
        median("after all left", (run["left"] for run in runs), "times the start", at_most=1.1),
    ]


def _storm(stage: Stage) -> list[Figure]:
    runs = [_subscribed(stage, 15000, 1e6) for _ in range(stage.runs)]
    return [
        median("per subscriber", (run["kib"] for run in runs), "KiB", at_most=1.0),
        median("after all left", (run["left"] for run in runs), "times the start"),
    ]


def _subscribed(stage: Stage, count: int, ramp: float) -> Row:
    with stage.serving(Ours) as server:
        process = Tree(server)
        start = process.memory()
        with stage.crowd(server, count, ramp=ramp):
            settle(3)
            there = process.memory()
        wait_until(lambda: server.ask()["stats"]["connections"] == 0, 30.0, "every subscriber has left")
        settle(3)
        row = {"kib": (there - start) / count / _KIB, "left": process.memory() / start}
        stage.say(f"  {count} subscribers: {row}, {start / _KIB:.0f} KiB at the start")
        return row


def _streams(stage: Stage) -> list[Figure]:
    runs = []
    for _ in range(stage.runs):
        runs.append({"one": _spread(stage, 1), "many": _spread(stage, _STREAMS), "floor": _floor(stage)})
        stage.say(f"  15,000 streams: {runs[-1]}")
    many = [run["many"] for run in runs]
    known = {
        **{f"{name}, µs": statistics.median(run[name]["cpu_us"] for run in runs) for name in ("one", "many")},
        "floor, one stream, µs": statistics.median(run["floor"] for run in runs),
    }
    without = [run["many"]["engine_us"] / run["one"]["engine_us"] for run in runs]
    return [
        median("stream, its event, its subscriber", (run["kib"] for run in many), "KiB", at_most=0.75),
        median("of it the stream", (run["stream_kib"] for run in many), "KiB"),
        median("of it the event", (run["event_kib"] for run in many), "KiB"),
        median(
            "CPU per delivery",
            (run["many"]["cpu_us"] / run["one"]["cpu_us"] for run in runs),
            "times one stream's",
            at_most=1.2,
            beside=known,
        ),
        median("the same without the publishing thread", without, "times one stream's"),
    ]


def _spread(stage: Stage, streams: int) -> Row:
    """15,000 subscribers of one stream, or of one each; the same loop publishes into all there are."""
    with stage.serving(Ours) as server:
        process, path = Tree(server), server.path if streams == 1 else "/streams/load/{}"
        start = process.memory()
        server.tell(f"m {streams}")
        made = _after(server, process)
        server.tell(f"p 1 1 0 {streams}")
        retained = _after(server, process)
        with stage.crowd(server, _STREAMS, path=path) as crowd:
            settle(3)
            there = process.memory()
            cpu, thread = process.cpu(), server.ask()["thread_s"]
            for number in range(_ROUNDS):
                server.tell(f"p {number + 2} 1 0 {streams}")
                time.sleep(_ROUND_SECONDS)
            seen = crowd.seen()
            spent, thread = process.cpu() - cpu, server.ask()["thread_s"] - thread
    if seen["events"] != _ROUNDS * _STREAMS:
        raise ValueError(f"{_ROUNDS * _STREAMS - seen['events']} events were lost with {streams} streams")
    return {
        "kib": (there - start) / _STREAMS / _KIB,
        "stream_kib": (made - start) / _STREAMS / _KIB,
        "event_kib": (retained - made) / _STREAMS / _KIB,
        "cpu_us": spent / seen["events"] * 1e6,
        "engine_us": (spent - thread) / seen["events"] * 1e6,
        "p50_ms": seen["p50_ms"],
        "p99_ms": seen["p99_ms"],
    }


def _after(server: Ours, process: Tree) -> int:
    """Memory once all orders so far are obeyed."""
    server.ask()
    settle()
    return process.memory()


def _floor(stage: Stage) -> float:
    with stage.serving(peers.Floor) as server, stage.crowd(server, _STREAMS) as crowd:
        process = Tree(server)
        settle()
        cpu = process.cpu()
        for number in range(_ROUNDS):
            server.publish(number + 1, 1, 0.0)
            time.sleep(_ROUND_SECONDS)
        seen = crowd.seen()
        return (process.cpu() - cpu) / seen["events"] * 1e6


def _stalled(stage: Stage) -> list[Figure]:
    figures = []
    for size, receive in ((100, 4096), (1000, 4096), (64000, 4096), (1000, 0)):
        runs = [_stall(stage, size, receive) for _ in range(stage.runs)]
        both = [run["kernel_kib"] + run["user_kib"] for run in runs]
        known = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        buffer = f"{receive // 1024} KiB" if receive else "the kernel's own"
        what = f"per reader, events of {size:,} B, its receive buffer {buffer}"
        figures.append(median(what, both, "KiB", at_most=96.0, beside=known))
    return figures


def _stall(stage: Stage, size: int, receive: int) -> Row:
    with stage.serving(Ours, size) as server:
        process, events = Tree(server), _STALLED_BYTES // size
        server.publish(1, events, 0.0)  # The log is full from here on: what it holds is not the readers'.
        server.ask()
        with stage.crowd(server, _STALLED + 1, stalled=_STALLED, receive=receive):
            settle()
            start = process.memory()
            server.publish(events + 1, events, 0.0)
            server.ask()
            settle()
            sockets = bars_sockets.memory(server.port)
            here = server.ask()["stats"]["connections"]
            row = {"user_kib": max(0.0, process.memory() - start) / _STALLED / _KIB}
        if here <= _STALLED:
            raise ValueError(f"only {here} of {_STALLED + 1} readers were still connected")
        row["kernel_kib"] = sum(sockets) / _STALLED / _KIB
        row["kernel_worst_kib"] = max(sockets) / _KIB
        stage.say(f"  stalled readers, {size} B: {row}, {len(sockets)} sockets")
        return row


BARS = (
    Bar(
        "idle-memory",
        "user memory per idle subscriber, one stream, 10,000",
        "≤ 0.2 KiB, and back to the start within 10 % after all leave",
        "Pss of the server's process before the first, 3 s after the last came, 3 s after the last left",
        _idle,
    ),
    Bar(
        "storm-memory",
        "the same after 15,000 connected in one storm, once idle",
        "≤ 1 KiB each",
        "Pss before the storm and 3 s after the last came",
        _storm,
    ),
    Bar(
        "streams",
        "15,000 streams with one subscriber and one retained 100 B event each",
        "≤ 0.75 KiB each; 1.2 times the one-stream CPU per delivery",
        "Pss from before the streams to after the subscribers; CPU of 8 rounds with 15,000 deliveries each. One Python "
        "loop publishes into all streams there are, so it calls `publish` 15,000 times a round for many and once for "
        "one: the CPU holds that, and beside it stands what is left without the publishing thread",
        _streams,
    ),
    Bar(
        "stalled",
        "kernel + user memory of a stalled reader, server side",
        "≤ 96 KiB by default, whatever is published",
        "100 readers that never read, and one that does; 32 MiB published in each size "
        "after as much that filled the log. Kernel: receive, write and forward-allocated memory of the server's "
        "sockets by sock_diag, as `ss -tm` shows it; user: what Pss grew by",
        _stalled,
    ),
)
