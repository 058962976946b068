"""The benchmark runner demo, over real HTTP, processes and SQLite.

Guards the system sse_fast was made for: a submission is answered by its stream,
statuses come on change only and each once, heartbeats go out through silence, logs
never reach the stream, BENCHMARKED always arrives, and the row in the database
tells the truth: what was not measured is NULL, never 0.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sse_fast.demos.benchmarks.settings import Settings
from support.deadline import until
from support.demo import FAST, JSON, START, Demo, running_demo
from support.process import Program, run_program
from support.proxy import Proxy
from support.reader import Reader, fetch
from support.sse import Event

STATUSES = ["IN_QUEUE", "PROVISIONING", "COMPILING", "BENCHMARKING", "BENCHMARKED"]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with running_demo(tmp_path) as running:
        yield running


def statuses(events: list[Event]) -> list[str]:
    return [event.event for event in events if event.event != "heartbeat"]


def next_status(reader: Reader) -> Event:
    while (event := reader.next()).event == "heartbeat":
        pass
    return event


def stored(demo: Demo, submission_id: str) -> dict[str, Any]:
    """The row as another program sees it in the file."""
    database = sqlite3.connect(f"file:{demo.data / 'submissions.sqlite'}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    try:
        row = database.execute("SELECT * FROM submissions WHERE id = ?", (submission_id,)).fetchone()
    finally:
        database.close()
    assert row is not None
    return dict(row)


def test_s0_1_a_submission_is_answered_by_its_stream_with_every_status_once(demo: Demo) -> None:
    with demo.submit(submission_id="a1") as reader:
        events = reader.open().rest()
    assert statuses(events) == [*STATUSES, "end"]
    ids = [event.own_id for event in events if event.event != "heartbeat"]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    for event in events:
        if event.event in STATUSES:
            assert event.json()["status"] == event.event
    end = events[-1].json()
    assert (end["exit_code"], end["signal"], end["status"]) == (0, None, "BENCHMARKED")


def test_s0_3_a_status_that_passed_between_two_polls_is_reported_too(tmp_path: Path) -> None:
    """The runner may be starved for longer than a machine takes; what the page shows must not depend on it."""
    quick = {"SSE_FAST_DEMO_QUEUE": "0.2", "SSE_FAST_DEMO_PROVISIONING": "0.2", "SSE_FAST_DEMO_POLL": "1"}
    with running_demo(tmp_path, quick) as demo, demo.submit(submission_id="a1") as reader:
        assert statuses(reader.open().rest()) == [*STATUSES, "end"]


def test_s0_3_the_runner_asks_again_and_again_and_reports_changes_only(tmp_path: Path) -> None:
    asked = "provisioner says PROVISIONING; asking again in 0.05 s"
    with running_demo(tmp_path, {"SSE_FAST_DEMO_POLL": "0.05"}) as demo, demo.submit(submission_id="a1") as reader:
        assert statuses(reader.open().rest()) == [*STATUSES, "end"]
        with Reader(demo.port, "/streams/benchmarks/log") as log:
            log.open()
            log.read_until(lambda: sum(asked in event.data for event in log.parser.events) > 3, what="several looks")


def test_s0_3_in_real_life_the_runner_asks_each_5_s() -> None:
    assert Settings.from_environment(speed=1.0).poll == 5.0


def test_s0_6_benchmarked_arrives_from_runners_that_exit_in_the_same_moment(demo: Demo) -> None:
    """A machine that is warm lets a runner say everything and be gone."""
    for number in range(6):
        with demo.submit(submission_id=f"b{number}") as poster:
            poster.open()
            with Reader(demo.port, f"/api/submissions/b{number}/stream") as other:
                ends = [statuses(reader.rest())[-2:] for reader in (poster, other.open())]
        assert ends == [["BENCHMARKED", "end"]] * 2


def test_s0_4_named_heartbeats_go_out_through_the_silence_and_carry_no_id(demo: Demo) -> None:
    with demo.submit(submission_id="a1") as reader:
        events = reader.open().rest()
    beats = [event for event in events if event.event == "heartbeat"]
    assert len(beats) >= 3
    assert all(event.own_id is None for event in beats)
    assert all(list(event.json()) == ["timestamp"] for event in beats)


def test_s0_2_no_byte_of_the_runner_s_log_is_in_the_stream(demo: Demo) -> None:
    with demo.submit(submission_id="a1") as reader:
        reader.open().rest()
        body = bytes(reader.body)
    for line in ("benchmark-runner", "INFO", "Sending SSE event", "machine ready", "SSE_EVENT"):
        assert line.encode() not in body
    # The operator sees it, in a stream of its own.
    with Reader(demo.port, "/streams/benchmarks/log") as log:
        log.open()
        log.read_until(
            lambda: any("machine ready" in event.data for event in log.parser.events), what="the runner's log"
        )


def test_s0_1_second_readers_get_the_same_stream_at_any_moment(demo: Demo) -> None:
    with demo.submit(submission_id="a1") as first:
        first.open().next()
        with Reader(demo.port, "/api/submissions/a1/stream") as second:
            assert statuses(second.open().rest()) == [*STATUSES, "end"]
        first_events = first.rest()
    assert statuses(first_events)[-1] == "end"
    with Reader(demo.port, "/api/submissions/a1/stream") as late:
        assert statuses(late.open().rest()) == [*STATUSES, "end"]


def test_s0_7_the_row_follows_every_status_and_ends_accepted(demo: Demo) -> None:
    seen = []
    with demo.submit(submission_id="a1", kernel="matmul", size=30) as reader:
        reader.open()
        while not seen or seen[-1] != "end":
            event = reader.next()
            if event.event == "heartbeat":
                continue
            seen.append(event.event)
            if event.event in STATUSES[:2]:
                until(lambda event=event: demo.row("a1")["status"] == event.event, what=f"{event.event} in the row")
                assert stored(demo, "a1")["runtime_ms"] is None
    row = demo.finished_row("a1")
    assert row["status"] == "ACCEPTED"
    assert row["runtime_ms"] > 0
    assert row["gflops"] > 0
    assert row["exit_code"] == 0
    assert row["created_at"] <= row["updated_at"] <= row["finished_at"]
    assert [status["status"] for status in row["timeline"]] == STATUSES
    in_file = stored(demo, "a1")
    assert (in_file["status"], in_file["runtime_ms"], in_file["exit_code"]) == ("ACCEPTED", row["runtime_ms"], 0)


def test_s0_7_a_run_that_takes_too_long_is_ended_and_its_row_says_failed(tmp_path: Path) -> None:
    env = {"SSE_FAST_DEMO_PROVISIONING": "60", "SSE_FAST_DEMO_RUN_TIMEOUT": "1.5"}
    with running_demo(tmp_path, env) as demo, demo.submit(submission_id="a1") as reader:
        events = reader.open().rest()
        assert "timeout" in events[-1].data
        row = demo.finished_row("a1")
        assert (row["status"], row["runtime_ms"]) == ("FAILED", None)


def test_s0_8_a_second_submission_finds_a_warm_machine(tmp_path: Path) -> None:
    with running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "2"}) as demo:
        with demo.submit(submission_id="cold") as reader:
            assert "PROVISIONING" in statuses(reader.open().rest())
        demo.finished_row("cold")
        with demo.submit(submission_id="warm") as reader:
            events = reader.open().rest()
        assert statuses(events) == ["IN_QUEUE", "COMPILING", "BENCHMARKING", "BENCHMARKED", "end"]
        row = demo.finished_row("warm")
        assert row["status"] == "ACCEPTED"
        assert row["finished_at"] - row["created_at"] < 30
        with demo.submit(submission_id="other", gpu="H100") as reader:
            assert "PROVISIONING" in statuses(reader.open().rest()), "another GPU is another machine"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", "body"),
        (b"null", "body"),
        ({}, "submission_id"),
        ({"submission_id": ""}, "submission_id"),
        ({"submission_id": 5}, "submission_id"),
        ({"submission_id": "../../etc/passwd"}, "submission_id"),
        ({"submission_id": "a" * 65}, "submission_id"),
        ({"submission_id": "benchmark"}, "submission_id"),
        ({"submission_id": "a\nb"}, "submission_id"),
        ({"submission_id": "a", "kernel": "saxpy"}, "gpu"),
        ({"submission_id": "a", "gpu": "RTX", "kernel": "saxpy"}, "gpu"),
        ({"submission_id": "a", "gpu": ["H100"], "kernel": "saxpy"}, "gpu"),
        ({"submission_id": "a", "gpu": "H100"}, "code"),
        ({"submission_id": "a", "gpu": "H100", "code": ""}, "code"),
        ({"submission_id": "a", "gpu": "H100", "code": "  \n"}, "code"),
        ({"submission_id": "a", "gpu": "H100", "code": 5}, "code"),
        ({"submission_id": "a", "gpu": "H100", "code": "x" * 70_000}, "code"),
        ({"submission_id": "a", "gpu": "H100", "kernel": "nope"}, "kernel"),
        ({"submission_id": "a", "gpu": "H100", "kernel": "saxpy", "size": 0}, "size"),
        ({"submission_id": "a", "gpu": "H100", "kernel": "saxpy", "size": 1.5}, "size"),
        ({"submission_id": "a", "gpu": "H100", "kernel": "saxpy", "size": True}, "size"),
        ({"submission_id": "a", "gpu": "H100", "kernel": "saxpy", "surprise": 1}, "surprise"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_s0_1_a_bad_submission_is_a_400_naming_the_field(bad_demo: Demo, body: Any, field: str | None) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head, answer = fetch(bad_demo.port, "/api/submissions/benchmark", method="POST", body=raw, headers=JSON)
    assert head.status == 400, answer
    value = json.loads(answer)
    assert set(value) == {"error", "detail"}
    if field:
        assert value["detail"].startswith(f"{field}:")
    assert json.loads(fetch(bad_demo.port, "/api/submissions")[1]) == []


@pytest.fixture(scope="module")
def bad_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all that is refused: refusals leave nothing behind."""
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


def test_the_same_id_twice_is_refused_and_the_first_run_is_undisturbed(demo: Demo) -> None:
    with demo.submit(submission_id="a1") as first:
        first.open()
        with demo.submit(submission_id="a1") as second:
            assert second.read_head().status == 409
        assert statuses(first.rest())[-2:] == ["BENCHMARKED", "end"]


def test_a_submission_from_another_origin_is_403(demo: Demo) -> None:
    head, _ = fetch(
        demo.port,
        "/api/submissions/benchmark",
        method="POST",
        body=b"{}",
        headers=[*JSON, ("Origin", "https://evil.example")],
    )
    assert head.status == 403


def test_an_unknown_submission_is_404(demo: Demo) -> None:
    assert fetch(demo.port, "/api/submissions/none")[0].status == 404
    assert fetch(demo.port, "/api/submissions/none/stream")[0].status == 404


def test_s0_6_benchmarked_arrives_over_a_connection_that_is_cut_again_and_again(demo: Demo) -> None:
    with Proxy(demo.port) as proxy, demo.submit(submission_id="a1") as poster:
        poster.open()
        seen: list[Event] = []
        last: str | None = None
        while not seen or seen[-1].event != "end":
            with Reader(proxy.port, "/api/submissions/a1/stream", last_event_id=last) as reader:
                reader.open()
                event = reader.next()
                if event.event != "heartbeat":
                    seen.append(event)
                    last = event.own_id
                proxy.cut()
        assert statuses(seen) == [*STATUSES, "end"]


def test_s0_6_benchmarked_arrives_at_a_reader_that_reads_nothing_until_the_end(demo: Demo) -> None:
    with demo.submit(submission_id="a1") as poster:
        poster.open()
        with Reader(demo.port, "/api/submissions/a1/stream") as slow:
            poster.rest()
            assert statuses(slow.open().rest()) == [*STATUSES, "end"]


def test_many_submissions_at_once_do_not_mix(demo: Demo) -> None:
    results: dict[str, list[str]] = {}

    def one(number: int) -> None:
        with demo.submit(submission_id=f"m{number}", size=20) as reader:
            results[f"m{number}"] = statuses(reader.open().rest(60))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for name, seen in results.items():
        assert seen[0] == "IN_QUEUE", name
        assert seen[-2:] == ["BENCHMARKED", "end"], (name, seen)
        assert len(seen) == len(set(seen)), (name, seen)


def test_sigterm_ends_runs_says_so_and_exits_with_zero(tmp_path: Path) -> None:
    with (
        running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "60"}) as demo,
        demo.submit(submission_id="a1") as reader,
    ):
        assert next_status(reader.open()).event == "IN_QUEUE"
        demo.program.send_signal(signal.SIGTERM)
        assert statuses(reader.rest())[-1] == "end"
        assert demo.program.wait() == 0
        row = stored(demo, "a1")
        assert row["status"] == "INTERRUPTED"
        assert row["runtime_ms"] is None


def test_after_a_crash_the_next_start_finishes_what_was_interrupted(tmp_path: Path) -> None:
    env = {"SSE_FAST_DEMO_PROVISIONING": "60"}
    with running_demo(tmp_path, env) as demo, demo.submit(submission_id="a1") as reader:
        first = next_status(reader.open())
        until(lambda: demo.row("a1")["status"] == "IN_QUEUE")
        demo.program.process.kill()
        demo.program.wait()
    with running_demo(tmp_path, env) as demo:
        row = demo.finished_row("a1")
        assert row["status"] == "INTERRUPTED"
        assert row["runtime_ms"] is None
        with Reader(demo.port, "/api/submissions/a1/stream", last_event_id=first.own_id) as reader:
            seen = statuses(reader.open().rest())
        assert "IN_QUEUE" not in seen, "a status was repeated"
        assert seen[-1] == "end"


def test_once_submits_prints_and_exits(tmp_path: Path) -> None:
    program = run_program(START, "demo", "--once", "--data", tmp_path, env=FAST, deadline=60)
    text = "\n".join(program.lines)
    for status in STATUSES:
        assert text.count(f" {status} ") == 1, text
    assert "heartbeat" not in text
    assert "ACCEPTED" in text


def test_push_submits_and_goes_on_serving(tmp_path: Path) -> None:
    with Program(START, "demo", "--push", "--port", 0, "--data", tmp_path, env=FAST) as program:
        url = program.line_with("sse_fast demos:").split()[0]
        program.line_with("See it at", 60)
        port = int(url.rstrip("/").rpartition(":")[2])
        for path in ("/", "/benchmarks", "/sse-fast.js"):
            assert fetch(port, path)[0].status == 200
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "env", "code"),
    [
        (["demo", "--speed", "0"], {}, 2),
        (["demo", "--speed", "x"], {}, 2),
        (["demo", "--port", "x"], {}, 2),
        (["demo", "--once", "--push"], {}, 2),
        (["nothing"], {}, 2),
        ([], {}, 2),
        (["demo", "--port", "70000"], {}, 1),
        (["demo", "--once"], {"SSE_FAST_DEMO_QUEUE": "soon"}, 1),
        (["demo", "--once"], {"SSE_FAST_HISTORY": "none"}, 1),
        (["demo", "--once"], {"SSE_FAST_DEMO_PACE": "-1"}, 1),
        (["demo", "--once"], {"STREAM_DECISION_SET_MAX_WAIT": "soon"}, 1),
    ],
    ids=repr,
)
def test_wrong_arguments_end_with_a_message_and_a_code(
    tmp_path: Path, arguments: list[str], env: dict[str, str], code: int
) -> None:
    data = ["--data", str(tmp_path)] if arguments[:1] == ["demo"] else []
    with Program(START, *arguments, *data, env=env) as program:
        assert program.wait() == code
        assert program.stderr.strip()
        assert "Traceback" not in program.stderr


def test_version_is_printed(tmp_path: Path) -> None:
    import sse_fast

    assert run_program(START, "--version").lines == [f"sse-fast {sse_fast.__version__}"]
