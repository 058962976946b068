"""Ten thousand readers that ask for one workflow three seconds before its row exists.

Guards that waiting costs one check each interval, not one for each reader, and no thread, and that each of them gets
the plan, every node event and the end. `make test-slow` runs this; `make test` does not collect it.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from conftest import Serve
from sse_fast.demos.workflow.app import GRAPH
from support.deadline import until
from support.process import SUPPORT, Program
from support.workflow import Counting, enqueue

READERS = 10_000
PROCESSES = 4  # Each has a limit on open files of its own; the server needs one for each reader.
ROW_DELAY = 3.0
RETRY_DELAY = 0.2


def threads() -> int:
    """Threads of this process, the engine's among them (Linux)."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_s1_2_ten_thousand_readers_of_a_row_that_comes_later_cost_one_check_each_interval(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve(header_timeout=100.0)  # The connections are opened first, and ask together.
    go = server.stream("go")
    workflow = Counting(server, tmp_path / "workflow.sqlite", row_delay=ROW_DELAY, pace=0.3)
    with contextlib.ExitStack() as stack:
        crowds = [
            stack.enter_context(Program(SUPPORT / "waiting_crowd.py", server.port, READERS // PROCESSES))
            for _ in range(PROCESSES)
        ]
        for crowd in crowds:
            crowd.line_with("ready", 90)
        until(lambda: server.stats().connections == READERS + PROCESSES, 60)
        before, began = threads(), time.monotonic()
        decision_set = enqueue(server)
        go.publish(f"/api/streams/{decision_set}")
        until(lambda: server.stats().requests > READERS + PROCESSES, 60, what="every reader asking")
        asked = time.monotonic()
        assert asked - began < ROW_DELAY, "the row was there before everybody asked, so nothing was proven"
        assert threads() - before <= 2, "the job's worker is one"
        counts: dict[str, int] = {}
        for crowd in crowds:
            for what, readers in json.loads(crowd.line(120)):
                counts[str(what)] = counts.get(str(what), 0) + readers
    assert counts == {str(["plan", len(GRAPH), len(GRAPH), 0, "end"]): READERS}
    intervals = ROW_DELAY / RETRY_DELAY
    assert intervals / 2 <= len(workflow.checks) <= intervals + 1
