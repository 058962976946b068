"""The row about a flood that no server can deliver: held back by default, or announced as gaps without a wait.

Owns: both loads, and what nothing lost, flat and exact mean there. Must not know: how events are counted (`neutral`).
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from typing import TYPE_CHECKING

from . import peers
from .bars_figure import Bar, Figure, median, worst
from .bars_stage import Ours, Stage, Tree, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bars_stage import Row

_SUBSCRIBERS, _RATE, _SECONDS = 5000, 2000.0, 30.0
_IDLE_SECONDS = 5.0  # Of the same loop into a stream that nobody reads: what `publish` costs on an idle server.
_FLAT = 1.1  # The second half's memory over the first's, of the whole process.
_LOOK = 0.5  # Seconds between looks at memory: each stops the server's memory management for a moment.


def _flood(stage: Stage) -> list[Figure]:
    runs = []
    for number in range(stage.runs):
        floor = stage.delivery(load("flatout", name="floor flat out"), peers.Floor)["per_s"]
        runs.append({"floor_per_s": floor, "held": _flooded(stage), "free": _flooded(stage, publish_wait=0.0)})
        stage.say(f"  flood, run {number + 1}: {runs[-1]}")
    floor = {"floor": statistics.median(run["floor_per_s"] for run in runs)}
    held, free = ([run[name] for run in runs] for name in ("held", "free"))
    rates = [run["held"]["per_s"] / run["floor_per_s"] for run in runs]
    floor["sse_fast"] = statistics.median(run["per_s"] for run in held)
    return [
        worst("default: lost, or announced as a gap", (run["lost"] for run in held), "events", at_most=0),
        median("default: deliveries/s", rates, "times floor's, flat out", at_least=15.0, beside=floor),
        median("default: memory, last half over first", (run["flat"] for run in held), "times", at_most=_FLAT),
        median("default: published", (run["published"] / run["seconds"] for run in held), "events/s"),
        median("default: CPU per delivery", (run["cpu_us"] for run in held), "µs"),
        worst("no wait: inexact subscribers", (run["inexact"] for run in free), "subscribers", at_most=0),
        median("no wait: publish p50", (run["p50"] for run in free), "times idle", at_most=5.0, beside=_idle(free, 50)),
        median("no wait: publish p99", (run["p99"] for run in free), "times idle", at_most=5.0, beside=_idle(free, 99)),
        median("no wait: CPU of the publishing thread", (run["thread"] for run in free), "times idle"),
        median("no wait: announced as gaps", (run["announced"] / run["owed"] * 100 for run in free), "%"),
        median("no wait: memory, last half over first", (run["flat"] for run in free), "times"),
    ]


def _idle(runs: list[Row], percent: int) -> dict[str, float]:
    return {
        f"{when}, µs": statistics.median(run[f"{when}_p{percent}_us"] for run in runs) for when in ("idle", "flooded")
    }


def _flooded(stage: Stage, **settings: float) -> Row:
    with stage.serving(Ours, streams=2, **settings) as server:
        idle = server.ask(f"f 1 {_RATE} {_IDLE_SECONDS} 1")
        with stage.crowd(server, _SUBSCRIBERS) as crowd:
            process = Tree(server)
            cpu = process.cpu()
            with _memory(process) as looks:
                told = server.ask(f"f 1 {_RATE} {_SECONDS} 0")
            seen = crowd.seen(told["published"])
            spent = process.cpu() - cpu
    half = len(looks) // 2
    owed = told["published"] * _SUBSCRIBERS
    return {
        **{name: told[name] for name in ("published", "seconds")},
        **{name: seen[name] for name in ("per_s", "p50_ms", "p99_ms", "repeats", "closed", "announced")},
        **{f"idle_{name}": idle[name] for name in ("p50_us", "p99_us", "p100_us")},
        **{f"flooded_{name}": told[name] for name in ("p50_us", "p99_us", "p100_us")},
        "p50": told["p50_us"] / idle["p50_us"],
        "p99": told["p99_us"] / idle["p99_us"],
        "thread": told["thread_us"] / idle["thread_us"],
        "owed": owed,
        "lost": owed - seen["events"],
        "inexact": _SUBSCRIBERS - seen["exact"],
        "cpu_us": spent / max(seen["events"], 1) * 1e6,
        "flat": max(looks[half:]) / max(looks[:half]),
        "peak_mib": max(looks) / 2**20,
    }


@contextlib.contextmanager
def _memory(process: Tree) -> Iterator[list[int]]:
    """What memory was, every half second of the block."""
    looks, over = [process.memory()], threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK):
            looks.append(process.memory())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        # Publishing begins with the block: what the first second needs belongs to the first half.
        yield looks
    finally:
        over.set()
        thread.join()


BARS = (
    Bar(
        "flood",
        "5,000 subscribers, 2,000 events/s of 100 B for 30 s",
        "default settings: nothing lost, ≥ 15 times the floor's deliveries/s, memory flat; `publish_wait=0`: exact "
        "gaps, publish never slower than 5 times its idle cost",
        "the floor's deliveries/s are those of 200 events flat out; flat: Pss of the last 15 s at most 1.1 times that "
        "of the first; exact: delivered + announced = published for every subscriber; idle: the same loop before, into "
        "a stream nobody reads, and p50 is compared with its p50, p99 with its p99. Client and engine want both "
        "cores all the time, so p99 holds waits for a core; the CPU time of the publishing thread does not",
        _flood,
    ),
)
