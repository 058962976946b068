"""The programs in examples/ that need a framework: each in the server that it is written for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import sse_fast
from support.host import Host
from support.ports import free_ports
from support.reader import Reader, fetch

pytestmark = pytest.mark.timeout(120)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PACKAGE = Path(sse_fast.__file__).parents[1]

ANN = ("Cookie", 'session="secret of ann"')
BOB = ("Cookie", 'session="secret of bob"')


def host(folder: Path, name: str, server: str, port: int) -> Host:
    """The example in a folder of its own, as a user has it."""
    shutil.copy(EXAMPLES / name, folder)
    module = f"{name.removesuffix('.py')}:app"
    command = {
        "uvicorn": ["-m", "uvicorn", "--port", port, module],
        "gunicorn": ["-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--threads", 16, "--graceful-timeout", 2, module],
    }
    env = {"PYTHONPATH": f"{folder}{os.pathsep}{PACKAGE}", "HOME": str(folder)}
    return Host(*command[server], cwd=folder, env=env)


@pytest.mark.parametrize(
    ("name", "server"),
    [("fastapi_events.py", "uvicorn"), ("flask_events.py", "gunicorn"), ("django_events.py", "uvicorn")],
)
def test_each_user_reads_a_stream_of_their_own(tmp_path: Path, name: str, server: str) -> None:
    (port,) = free_ports(1)
    with host(tmp_path, name, server, port) as running:
        running.listens(port)
        assert fetch(port, "/notifications")[0].status == 401
        with (
            Reader(port, "/notifications", headers=[ANN]) as ann,
            Reader(port, "/notifications", headers=[BOB]) as bob,
        ):
            ann.open()
            bob.open()
            assert fetch(port, "/notify/bob", method="POST", headers=[ANN])[0].status == 200
            event = bob.next()
            assert (event.event, event.json()) == ("notification", {"from": "ann"})
            assert fetch(port, "/notify/ann", method="POST", headers=[BOB])[0].status == 200
            assert ann.next().json() == {"from": "bob"}
            running.terminate()
        running.assert_gone(port)


def test_a_response_is_tested_by_the_framework_s_client(tmp_path: Path) -> None:
    """As docs/testing.md shows it."""
    page = (EXAMPLES.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    (tmp_path / "test_events.py").write_text(
        page.partition('```python title="test_events.py"\n')[2].partition("```")[0]
    )
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE}"}
    with Host("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_events.py", cwd=tmp_path, env=env) as running:
        assert running.ends() == 0
        assert "1 passed" in running.output


def test_a_job_of_starlette_is_read_at_the_application_s_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with host(tmp_path, "starlette_events.py", "uvicorn", port) as running:
        running.listens(port)
        assert fetch(port, "/jobs/7", method="POST")[0].status == 200
        with Reader(port, "/jobs/7/events") as reader:
            assert [event.event for event in reader.open().rest()] == ["QUEUED", "DONE"]
