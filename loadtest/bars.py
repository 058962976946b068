"""`make bars`: one row for every promise about cost, each measured beside the floor in the same run, and its verdict.

Owns: which rows there are, in which order, what is kept of a run, the exit code. Must not know: how a row is measured
(`bars_*.py`, by subject), how a table looks (`bars_table`).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from . import (
    bars_backplane,
    bars_calls,
    bars_connect,
    bars_delay,
    bars_delivery,
    bars_flood,
    bars_http,
    bars_memory,
    bars_table,
    machine,
)
from .bars_figure import Bar, Figure
from .bars_stage import Stage
from .processes import ChildError
from .scenario import ScenarioError

ALL: tuple[Bar, ...] = (
    *bars_delivery.BARS,
    *bars_delay.BARS,
    *bars_flood.BARS,
    *bars_memory.BARS,
    *bars_connect.BARS,
    *bars_calls.BARS,
    *bars_http.BARS,
    *bars_backplane.BARS,
)


def run(only: list[str], runs: int, results: Path, *, strict: bool) -> int:
    """Measures and writes bars.md and bars.json; returns the exit code: 1 where `strict` and a bar is missed."""
    names = [bar.name for bar in ALL]
    if unknown := set(only) - set(names):
        raise ScenarioError(f"{', '.join(sorted(unknown))} is not known: there are {', '.join(names)}")
    kept: dict[str, Any] = {"date": machine.today(), "revision": machine.revision(), "machine": machine.facts()}
    kept |= {"versions": machine.versions("sse-fast", "orjson"), "runs": runs, "rows": []}
    folder = machine.results_folder(results)
    with tempfile.TemporaryDirectory(prefix="bars-") as scratch:
        stage = Stage(Path(scratch), runs, lambda line: print(line, flush=True))
        for bar in (bar for bar in ALL if not only or bar.name in only):
            row = _row(bar, stage)
            kept["rows"].append(row)
            print(bars_table.lines(row), flush=True)
            # After every row, so that a run that is broken off leaves what it has measured.
            (folder / "bars.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            (folder / "bars.md").write_text(bars_table.markdown(kept), encoding="utf-8")
    missed = [row["name"] for row in kept["rows"] if not row["met"]]
    print(f"missed, or not measured: {', '.join(missed)}" if missed else "every bar was met")
    return 1 if strict and missed else 0


def _row(bar: Bar, stage: Stage) -> dict[str, Any]:
    print(f"{bar.name}: {bar.what}; {bar.bar}", flush=True)
    began = time.monotonic()
    try:
        figures = bar.measure(stage)
    except (ChildError, OSError, ValueError, KeyError, ZeroDivisionError, subprocess.SubprocessError) as error:
        # One row that cannot be measured must not take the others with it.
        figures = [Figure(bar.what, None, "", missing=f"{type(error).__name__}: {error}")]
    return {
        "name": bar.name,
        "what": bar.what,
        "bar": bar.bar,
        "how": bar.how,
        "seconds": round(time.monotonic() - began, 1),
        "met": all(figure.met is not False and not figure.missing for figure in figures),
        "figures": [figure.to_dict() for figure in figures],
    }
