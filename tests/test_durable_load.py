"""The load test of a store, played small: an engine that is killed in the middle costs its readers nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def play(results: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    words = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "loadtest", "run", "durable", *words, "--results", str(results)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=140, check=False)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("durable", ["process", "disk"])
def test_a_killed_engine_with_a_store_loses_doubles_and_reorders_nothing(tmp_path: Path, durable: str) -> None:
    small = ("streams=5", "readers=30", "publishers=3", "rate=90", "seconds=3")
    done = play(tmp_path, f"durable={durable}", *small)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = tmp_path.rglob("durable.json")
    kept = json.loads(record.read_text())
    assert kept["wrong"] == []
    assert (kept["connected"], kept["losses"]) == (30, 30)
    assert kept["events"] == kept["confirmed"] > 100
    assert {*kept["phases"]} == {"before", "meanwhile", "after"}
    assert all(kept["phases"][phase]["publish_ms"]["count"] for phase in ("before", "after"))
    [report] = tmp_path.rglob("durable.md")
    assert "lost, doubled, out of order, gaps, new lives | 0 |" in report.read_text()


@pytest.mark.parametrize("change", ["readers", "nothing=1", "readers=many", "durable=ram"])
def test_what_cannot_be_set_is_said(tmp_path: Path, change: str) -> None:
    done = play(tmp_path, change)
    assert done.returncode == 2
    assert change.partition("=")[0] in done.stderr
