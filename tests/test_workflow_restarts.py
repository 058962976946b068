"""The workflow timeline demo: restarts in the middle, and a reader that never reads.

Guards that jobs outlive their server, that no node which has ended runs again, that two servers never write one row,
and that what the page's panel does proves what it says.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import Serve
from sse_fast.demos.workflow import app, slow_reader
from sse_fast.demos.workflow.app import GRAPH, Workflow
from support.deadline import until
from support.reader import Reader, fetch
from support.sse import Event
from support.workflow import JSON, QUICK, enqueue, names, of_nodes, plan_of


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return tmp_path / "data" / "workflow.sqlite"


# ---- A restart in the middle ----


def test_a_restart_in_the_middle_goes_on_from_the_rows_and_loses_no_reader(serve: Serve, rows: Path) -> None:
    first = serve()
    Workflow(first, rows, row_delay=0.0, pace=0.1)
    decision_set = enqueue(first)
    with Reader(first.port, f"/api/streams/{decision_set}") as reader:
        reader.open()
        before = [reader.next()]
        while before[-1].event != "node-end":
            before.append(reader.next())
        first.close(drain=0.0)
    second = serve(first.port)
    Workflow(second, rows, pace=0.1)
    with Reader(second.port, f"/api/streams/{decision_set}", last_event_id=before[-1].own_id) as reader:
        events = reader.open().rest()
    assert names(events)[:2] == ["gap", "plan"]
    assert (events[0].json()["skipped"], events[-1].event, events[-1].json()["status"]) == (None, "end", "done")
    done = {name for name, node in events[1].json()["nodes"].items() if node["status"] == "done"}
    assert set(of_nodes(before, "node-end")) <= done, "what had ended is not run again"
    assert not done & set(of_nodes(events, "node-start"))
    assert done | set(of_nodes(events, "node-end")) == set(GRAPH)


def test_what_was_enqueued_and_has_no_row_yet_survives_a_restart(serve: Serve, rows: Path) -> None:
    first = serve()
    Workflow(first, rows, row_delay=0.6, pace=QUICK)
    decision_set = enqueue(first)
    first.close(drain=0.0)
    second = serve(first.port)
    Workflow(second, rows, pace=QUICK)
    with Reader(second.port, f"/api/streams/{decision_set}") as reader:
        events = reader.open().rest()
    assert (names(events)[0], events[-1].json()["status"]) == ("plan", "done")


def test_a_worker_whose_job_was_taken_over_writes_nothing_more(serve: Serve, rows: Path) -> None:
    first, second = serve(), serve()
    others = set(threading.enumerate())  # Workers of other tests may still wait for their row's time.
    Workflow(first, rows, row_delay=0.0, pace=0.1)
    decision_set = enqueue(first)
    with Reader(first.port, f"/api/streams/{decision_set}") as reader:
        reader.open().take(2)
        Workflow(second, rows, pace=0.1)
        with Reader(second.port, f"/api/streams/{decision_set}") as other:
            end = other.open().rest()[-1]
        until(lambda: not _workers() - others, what="both workers ending")
        assert "end" not in names(reader.parser.events)
    assert plan_of(second, decision_set) == end.json()
    with sqlite3.connect(rows) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


def _workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_work" in thread.name}


# ---- What the panel does ----


def test_a_reader_that_never_reads_takes_no_event_from_another(serve: Serve, rows: Path) -> None:
    server = serve()
    Workflow(server, rows, row_delay=0.0, pace=1.0)
    slow_reader.install(server)
    decision_set = enqueue(server)
    with Reader(server.port, f"/api/streams/{decision_set}") as reader:
        reader.open().take(2)
        answer: list[Any] = []

        def flood() -> None:
            body = json.dumps({"decision_set_id": decision_set}).encode()
            answer.append(fetch(server.port, "/api/workflow/slow-reader", method="POST", body=body, headers=JSON))

        thread = threading.Thread(target=flood)
        thread.start()
        floods = until_flooded(reader, slow_reader.EVENTS)
        thread.join()
    assert [event.json()["number"] for event in floods] == list(range(slow_reader.EVENTS))
    head, body = answer[0]
    assert head.status == 200, body
    assert json.loads(body)["events"] == slow_reader.EVENTS
    assert json.loads(body)["subscribers"] == 2, "the other reader was not there to the end"
    assert server.stats().blocked >= 1, "the other reader's socket did not fill, so nothing was proven"


def until_flooded(reader: Reader, count: int) -> list[Event]:
    floods: list[Event] = []
    while len(floods) < count:
        event = reader.next()
        assert event.event != "gap", event
        floods += [event] if event.event == "flood" else []
    return floods


def test_a_flood_of_what_has_ended_is_refused(serve: Serve, rows: Path) -> None:
    server = serve()
    slow_reader.install(server)
    body = b'{"decision_set_id": "none"}'
    head, _ = fetch(server.port, "/api/workflow/slow-reader", method="POST", body=body, headers=JSON)
    assert head.status == 409


def test_the_application_is_one_file_that_can_be_copied() -> None:
    text = Path(str(app.__file__)).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 250
    assert re.findall(r"^(?:from|import) sse_fast.*", text, re.MULTILINE) == ["import sse_fast"]
