"""docs/guides/processes.md, word for word: its commands are run as they stand but for the ports.

Guards the quick way to workers and one engine, and that the engine may be away for as long as a client tries again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sse_fast
from support.host import Host
from support.ports import free_ports
from support.reader import Reader, fetch

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "guides" / "processes.md").read_text(encoding="utf-8")
KEY = "0123456789abcdef" * 4


def command(word: str) -> str:
    """The line of the guide's commands that has the word."""
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    return next(line for line in lines if word in line)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a user's shell, in whose PATH the programs of an installed package are."""
    for name, module in (("sse-fast", "sse_fast"), ("gunicorn", "gunicorn")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {sys.executable} -u -m {module} "$@"\n')
        (tmp_path / name).chmod(0o755)
    shutil.copy(ROOT / "examples" / "compose" / "flask_app.py", tmp_path)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    package = Path(sse_fast.__file__).parents[1]
    return {"PATH": path, "EVENTS_KEY": KEY, "HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}{os.pathsep}{package}"}


def started(line: str, shell: dict[str, str], folder: Path) -> Host:
    """A line of a shell, whose last command takes the shell's place so that it gets its signals."""
    words = re.sub(r"^((?:\w+=\S+ )*)(?=[a-z])", r"\1exec ", line)
    assert "exec" in words, line
    return Host("-c", words, cwd=folder, env=shell, program=["sh"])


def test_workers_publish_into_one_engine_also_while_it_is_started_again(tmp_path: Path, shell: dict[str, str]) -> None:
    port, application = free_ports(2)
    shell["GUNICORN_CMD_ARGS"] = f"--bind 127.0.0.1:{application} --graceful-timeout 2"
    serve = command("sse-fast serve --port").replace("8080", str(port))
    work = command("gunicorn --workers").replace("8080", str(port))
    with started(work, shell, tmp_path) as workers:
        with started(serve, shell, tmp_path) as engine:
            engine.listens(port)
            workers.listens(application)
            assert fetch(application, "/jobs/1", method="POST", deadline=60)[0].status == 200
            with Reader(port, "/streams/jobs/1") as reader:
                reader.open()
                for _ in range(8):
                    assert fetch(application, "/jobs/1", method="POST", deadline=60)[0].status == 200
                events = reader.take(16)
            assert [event.event for event in events] == ["QUEUED", "DONE"] * 8
            assert engine.terminate() == 0
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(fetch, application, "/jobs/2", method="POST", deadline=60)
            with started(serve, shell, tmp_path) as engine:
                engine.listens(port)
                assert waiting.result(60)[0].status == 200, "the client tried again until the engine was there"
                assert engine.terminate() == 0
        assert workers.terminate() == 0


def test_the_demo_runs_at_one_engine_and_is_read_at_the_other(tmp_path: Path, shell: dict[str, str]) -> None:
    """`make run BACKPLANE=1 ONCE=1`, behind a real Redis."""
    assert os.environ.get("REDIS_SERVER"), (
        "scripts/with-redis says where Redis is; `make test-hosts` runs this under it"
    )
    script = ROOT / "scripts" / "run-backplane"
    with Host(script, "--once", "--port", 0, cwd=tmp_path, env={"PYTHONPATH": shell["PYTHONPATH"]}) as running:
        assert running.ends() == 0, running.output
        assert "from the other engine: BENCHMARKED" in running.output
        assert not [pid for pid in running.processes() if pid != running.process.pid]
