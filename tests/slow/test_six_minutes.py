"""Six real minutes of provisioning, by the wall clock, as the benchmark runner of the demo lives through them.

Everything is real but the machine that is waited for: the server in a process of its own, the route, the runner as its
child process, a provisioner that takes 363 s, a heartbeat every 15 s. For 20 s of it the server's interpreter is held
in C and no Python runs there. `make test-slow` runs this; `make test` does not collect it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from pathlib import Path

import pytest

from support.deadline import until
from support.demo import Demo
from support.process import Program
from support.reader import Reader
from support.sse import Event

INTERVAL = 15.0
#: Of what the contract says about a gap: 15 s, give or take this.
TOLERANCE = 1.0
#: The runner asks every 5 s, so the status after it comes between 363 and 370 s: after heartbeat 24, before number 25.
PROVISIONING = 363.0
HEARTBEATS = 24

#: The demo, and 100 s later a thread that sleeps in C without letting go of the interpreter. A second thread watches
#: the clock: how long it could not run is how long the interpreter was held.
SERVER = """
import ctypes, os, sys, threading, time
from pathlib import Path
from sse_fast import demos

def watch_the_clock():
    before = time.monotonic()
    while True:
        time.sleep(0.05)  # How often it looks; it is held for 400 times as long.
        now = time.monotonic()
        if now - before > 15.0:
            print("held", before, now, flush=True)
        before = now

def hold():
    time.sleep(100.0)  # Provisioning is well under way.
    ctypes.PyDLL(None).sleep(20)  # What the test is about: longer than a heartbeat's interval.

with demos.serve(demos.Place(Path(sys.argv[1]), local=True, speed=1.0), port=0) as server:
    print("sse_fast demos:", server.url, flush=True)
    for work in (watch_the_clock, hold):
        threading.Thread(target=work, daemon=True).start()
    server.wait()
"""

Timed = tuple[float, Event]


def follow(reader: Reader, into: list[Timed]) -> None:
    """Every event up to the last, with the moment of its arrival."""
    while not into or into[-1][1].event != "end":
        event = reader.next(deadline=60.0)
        into.append((time.monotonic(), event))


def assert_heartbeats(events: list[Timed], since: float) -> None:
    """24 heartbeats between `since` and COMPILING, each 15 s after the one before."""
    names = [event.event for _, event in events]
    compiling = names.index("COMPILING")
    beats = [(when, event) for when, event in events[:compiling] if event.event == "heartbeat" and when > since]
    moments = [since, *(when for when, _ in beats)]
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(moments)]
    assert len(beats) == HEARTBEATS, gaps
    assert all(abs(gap - INTERVAL) <= TOLERANCE for gap in gaps), gaps
    assert events[compiling][0] - moments[-1] < INTERVAL + TOLERANCE
    offset = time.time() - time.monotonic()
    for when, event in beats:
        assert list(event.json()) == ["timestamp"]
        assert abs(event.json()["timestamp"] / 1000 - (when + offset)) < TOLERANCE
        assert event.own_id is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_s0_4_six_minutes_carry_twenty_four_heartbeats_while_the_interpreter_is_held(tmp_path: Path) -> None:
    settings = {"SSE_FAST_DEMO_QUEUE": "0", "SSE_FAST_DEMO_PROVISIONING": str(PROVISIONING)}
    with Program(SERVER, tmp_path, env=settings) as program:
        demo = Demo(program, tmp_path)
        posted: list[Timed] = []
        second: list[Timed] = []
        with contextlib.ExitStack() as stack:
            poster = stack.enter_context(demo.submit(submission_id="slow")).open()
            other = stack.enter_context(Reader(demo.port, "/api/submissions/slow/stream")).open()
            threads = [threading.Thread(target=follow, args=pair) for pair in ((poster, posted), (other, second))]
            for thread in threads:
                thread.start()
            # The clock of this process and of the server's are one: CLOCK_MONOTONIC.
            began, ended = map(float, program.line_with("held", 180).split())
            assert ended - began >= 19.9
            for thread in threads:
                thread.join(400)
            assert not any(thread.is_alive() for thread in threads)
        for events in (posted, second):
            silent_since = next(when for when, event in events if event.event == "PROVISIONING")
            assert_heartbeats(events, silent_since)
            assert any(began < when < ended and event.event == "heartbeat" for when, event in events)
            assert [event.event for _, event in events if event.event != "heartbeat"] == [
                "IN_QUEUE",
                "PROVISIONING",
                "COMPILING",
                "BENCHMARKING",
                "BENCHMARKED",
                "end",
            ]
        assert until(lambda: demo.row("slow")["finished_at"] and demo.row("slow"))["status"] == "ACCEPTED"
