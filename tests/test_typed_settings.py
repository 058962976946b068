"""The settings as type checkers see them.

Guards that what a type checker lets a program give to `serve` and to `stream` is what
the table of settings has, name by name and type by type.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import sse_fast
from support.documented import SETTINGS, Documented

#: Given besides the default; a type that fits neither must be refused.
OTHER = {"expire": 60.0, "heartbeat_event": "beat", "max_connections": 100, "retry": 3.0, "shards": 2}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says about a program that gives every setting, one call a line; the errors are `name: ...`."""
    folder = tmp_path_factory.mktemp("typed")
    program = folder / "program.py"
    program.write_text(
        "\n".join(["import sse_fast", 'server = sse_fast.serve(0, host="127.0.0.1")', *map(calls, SETTINGS)])
    )
    # Away from the repository, so that it reads the installed package and none of its sources.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(folder / "cache"), program],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    lines = program.read_text().splitlines()
    said = [line.partition(":")[2].partition(":") for line in done.stdout.splitlines() if ": error: " in line]
    return "\n".join(f"{lines[int(number) - 1]}  # {rest.strip()}" for number, _, rest in said)


#: What is of a type that each refuses, where that is not bytes.
BAD = {"ticket_key": "5"}


def bad_value(setting: Documented) -> str:
    return BAD.get(setting.name, "b'no'")


def calls(setting: Documented) -> str:
    """Good ones, then bad ones."""
    good = [repr(setting.default), *([repr(OTHER[setting.name])] if setting.name in OTHER else [])]
    lines = [f"sse_fast.serve({setting.name}={value})" for value in good]
    lines.append(f"sse_fast.serve({setting.name}={bad_value(setting)})")
    if setting.stream:
        lines += [f"server.stream('s', {setting.name}={value})" for value in good]
        lines.append(f"server.stream('s', {setting.name}={bad_value(setting)})")
    else:
        lines.append(f"server.stream('s', {setting.name}={good[-1]})")
    return "\n".join(lines)


def test_every_setting_of_the_table_is_typed_with_its_type(complaints: str) -> None:
    refused = {line.partition("  # ")[0] for line in complaints.splitlines()}
    for setting in SETTINGS:
        for call in calls(setting).splitlines():
            bad = f"={bad_value(setting)})" in call or (call.startswith("server.") and not setting.stream)
            assert (call in refused) == bad, f"{call}\n{complaints}"


def test_no_setting_is_typed_that_the_table_lacks() -> None:
    """A type checker would let it pass, and `serve` would not."""
    typed = set(sse_fast.ServeSettings.__annotations__) | set(sse_fast.StreamOptions.__annotations__)
    assert typed | {"port", "host"} == {setting.name for setting in SETTINGS}
    assert set(sse_fast.StreamOptions.__annotations__) == {setting.name for setting in SETTINGS if setting.stream}
