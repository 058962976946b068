"""`make versions`: chosen rows of `make bars` with two wheels in turn, and which figures are worse beyond their noise.

Owns: an environment for each wheel, the order of the runs, what worse means. Must not know: how a row is measured
(`bars`). Each round measures both wheels once, the other one first each time, so that what else the machine does meets
both alike. A figure is worse, or better, when its median has moved by more than the larger of the two ranges of its
values; with a single round the noise is not known and nothing is judged.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import bars, machine
from .bars_table import about
from .processes import ROOT, ChildError
from .scenario import ScenarioError

_TOMLI = 'tomli>=2; python_version < "3.11"'  # What `bars` needs beside the wheel.


@dataclass
class Compared:
    """A figure of a row, as often as each wheel was measured."""

    row: str
    what: str
    unit: str
    more_is_better: bool
    values: dict[str, list[float]] = field(default_factory=lambda: {"before": [], "after": []})
    missing: str = ""

    @property
    def ratio(self) -> float | None:
        """The median after over the median before; None where there is none."""
        before, after = map(self.median, ("before", "after"))
        return after / before if before and after is not None else None

    @property
    def verdict(self) -> str:
        """In words: worse, better, or neither."""
        before, after = map(self.median, ("before", "after"))
        if before is None or after is None:
            return f"not measured: {self.missing}"
        if min(map(len, self.values.values())) == 1:
            return "one round: noise not known"
        noise = max(max(values) - min(values) for values in self.values.values())
        if abs(after - before) <= noise:
            return "within its noise"
        return "better" if (after > before) is self.more_is_better else "WORSE"

    @property
    def counts(self) -> str:
        """How often it could be measured."""
        return f"measured {len(self.values['before'])} times before, {len(self.values['after'])} times after"

    @property
    def worse(self) -> bool:
        """Whether it is worse beyond its noise, or could be measured in fewer rounds."""
        return self.verdict == "WORSE" or len(self.values["after"]) < len(self.values["before"])

    def median(self, which: str) -> float | None:
        """Of one wheel's values."""
        return statistics.median(self.values[which]) if self.values[which] else None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "ratio": self.ratio, "verdict": self.verdict}


def run(wheels: dict[str, Path], rows: list[str], rounds: int, results: Path, *, strict: bool) -> int:
    """Measures and writes versions.md and versions.json; returns the exit code: 1 where `strict` and one is worse."""
    if unknown := set(rows) - {bar.name for bar in bars.ALL}:
        raise ScenarioError(f"{', '.join(sorted(unknown))} is no row of bars")
    if missing := [str(wheel) for wheel in wheels.values() if not wheel.is_file()]:
        raise ScenarioError(f"there is no wheel at {', '.join(missing)}")
    kept: dict[str, Any] = {"date": machine.today(), "revision": machine.revision(), "machine": machine.facts()}
    kept |= {"versions": machine.versions(), "rounds": rounds}
    kept["wheels"] = {which: f"{wheel.name}, SHA-256 {_digest(wheel)}" for which, wheel in wheels.items()}
    folder, found = machine.results_folder(results), {}
    with tempfile.TemporaryDirectory(prefix="versions-") as scratch:
        pythons = {which: _environment(Path(scratch) / which, wheel) for which, wheel in wheels.items()}
        for number in range(rounds):
            for which in ("before", "after") if number % 2 == 0 else ("after", "before"):
                print(f"round {number + 1}, {which}", flush=True)
                _add(found, which, _bars(pythons[which], rows, Path(scratch) / f"{number}-{which}"))
            kept["figures"] = [compared.to_dict() for compared in found.values()]
            # After every round, so that a run that is broken off leaves what it has measured.
            (folder / "versions.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            (folder / "versions.md").write_text(_markdown(kept, list(found.values())), encoding="utf-8")
    print(_markdown(kept, list(found.values())))
    bad = [each for each in found.values() if each.worse]
    print("\n".join(f"{each.row}, {each.what}, {each.unit}: {each.verdict}, {each.counts}" for each in bad))
    print(f"{len(bad)} of {len(found)} figures are worse beyond their noise, or could not be measured as often")
    return 1 if strict and bad else 0


def _digest(wheel: Path) -> str:
    """Two versions' wheels may have the same name."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()[:12]


def _environment(folder: Path, wheel: Path) -> Path:
    """The interpreter of a new environment with that wheel."""
    python = folder / "bin" / "python"
    _done([sys.executable, "-m", "venv", folder])
    _done([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel.resolve(), _TOMLI])
    return python


def _bars(python: Path, rows: list[str], folder: Path) -> list[dict[str, Any]]:
    """The rows that one run of `bars` has measured."""
    command = [python, "-m", "loadtest", "bars", "--runs", "1", "--results", folder]
    _done([*command, "--only", ",".join(rows)] if rows else command)
    (record,) = folder.glob("*/bars.json")
    return json.loads(record.read_text(encoding="utf-8"))["rows"]


def _done(command: list[Any]) -> None:
    # Its output goes to the terminal: rows take minutes.
    code = subprocess.run(command, cwd=ROOT, env=os.environ | {"LOAD_MACHINE": "both"}, check=False).returncode
    if code:
        raise ChildError(f"{' '.join(str(word) for word in command[1:4])} ended with {code}")


def _add(found: dict[tuple, Compared], which: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        seen: Counter[tuple] = Counter()
        for figure in row["figures"]:
            name = (row["name"], figure["what"], figure["unit"])
            more = figure["at_least"] is not None or figure["unit"].endswith("/s")
            # A row may have two figures of one name, such as what was lost at each of its sizes.
            compared = found.setdefault((*name, seen[name]), Compared(*name, more))
            seen[name] += 1
            if figure["value"] is None:
                compared.missing = figure["missing"]
            else:
                compared.values[which].append(figure["value"])


def _markdown(kept: dict[str, Any], found: list[Compared]) -> str:
    out = ["# Two versions, side by side", about(kept, f"{kept['rounds']} rounds")]
    out.append("\n".join(f"- {which}: {wheel}" for which, wheel in kept["wheels"].items()))
    out.append(
        "Medians, with the least and the greatest value. *Within its noise*: the medians differ by no more than the "
        "larger of the two ranges. Rows and figures are those of `make bars`; in each round each wheel ran once."
    )
    table = ["| row | figure | before | after | after / before | verdict |", "|---" * 6 + "|"]
    for each in found:
        ratio = "-" if each.ratio is None else f"{each.ratio:.3f}"
        cells = (each.row, each.what, _range(each, "before"), _range(each, "after"), ratio, each.verdict)
        table.append("| " + " | ".join(cells) + " |")
    return "\n\n".join([*out, "\n".join(table)]) + "\n"


def _range(compared: Compared, which: str) -> str:
    values, median = compared.values[which], compared.median(which)
    if median is None:
        return "-"
    return f"{median:,.4g} ({min(values):,.4g} to {max(values):,.4g}) {compared.unit}"
