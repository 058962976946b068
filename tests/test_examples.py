"""The programs in examples/: each is started as a user starts it, and does what it says.

A new example needs a test here; the first test says which one lacks it.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import pytest

from support.process import Program
from support.reader import Reader

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_each_example_has_a_test() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if f'"{path.name}"' not in tested] == []


@pytest.mark.parametrize("leave", [Reader.close, Reader.reset], ids=["closed", "reset"])
def test_a_chat_stops_generating_when_its_client_hangs_up(leave) -> None:
    with Program(EXAMPLES / "llm_chat.py", env={"SSE_FAST_PORT": "0"}) as program:
        command = shlex.split(program.line())
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/chat)", command[2])
        assert found is not None
        prompt = command[command.index("-d") + 1].encode()
        with Reader(int(found[1]), found[2], method="POST", body=prompt) as reader:
            events = reader.open().take(4)
            assert [json.loads(event.data) for event in events] == [
                {"token": word} for word in ["say", "it", "again", "say"]
            ]
            assert not program.lines[1:]
            leave(reader)
            assert program.line() == "stopped generating"
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0, program.stderr
        assert not program.stderr


def test_the_chat_is_under_twenty_lines() -> None:
    """Without its description, imports and blank lines."""
    lines = [line for line in (EXAMPLES / "llm_chat.py").read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) < 20
