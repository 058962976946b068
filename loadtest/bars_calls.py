"""Rows about Python's own side: what `publish` costs its caller, threads that publish together, the import.

Owns: the bounds, and the import's comparison, which needs new processes. Must not know: how calls are timed (`calls`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from .bars_figure import Bar, Figure, median, worst
from .processes import ROOT

if TYPE_CHECKING:
    from .bars_stage import Row, Stage

_LONGEST = 300.0
_IMPORTS = 20
_ALONE = "import os, sse_fast; print(len(os.listdir('/proc/self/task')))"
_BOUNDS = {"bytes": 2.0, "dict": 1.5}  # Times what the same loop costs with a deque.
_EXTRA_US = 0.25


def _calls(stage: Stage) -> list[Row]:
    """Figures of calls.py, one set for each run."""
    key = "calls"
    if key not in stage.kept:
        stage.kept[key] = [json.loads(_python("-m", "loadtest.calls")) for _ in range(stage.runs)]
        stage.say(f"  calls: {stage.kept[key]}")
    return stage.kept[key]


def _publish(stage: Stage) -> list[Figure]:
    figures = []
    for kind, multiple in _BOUNDS.items():
        runs = _calls(stage)
        allowed = [run[f"append_{kind}_us"] * multiple + _EXTRA_US for run in runs]
        cost = [run[f"publish_{kind}_us"] for run in runs]
        shares = (each / most for each, most in zip(cost, allowed, strict=True))
        known = {"publish, µs": cost[0], "deque, µs": runs[0][f"append_{kind}_us"], "may cost, µs": allowed[0]}
        figures.append(median(f"publish({kind})", shares, "of what it may cost", at_most=1.0, beside=known))
    return figures


def _threads(stage: Stage) -> list[Figure]:
    runs = _calls(stage)
    ratios = (run["publish_8_per_s"] / run["publish_1_per_s"] for run in runs)
    known = {f"{name.replace('_', ', ')} threads, /s": runs[0][f"{name}_per_s"] for name in ("publish_1", "publish_8")}
    deques = (run["append_8_per_s"] / run["append_1_per_s"] for run in runs)
    return [
        median("8 threads into 8 streams", ratios, "times one thread", at_least=1.0, beside=known),
        median("8 threads into 8 deques", deques, "times one thread"),
    ]


def _import(stage: Stage) -> list[Figure]:
    codes = {name: f"import {name}" for name in ("sys", "asyncio", "sse_fast")}
    ratios, seconds = [], {}
    for _ in range(stage.runs):
        # In turn, so that what else the machine does meets all alike; the least of each, because only others add.
        rounds = [{name: _timed(code) for name, code in codes.items()} for _ in range(_IMPORTS)]
        seconds = {name: min(each[name] for each in rounds) for name in codes}
        ratios.append((seconds["sse_fast"] - seconds["sys"]) / (seconds["asyncio"] - seconds["sys"]))
        stage.say(f"  import: {seconds}")
    known = {f"{name}, ms": round(took * 1e3, 2) for name, took in seconds.items()}
    return [
        median("import, without the interpreter's own start", ratios, "times asyncio's", at_most=1.0, beside=known),
        worst("threads after the import", [int(_python("-c", _ALONE))], "threads", at_most=1),
    ]


def _timed(code: str) -> float:
    began = time.perf_counter()
    _python("-c", code)
    return time.perf_counter() - began


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_LONGEST)
    if done.returncode:
        raise ValueError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-300:]}")
    return done.stdout


BARS = (
    Bar(
        "publish",
        "`publish(bytes)` / `publish(dict)` from Python, no subscribers",
        "≤ 2 / ≤ 1.5 times the cost of `deque.append(data)` / `deque.append(orjson.dumps(d))` plus 0.25 µs",
        "200,000 calls of each in turn in one process, seven times, the best of each; loop included",
        _publish,
    ),
    Bar(
        "threads",
        "8 Python threads publishing into 8 streams",
        "throughput ≥ that of one thread",
        "two million calls by one thread and by eight, in turn, seven times, the best of each; deques beside",
        _threads,
    ),
    Bar(
        "import",
        "`import sse_fast`",
        "no slower than `import asyncio` in the same run; no engine thread before `serve()`",
        "new interpreters in turn, the least of 20 each, less the least of one that imports nothing new; threads as "
        "/proc/self/task has them",
        _import,
    ),
)
