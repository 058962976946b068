"""Programs frozen by PyInstaller, as a folder and as one file: they need no option, as the package brings its hook.

Guards that such a program has the engine, its JSON encoder, the browser module and the demos' pages, can be the child
of its own runs, and that one frozen without the hook says what it lacks.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)

PROGRAM = """
import dataclasses, datetime, sys, urllib.request
import sse_fast
from sse_fast.runner import emit

if "--child" in sys.argv:
    emit("DONE", {"runtime_ms": 4.2})
    sys.exit()

@dataclasses.dataclass
class Status:
    when: datetime.date

with sse_fast.serve(0) as server:
    stream = server.stream("s", start="all")
    stream.publish(Status(datetime.date(2026, 1, 2)))
    stream.end()
    print(urllib.request.urlopen(f"{server.url}/streams/s").read().decode())
    print(len(urllib.request.urlopen(f"{server.url}/sse-fast.js").read()) > 1000)
    run = server.run([sys.executable, "--child"], stream="run")
    print(run.wait(30), run.result)
    print(sys.frozen)
"""


def freeze(folder: Path, *options: str, program: str = PROGRAM) -> Path:
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", *options, "program.py"]
    subprocess.run(command, cwd=folder, check=True, timeout=500)
    made = folder / "dist" / "program"
    return made / "program" if made.is_dir() else made


def output(program: Path) -> subprocess.CompletedProcess[str]:
    """What it does with no Python in reach."""
    return subprocess.run(
        [str(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/nowhere", "LANG": "C.UTF-8"},
    )


@pytest.mark.parametrize("kind", ["--onedir", "--onefile"])
def test_a_frozen_program_serves_publishes_and_runs(tmp_path: Path, kind: str) -> None:
    made = freeze(tmp_path, kind)
    elsewhere = tmp_path / "elsewhere"
    if kind == "--onedir":
        shutil.move(made.parent, elsewhere)
    else:
        elsewhere.mkdir()
        shutil.move(made, elsewhere)
    done = output(elsewhere / "program")
    assert done.returncode == 0, done.stderr
    assert 'data: {"when":"2026-01-02"}' in done.stdout
    assert done.stdout.splitlines()[-3:] == ["True", "0 {'runtime_ms': 4.2}", "True"]


def test_one_frozen_without_the_package_s_data_says_so(tmp_path: Path) -> None:
    made = freeze(tmp_path, "--onedir")
    for file in made.parent.rglob("sse-fast.js"):
        file.unlink()
    done = output(made)
    assert done.returncode == 1
    assert "StartError" in done.stderr
    assert "frozen without the package's data" in done.stderr
    assert "--collect-data sse_fast" in done.stderr
