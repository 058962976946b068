"""`make waiting`: what slow and dead readers cost publishers and other readers, and whether it is what was promised.

Owns: which cases there are, what each may cost, what is kept of a run. Must not know: how a case is measured
(`waiting_case`), how a table looks (`waiting_table`).

The promise: in a minute all slow and dead readers of a stream together cost its publishers at most `publish_wait`, one
reader at most half of it, and the other readers nothing; whatever is skipped is announced.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import machine, waiting_table
from .bars_figure import Figure
from .processes import ChildError
from .scenario import ScenarioError
from .waiting_case import Loop, Paced, Stand

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT_WAIT = 2.0  # Seconds: the engine's `publish_wait` where no setting says otherwise.
_MINUTE = 60.0
_LOST = 0.04  # Of a minute's publishing: `publish_wait` is 3.3 % of it, the rest is noise.
_LATE_MS = 50.0  # A call that waits as long as it may lasts longer by what the machine takes to wake its thread.
_COUNTS = (1, 20, 200)
_GROUPS = tuple((threads, streams) for streams in (1, 32) for threads in (1, 64))
_HELD_RATES = (50_000, 10_000)
ROWS = ("base", "dead", "slow", "mixed", "held", "loop", "long-loop")


def cases(only: list[str], threads: list[int], streams: list[int]) -> list[Paced | Loop]:
    """What is to be measured, in order; each paced case comes after the base it is compared with."""
    if unknown := set(only) - set(ROWS):
        raise ScenarioError(f"{', '.join(sorted(unknown))} is not known: there are {', '.join(ROWS)}")
    wanted: list[Paced | Loop] = []
    for case in _all():
        # A loop is one thread and one stream.
        ours, over = (case.threads, case.streams) if isinstance(case, Paced) else (1, 1)
        if (only and case.row not in only) or (threads and ours not in threads) or (streams and over not in streams):
            continue
        if isinstance(case, Paced) and case.baseline not in wanted:
            wanted.append(case.baseline)
        if case not in wanted:
            wanted.append(case)
    if not wanted:
        raise ScenarioError("no case has so many threads and streams: there are 1 and 64 threads, 1 and 32 streams")
    return wanted


def _all() -> Iterator[Paced | Loop]:
    for threads, streams in _GROUPS:
        # As many healthy readers as streams, so that each stream has one; five of a single stream.
        base = Paced("base", max(5, streams), threads=threads, streams=streams)
        yield base
        for kind in ("dead", "slow"):
            for count in _COUNTS:
                yield dataclasses.replace(base, row=kind, **{kind: count})
        yield dataclasses.replace(base, row="mixed", slow=20, dead=20)
    for rate in _HELD_RATES:
        yield Paced("held", 1, slow=1, rate=rate)
    yield Loop("loop", 10_000, 20)
    yield Loop("long-loop", 100_000, 100)


def run(chosen: list[Paced | Loop], seconds: float, results: Path, settings: dict[str, Any], *, strict: bool) -> int:
    """Measures and writes waiting.md and waiting.json; returns the exit code: 1 where `strict` and a bound fails."""
    kept: dict[str, Any] = {"date": machine.today(), "revision": machine.revision(), "machine": machine.facts()}
    kept |= {"versions": machine.versions("sse-fast", "orjson"), "seconds": seconds, "settings": settings}
    kept["rows"] = []
    folder, wait = machine.results_folder(results), settings.get("publish_wait", _DEFAULT_WAIT)
    with tempfile.TemporaryDirectory(prefix="waiting-") as scratch:
        stand, baselines = Stand(Path(scratch), seconds, settings), {}
        for case in chosen:
            row = _measure(stand, case, baselines, wait)
            kept["rows"].append(row)
            print(waiting_table.line(row), flush=True)
            # After every row, so that a run that is broken off leaves what it has measured.
            (folder / "waiting.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            (folder / "waiting.md").write_text(waiting_table.markdown(kept), encoding="utf-8")
    missed = [row for row in kept["rows"] if not row["met"]]
    print(waiting_table.markdown(kept))
    print(f"{len(missed)} of {len(kept['rows'])} rows missed, or not measured" if missed else "every row was met")
    return 1 if strict and missed else 0


def _measure(stand: Stand, case: Paced | Loop, baselines: dict[Paced, dict], wait: float | None) -> dict[str, Any]:
    """A row: what was measured and the verdicts on it; a case that cannot be measured says so."""
    try:
        if isinstance(case, Loop):
            row = stand.looped(case)
            figures = _of_loop(row, case)
        else:
            row = stand.paced(case)
            if case == case.baseline:
                baselines[case] = row
            row["base"] = baselines.get(case.baseline)
            figures = _of_paced(row, stand.seconds, wait)
    except (ChildError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        row = {**vars(case), "name": case.name}
        figures = [Figure("case", None, "", missing=f"{type(error).__name__}: {error}")]
    row["met"] = all(figure.met is not False and not figure.missing for figure in figures)
    row["figures"] = [figure.to_dict() for figure in figures]
    return row


def _of_paced(row: dict[str, Any], seconds: float, wait: float | None) -> list[Figure]:
    publisher, healthy = row["publisher"], row["healthy"]
    figures = [
        Figure("healthy: not given", healthy["announced"] + healthy["lost"], "events", at_most=0),
        Figure("healthy: not whole", healthy["subscribers"] - healthy["whole"], "readers", at_most=0),
        _wrong_accounts(row),
    ]
    base = row.pop("base")
    if base is None:
        return [*figures, Figure("rate", None, "", missing="the base could not be measured")]
    row["base_per_s"], row["base_delays_ms"] = base["publisher"]["per_s"], base["delays_ms"]
    row["lost_percent"] = round((1 - publisher["per_s"] / row["base_per_s"]) * 100, 2)
    if row["row"] == "base" or wait is None:
        return figures
    # The budget is of a minute, so a shorter run may spend it all.
    share = round(max(_LOST, _LOST * _MINUTE / seconds) * 100, 2)
    longest = round(wait / 2 * 1e3 + _LATE_MS, 1)
    return [
        Figure("rate lost against base", row["lost_percent"], "%", at_most=share),
        Figure("longest call", publisher["longest_ms"], "ms", at_most=longest),
        *figures,
    ]


def _of_loop(row: dict[str, Any], case: Loop) -> list[Figure]:
    figures = [_wrong_accounts(row)]
    if case.row == "loop":
        figures.append(Figure("whole", row["healthy"]["whole"], "readers", at_least=case.readers))
    return figures


def _wrong_accounts(row: dict[str, Any]) -> Figure:
    """Readers with an event that was neither delivered nor announced, came twice, or was announced wrongly."""
    wrong = sum(row[role]["wrong"] for role in ("healthy", "slow", "dead") if role in row)
    return Figure("wrong accounts", wrong, "readers", at_most=0)


def settings_of(words: list[str]) -> dict[str, Any]:
    """`publish_wait=0.5` as a setting of `sse_fast.serve`; a value is JSON, or else text."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ScenarioError(f"{word} is no setting: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
