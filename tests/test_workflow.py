"""The workflow timeline demo, through its real routes: a stream that is asked for before it exists.

Guards each point of the system it comes from: the answer before the row, one check per interval however many wait, a
404 with its timing, the plan as each reader's first event, one helper for stream and JSON, and a worker whose jobs
outlive its server.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from sse_fast.demos.workflow import app
from sse_fast.demos.workflow.app import GRAPH, Workflow
from support.beats import Beats
from support.deadline import until
from support.reader import Reader, fetch
from support.workflow import JSON, QUICK, Counting, enqueue, names, of_nodes, plan_of


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return tmp_path / "data" / "workflow.sqlite"


# ---- 1. The answer comes at once, the row a moment later, then the graph runs ----


@pytest.mark.alone
def test_s1_1_a_message_is_answered_at_once_and_its_row_appears_later(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows, row_delay=1.0, pace=QUICK)
    began = time.monotonic()
    decision_set = enqueue(server)
    answered = time.monotonic() - began
    assert plan_of(server, decision_set) is None
    until(lambda: plan_of(server, decision_set), what="the row")
    assert answered < 1.0 <= time.monotonic() - began


def test_s1_1_the_worker_runs_the_graph_in_its_order(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows, row_delay=0.0, pace=QUICK)
    with Reader(server.port, f"/api/streams/{enqueue(server)}") as reader:
        events = reader.open().rest()
    # Who comes a moment late is told by the plan what has ended by then.
    ended = {name for name, node in events[0].json()["nodes"].items() if node["ended_at"] is not None}
    for event in events[1:-1]:
        node = event.json()["node"]
        if event.event == "node-start":
            assert set(GRAPH[node][1]) <= ended, f"{node} started before what it waits for had ended"
        else:
            ended.add(node)
    assert ended == set(GRAPH)
    outputs = {name: node["output"] for name, node in events[-1].json()["nodes"].items()}
    assert outputs["reply"] == f"{outputs['search']}: {outputs['shorten']}."
    assert outputs["draft"] in app.DOCUMENTS[outputs["search"]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "message"),
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": "  "}, "message"),
        ({"message": 5}, "message"),
        ({"message": "x" * 2001}, "message"),
        ({"message": "x", "fail": "nothing"}, "fail"),
        ({"message": "x", "fail": ["draft"]}, "fail"),
        ({"message": "x", "row_delay": -1}, "row_delay"),
        ({"message": "x", "row_delay": 61}, "row_delay"),
        ({"message": "x", "row_delay": "soon"}, "row_delay"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_s1_1_a_wrong_message_is_a_400_naming_the_field(serve: Serve, rows: Path, body: Any, field: str) -> None:
    server = serve()
    Workflow(server, rows)
    head, answer = fetch(server.port, "/api/chat/async", method="POST", body=json.dumps(body).encode(), headers=JSON)
    assert head.status == 400, answer
    assert json.loads(answer)["detail"].startswith(f"{field}:")


# ---- 2. The request waits for the row ----


def test_s1_2_a_request_right_after_the_answer_waits_for_the_row_and_says_so_in_the_log(
    serve: Serve, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    workflow = Counting(server, rows, row_delay=1.0, pace=QUICK)
    with caplog.at_level(logging.INFO, "sse_fast.route"):
        decision_set = enqueue(server)
        with Reader(server.port, f"/api/streams/{decision_set}") as reader:
            assert names(reader.open().rest())[0] == "plan"
        told = re.compile(r"appeared after (\d+) attempts, ([\d.]+) s")
        found = until(lambda: told.search(caplog.text), what="the log of a wait")
    assert found is not None
    assert int(found[1]) == len(workflow.checks) >= 3
    assert 0.5 <= float(found[2]) <= 20


@pytest.mark.alone
def test_s1_2_both_times_are_read_from_the_environment_and_the_404_carries_the_timing(
    serve: Serve, rows: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STREAM_DECISION_SET_MAX_WAIT", "0.9")
    monkeypatch.setenv("STREAM_DECISION_SET_RETRY_DELAY", "0.25")
    server = serve()
    workflow = Counting(server, rows)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "sse_fast.route"):
        head, body = fetch(server.port, "/api/streams/never")
        took = time.monotonic() - began
        warning = until(lambda: re.search(r"'?workflow/never.*? ([\d.]+) s \((\d+) attempts\): 404", caplog.text))
    assert warning is not None
    assert head.status == 404
    answer = json.loads(body)
    assert 0.9 <= answer["waited"] <= took
    assert answer["attempts"] == len(workflow.checks)
    assert 2 <= len(workflow.checks) <= 4, "at 0, 0.25, 0.5 and 0.75 s, or later"
    assert all(later - sooner >= 0.25 for sooner, later in zip(workflow.checks, workflow.checks[1:], strict=False))
    assert (float(warning[1]), int(warning[2])) == (answer["waited"], answer["attempts"])


def test_s1_2_the_defaults_are_a_check_each_fifth_of_a_second_for_six_seconds(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows)
    began = time.monotonic()
    head, body = fetch(server.port, "/api/streams/never")
    answer = json.loads(body)
    assert head.status == 404
    assert 6.0 <= answer["waited"] <= time.monotonic() - began
    assert answer["attempts"] <= 30


def test_s1_2_a_wrong_time_in_the_environment_is_refused_at_the_start(
    serve: Serve, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_DECISION_SET_MAX_WAIT", "soon")
    with pytest.raises(ValueError, match="soon"):
        Workflow(serve(), rows)


def test_s1_2_many_who_wait_share_one_check_each_interval_and_take_no_thread(serve: Serve, rows: Path) -> None:
    server = serve()
    workflow = Counting(server, rows, row_delay=60.0, pace=QUICK)
    decision_set = enqueue(server)
    readers = [Reader(server.port, f"/api/streams/{decision_set}") for _ in range(200)]
    try:
        until(lambda: workflow.checks and server.stats().connections == 200)
        threads, first = threading.active_count(), len(workflow.checks)
        with Beats(server, 0.2) as beats:
            seen = beats.seen()
            beats.wait(5)
            assert len(workflow.checks) - first <= beats.seen() - seen + 2
        assert threading.active_count() <= threads
    finally:
        for reader in readers:
            reader.close()


# ---- 3. The plan is each reader's first event ----


def test_s1_3_the_plan_comes_first_then_the_nodes_then_the_end(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows, row_delay=0.2, pace=QUICK)
    decision_set = enqueue(server)
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        events = reader.open().rest()
    plan = events[0].json()
    assert (events[0].event, plan["decision_set_id"], plan["status"]) == ("plan", decision_set, "running")
    assert {name: node["after"] for name, node in plan["nodes"].items()} == {
        name: list(after) for name, (_title, after, *_) in GRAPH.items()
    }
    assert sorted(of_nodes(events, "node-start")) == sorted(of_nodes(events, "node-end")) == sorted(GRAPH)
    assert names(events).count("plan") == 1
    assert (events[-1].event, events[-1].json()["status"]) == ("end", "done")
    ids = [event.own_id for event in events]
    assert [str(id_).rpartition("-")[2] for id_ in ids] == [str(number) for number in range(1, len(events) + 1)]


def test_s1_3_a_late_reader_gets_the_plan_as_it_stands_then_what_follows(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows, row_delay=0.0, pace=0.2)
    decision_set = enqueue(server)
    with Reader(server.port, f"/api/streams/{decision_set}") as early:
        early.open()
        while (event := early.next()).event != "node-end":
            pass
        with Reader(server.port, f"/api/streams/{decision_set}") as late:
            events = late.open().rest()
        rest = [event, *early.rest()]
    plan = events[0].json()
    done = {name for name, node in plan["nodes"].items() if node["status"] == "done"}
    assert (events[0].event, event.json()["node"] in done) == ("plan", True)
    # What the plan says and what follows it is what the early reader had, neither more nor less.
    assert done | set(of_nodes(events, "node-end")) == set(GRAPH)
    assert not done & set(of_nodes(events, "node-end"))
    assert [event.own_id for event in rest][-len(events) + 1 :] == [event.own_id for event in events[1:]]


def test_s1_3_a_reader_after_the_end_gets_the_plan_and_the_end(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows, row_delay=0.0, pace=QUICK)
    decision_set = enqueue(server)
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        reader.open().rest()
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        plan, end = reader.open().rest()
    assert (plan.event, end.event) == ("plan", "end")
    assert plan.json() == end.json()
    assert {node["status"] for node in plan.json()["nodes"].values()} == {"done"}


def test_s1_3_a_stream_that_was_forgotten_is_made_again_from_its_row(serve: Serve, rows: Path) -> None:
    server = serve(linger=0.05)
    Workflow(server, rows, row_delay=0.0, pace=QUICK)
    decision_set = enqueue(server)
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        last = reader.open().rest()[-1]
    until(lambda: server.streams() == [], what="the stream being forgotten")
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        events = reader.open().rest()
    assert names(events) == ["plan", "end"]
    assert events[-1].json() == last.json()


def test_s1_3_a_node_that_fails_is_told_what_waits_for_it_never_runs_and_the_stream_ends(
    serve: Serve, rows: Path
) -> None:
    server = serve()
    Workflow(server, rows, row_delay=0.0, pace=QUICK)
    with Reader(server.port, f"/api/streams/{enqueue(server, fail='search')}") as reader:
        events = reader.open().rest()
    (error,) = (event.json() for event in events if event.event == "node-error")
    assert (error["node"], error["error"]) == ("search", "the model did not answer")
    assert set(of_nodes(events, "node-start")) == {"understand", "search", "count"}
    assert set(of_nodes(events, "node-end")) == {"understand", "count"}
    end = events[-1].json()
    assert (events[-1].event, end["status"], end["nodes"]["draft"]["status"]) == ("end", "failed", "waiting")


# ---- 4. The same plan as JSON ----


def test_s1_4_the_plan_is_served_as_json_and_is_the_snapshot(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows, row_delay=0.0, pace=0.1)
    decision_set = enqueue(server)
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        reader.open().take(3)
        # A node may end between the two requests: then both are asked for again.
        until(lambda: _snapshot(server, decision_set) == plan_of(server, decision_set), what="the same plan twice")
        reader.rest()
    plan = plan_of(server, decision_set)
    assert plan is not None
    assert (plan["status"], _snapshot(server, decision_set)) == ("done", plan)


def _snapshot(server: sse_fast.Server, decision_set: str) -> Any:
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        return reader.open().next().json()


def test_s1_4_a_plan_that_there_is_not_is_404(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows)
    head, body = fetch(server.port, "/api/streams/none/plan")
    assert (head.status, "none" in json.loads(body)["detail"]) == (404, True)


# ---- 5. Set up when it is enqueued, nothing waits ----


def test_s1_5_a_stream_that_is_set_up_when_enqueued_answers_at_once_and_nothing_is_checked(
    serve: Serve, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_DECISION_SET_MAX_WAIT", "0")  # With this, who has to wait is told 404.
    server = serve(heartbeat=0.05)
    workflow = Counting(server, rows, row_delay=1.5, pace=QUICK)
    decision_set = enqueue(server, subscribe=True)
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        reader.open().read_until(lambda: reader.parser.comments, what="a heartbeat before the row")
        assert plan_of(server, decision_set) is None
        assert names(reader.rest())[0] == "plan"
    assert workflow.checks == []


# ---- 6. Heartbeats only, no events ----


def test_s1_6_a_stream_with_heartbeats_and_no_event_shows_its_silence_in_the_stats(serve: Serve, rows: Path) -> None:
    server = serve(heartbeat=0.05)
    Workflow(server, rows, row_delay=60.0)
    with Reader(server.port, f"/api/streams/{enqueue(server, subscribe=True)}") as reader:
        reader.open()
        (stream,) = server.streams()
        before, began = stream.stats().silent_s, time.monotonic()
        reader.read_until(lambda: len(reader.parser.comments) >= 4, what="four heartbeats")
        assert stream.stats().silent_s - before >= 0.1
        assert stream.stats().silent_s - before <= time.monotonic() - began + 0.05


def test_s1_6_a_stream_that_stays_silent_is_told_of_once_and_marked(
    serve: Serve, rows: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "STALL_AFTER", 0.3)
    server = serve(heartbeat=0.05)
    Workflow(server, rows, row_delay=0.0, pace=60.0)  # Each node takes much longer than that.
    decision_set = enqueue(server, subscribe=True)

    def listed() -> dict[str, Any]:
        plans = json.loads(fetch(server.port, "/api/chat")[1])
        return next((plan for plan in plans if plan["decision_set_id"] == decision_set), {})

    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        assert reader.open().next().event == "plan"
        until(lambda: listed().get("stalled"), what="the mark")
        reader.read_until(lambda: len(reader.parser.comments) >= 10, what="heartbeats for longer than that")
        told = [record.getMessage() for record in caplog.records if "is stalled" in record.getMessage()]
        assert len(told) == 1
        assert decision_set in told[0]
    until(lambda: listed()["stalled"] is False, what="nobody reading it any more")
