"""The four systems that the demos are made after, point by point, and that each point has tests which name it.

A test of `test_s1_3_...` holds point 3 of system 1. Most are in the files of the demos; points that only real time or a
crowd shows are in slow/.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
POINTS = {
    # The benchmark runner.
    "s0_1": "a submission is checked and answered by its stream; others read the same stream",
    "s0_2": "marked lines are events, and no byte of a log is in the stream",
    "s0_3": "the provisioner is asked each 5 s, by the runner or by a watch, and changes alone are reported",
    "s0_4": "named heartbeats each 15 s, whatever is blocked",
    "s0_5": "the page shows no heartbeat, gives up after 15 minutes, resumes without loss or repetition",
    "s0_6": "BENCHMARKED always arrives",
    "s0_7": "a row follows every status, and what was not measured is NULL",
    "s0_8": "a second submission finds a warm machine",
    # The workflow timeline.
    "s1_1": "an id at once, its row a moment later, then the graph",
    "s1_2": "who asks for the stream waits: one check each interval, then 404 with its timing",
    "s1_3": "the plan is every reader's first event, then the nodes, then the end",
    "s1_4": "the same plan as JSON",
    "s1_5": "a stream that is set up when enqueued needs no wait",
    "s1_6": "heartbeats without events are a signal: stats, one warning, a mark",
    # Prefill.
    "s2_1": "an OpenAI-style stream that the official client reads",
    "s2_2": "a heartbeat by the clock, also while C holds the interpreter",
    "s2_3": "head with the first bytes, nothing interleaved, a client that hangs up stops the work",
    "s2_4": "attached and detached around each phase, nested, also by an exception",
    "s2_5": "the tokens arrive after a stall longer than the client's patience",
    # Approvals and clarifications.
    "s3_1": "`initial` with head and count, and nothing lost or doubled after it",
    "s3_2": "every event is the head and the count, in the order of the changes",
    "s3_3": "a bounded queue, whose reader gets the newest after a burst",
    "s3_4": "a comment each 30 s, and nothing is left of who leaves",
    "s3_5": "empty and populated queues answer in well under 2 s, over the real route",
    "s3_6": "the page: polling and back, a health timer that leaves the healthy alone, clean switches",
}


@pytest.mark.parametrize("point", POINTS)
def test_a_point_has_tests_that_name_it(point: str) -> None:
    named = re.compile(rf"^def test_{point}_\w+\(", re.MULTILINE)
    assert [path for path in TESTS.rglob("test_*.py") if named.search(path.read_text(encoding="utf-8"))], POINTS[point]


def test_a_test_that_names_a_point_names_one_that_there_is() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    assert set(re.findall(r"^def test_(s\d_\d+)_", text, re.MULTILINE)) == set(POINTS)
