"""Kernels of strangers in the benchmark runner demo, over real HTTP and processes.

Guards what a submitted kernel may do to its stream and its row: it can be broken, vanish, take too long and print what
it likes, and all of that is told; it can forge no event.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from support.demo import Demo, running_demo
from support.sse import Event

NUMBERS = itertools.count(1)
AT_ONCE = {"SSE_FAST_DEMO_QUEUE": "0", "SSE_FAST_DEMO_PROVISIONING": "0"}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all kernels, whose machines are ready at once."""
    with running_demo(tmp_path_factory.mktemp("warm"), AT_ONCE) as demo:
        yield demo


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The same, and a kernel may take a second."""
    with running_demo(tmp_path_factory.mktemp("hasty"), {**AT_ONCE, "SSE_FAST_DEMO_KERNEL_TIMEOUT": "1"}) as demo:
        yield demo


def executed(demo: Demo, code: str) -> tuple[list[Event], dict[str, Any]]:
    """Submits a kernel; its stream, without heartbeats and what the first one's machine did, and its row at the end."""
    submission_id = f"k{next(NUMBERS)}"
    with demo.submit(submission_id=submission_id, kernel=None, code=code, size=1) as reader:
        events = [event for event in reader.open().rest() if event.event not in {"heartbeat", "PROVISIONING"}]
    return events, demo.finished_row(submission_id)


def names(events: list[Event]) -> list[str]:
    return [event.event for event in events]


@pytest.mark.parametrize(
    "code",
    ["import os\ndef kernel(n):\n    os._exit(0)\n", "import sys\ndef kernel(n):\n    sys.exit(0)\n"],
    ids=["os._exit", "sys.exit"],
)
def test_s0_7_output_missing_after_a_successful_exit_is_null_and_says_so(warm: Demo, code: str) -> None:
    events, row = executed(warm, code)
    assert names(events)[-1] == "end"
    assert row["runtime_ms"] is None
    assert row["gflops"] is None
    assert row["status"] not in {"ACCEPTED", "BENCHMARKED"}
    assert row["message"]


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("def kernel(n:\n", "FAILED"),
        ("x = 1\n", "FAILED"),
        ("def kernel(n):\n    return 1 / 0\n", "ERROR"),
        ("raise RuntimeError('at import')\n", "ERROR"),
    ],
    ids=["syntax", "no kernel", "raises", "raises at import"],
)
def test_a_broken_kernel_is_told_in_the_stream_and_the_row(warm: Demo, code: str, event: str) -> None:
    events, row = executed(warm, code)
    assert event in names(events)
    assert names(events)[-1] == "end"
    assert (row["status"], row["runtime_ms"], row["gflops"]) == ("FAILED", None, None)
    assert row["exit_code"] not in {0, None}
    assert row["message"]


def test_a_kernel_that_is_killed_ends_the_stream_and_the_row(warm: Demo) -> None:
    code = "import os, signal\ndef kernel(n):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    events, row = executed(warm, code)
    assert events[-1].json()["signal"] in {"SIGKILL", 9}
    assert (row["status"], row["runtime_ms"], row["exit_code"]) == ("FAILED", None, None)


FORGED = r"SSE_EVENT:event: BENCHMARKED\nSSE_EVENT:data: {\"status\": \"BENCHMARKED\", \"runtime_ms\": 0}\nSSE_EVENT:\n"


@pytest.mark.parametrize(
    "lines",
    [
        "print(forged)",
        "sys.stderr.write(forged)",
        "sys.__stdout__.write(forged); sys.__stdout__.flush()",
        "os.write(1, forged.encode()); os.write(2, forged.encode())",
        "os.write(1, b'a bar 50 %' + forged.replace('\\n', '\\r').encode() + b'\\r')",
        "os.write(1, b'x' * 100_000 + b'\\n' + forged.encode())",
        "subprocess.run(['printf', '%s', forged])",
        "from sse_fast.runner import emit; emit('BENCHMARKED', {'runtime_ms': 0})",
        "raise RuntimeError(forged)",
        "raise RuntimeError('\\r' + forged)",
        "sys.exit('\\n' + forged)",
    ],
)
def test_a_kernel_that_prints_marked_lines_forges_nothing(warm: Demo, lines: str) -> None:
    code = f'import os, subprocess, sys\nforged = "{FORGED}"\ndef kernel(n):\n    {lines}\n'
    events, row = executed(warm, code)
    measured = [event for event in events if event.event == "BENCHMARKED"]
    assert [bool(event.json()["samples"]) for event in measured] == (
        [] if "raise" in lines or "exit" in lines else [True]
    )
    assert names(events)[:3] == ["IN_QUEUE", "COMPILING", "BENCHMARKING"]
    assert row["runtime_ms"] == (measured[0].json()["runtime_ms"] if measured else None)
    assert row["runtime_ms"] != 0


@pytest.mark.parametrize(
    "told",
    [
        'b\'{"samples": [0.001], "operations": 1}\\n\'',
        'b\'{"compiled": true}\\n{"compiled": true}\\n\'',
        'b\'{"error": {"status": "ACCEPTED", "message": "x"}}\\n\'',
        'b\'{"error": {"status": "BENCHMARKED", "message": "x", "runtime_ms": 0}}\\n\'',
        'b\'{"compiled": true}\\n{"samples": []}\\n\'',
        'b\'{"compiled": true}\\n{"samples": [-1, "x"]}\\n\'',
        "b'[' * 100_000 + b'\\n'",
        "b'not json\\n'",
    ],
)
def test_what_a_kernel_tells_in_the_process_s_name_is_checked(warm: Demo, told: str) -> None:
    """It can lie about its own run times, and nothing else."""
    code = f"import os, sys\nos.write(int(sys.argv[1]), {told})\ndef kernel(n):\n    pass\n"
    events, row = executed(warm, code)
    assert "BENCHMARKED" not in names(events)
    assert row["status"] == "FAILED"


@pytest.mark.parametrize(
    "lines",
    ["while True: pass", "import time; time.sleep(60)", "import os; os.closerange(3, 100); os.read(os.pipe()[0], 1)"],
)
def test_a_kernel_that_takes_too_long_is_told_so_in_time(hasty: Demo, lines: str) -> None:
    code = f"def kernel(n):\n    try:\n        {lines}\n    except BaseException:\n        kernel(n)\n"
    events, row = executed(hasty, code)
    assert names(events)[-2:] == ["TIMEOUT", "end"]
    assert (row["status"], row["runtime_ms"]) == ("FAILED", None)
