"""examples/systemd: the unit as systemd reads it, and its command as systemd would start and end it.

systemd itself runs in no container, so what it does is done here: the environment file is read, the command started,
the signal sent. That the unit is understood, and how far it is locked up, is asked of `systemd-analyze`.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sse_fast
from support.deadline import until
from support.host import Host
from support.ports import free_ports
from support.reader import Reader, fetch

pytestmark = pytest.mark.timeout(120)

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "systemd"
PACKAGE = Path(sse_fast.__file__).parents[1]
COMMAND = "/srv/sse-fast/bin/sse-fast"


def analyze(*arguments: str) -> str:
    """What systemd-analyze says; it must be content."""
    program = shutil.which("systemd-analyze")
    assert program, "systemd is not installed; `make test-hosts` installs it where it can"
    done = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists: where the user's is, the test's has not been installed."""
    program = tmp_path / "sse-fast"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -u -m sse_fast "$@"\n')
    program.chmod(0o755)
    text = (FOLDER / "sse-fast.service").read_text(encoding="utf-8")
    assert re.findall(rf"^(ExecStart\w*)={COMMAND} serve", text, re.MULTILINE) == ["ExecStartPre", "ExecStart"]
    file = tmp_path / "sse-fast.service"
    file.write_text(text.replace(COMMAND, str(program)), encoding="utf-8")
    return file


def service(unit: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return dict(parser["Service"])


def settings() -> dict[str, str]:
    """The environment file, read as systemd does: names and values, comments aside."""
    lines = (FOLDER / "sse-fast.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_systemd_understands_every_line(unit: Path) -> None:
    said = analyze("verify", "--man=no", str(unit))
    assert str(unit) not in said, said
    assert "Unknown" not in said, said


def test_the_service_is_locked_up(unit: Path) -> None:
    """The lower the better: 10 is a service without any of it, and a network service cannot be at 0."""
    said = analyze("security", "--offline=true", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) < 2.0, said


def test_it_has_longer_to_end_than_the_engine_may_take(unit: Path) -> None:
    durations = [float(settings()[name].removesuffix("s")) for name in ("SSE_FAST_LAME_DUCK", "SSE_FAST_DRAIN")]
    assert float(service(unit)["TimeoutStopSec"]) > sum(durations)
    assert service(unit)["KillSignal"] == "SIGTERM"


def test_every_setting_of_the_environment_file_is_one(tmp_path: Path) -> None:
    """Also those that stand there as comments."""
    text = (FOLDER / "sse-fast.env").read_text(encoding="utf-8")
    names = re.findall(r"^(?:# )?(SSE_FAST_\w+)=", text, re.MULTILINE)
    page = (FOLDER.parents[1] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert len(names) > 6
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_command_serves_publishes_survives_its_death_and_drains(unit: Path, tmp_path: Path) -> None:
    port, metrics = free_ports(2)
    env = {**settings(), "SSE_FAST_PORT": str(port), "SSE_FAST_METRICS": f"127.0.0.1:{metrics}"}
    env |= {"SSE_FAST_STORE": str(tmp_path / "streams"), "PYTHONPATH": str(PACKAGE)}
    command = service(unit)["ExecStart"].split()
    key = [("Authorization", f"Bearer {env['SSE_FAST_PUBLISH_KEY']}"), ("Content-Type", "application/json")]
    with Host(cwd=tmp_path, env=env, program=command) as first:
        first.listens(port, metrics)
        body = b'{"data": "before", "event": "STEP"}'
        head, answer = fetch(port, "/streams/s", method="POST", headers=key, body=body)
        assert head.status == 201, answer
        before = json.loads(answer)["id"].replace("-1", "-0")
        first.process.kill()
        first.process.wait()
    with Host(cwd=tmp_path, env=env, program=command) as second:  # Restart=always.
        second.listens(port, metrics)
        asked = fetch(port, f"/streams/s?last_event_id={before}", headers=[("Accept", "application/json")])[1]
        assert [(event["event"], event["data"]) for event in json.loads(asked)["events"]] == [("STEP", "before")]
        with Reader(port, "/streams/s") as reader:
            reader.open()
            until(lambda: b"sse_fast_subscribers 1" in fetch(metrics, "/metrics")[1], what="the reader")
            assert second.terminate() == 0
            assert reader.rest() == [], "the response comes to its end"
        second.assert_gone(port, metrics)
        assert (tmp_path / "streams").is_dir()
