"""The approvals demo, point by point of its system (S3), through the real routes and over real sockets.

Guards what its write-up lost: a handler that took its own lock twice, events in another order than the changes, a full
queue that nobody had thought of, and what is left behind by readers that come and go. It is long because each point of
the system has its tests here, in the order of the points.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from sse_fast import testing
from sse_fast.demos import approvals
from support.deadline import until
from support.left_behind import descriptors, threads
from support.process import Program
from support.questions import Caller, arrivals_among_changes, follow, hasty, head_and_count, in_threads, place, recorded
from support.sse import Event

KINDS = ("clarify", "approval")
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def app(server: sse_fast.Server, tmp_path: Path) -> sse_fast.Server:
    approvals.install(server, tmp_path)
    return server


@pytest.fixture
def caller(app: sse_fast.Server) -> Iterator[Caller]:
    with Caller(app.port) as one:
        yield one


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns after microseconds, so that what is not done in one step comes apart."""
    with hasty():
        yield


# ---- S3.1 ----


@every_kind
def test_s3_1_the_first_event_is_initial_with_head_and_count(app: sse_fast.Server, caller: Caller, kind: str) -> None:
    with follow(app.port, kind=kind) as reader:
        first = reader.open().next()
        assert (first.event, first.json()) == ("initial", {"pending": None, "pending_count": 0})
    numbers = [caller.submit(text, kind=kind, detail="why") for text in ("first", "second", "third")]
    with follow(app.port, kind=kind) as reader:
        first = reader.open().next()
    assert (first.event, head_and_count(first)) == ("initial", (numbers[0], 3))
    head = first.json()["pending"]
    assert (head["text"], head["detail"], head["kind"], head["answer"]) == ("first", "why", kind, None)


def test_s3_1_no_question_between_snapshot_and_tail_is_lost_or_doubled(
    app: sse_fast.Server, hasty_threads: None
) -> None:
    """Two thousand readers come while the queue changes; what each sees is held against every change there was."""
    arrivals_among_changes(app, changing=2, coming=2, arrivals=2000)


# ---- S3.2 ----


@every_kind
def test_s3_2_every_event_carries_the_head_and_the_last_answer_empties_the_card(
    app: sse_fast.Server, caller: Caller, kind: str
) -> None:
    answer = "approve" if kind == "approval" else "yes"
    with follow(app.port, kind=kind) as reader:
        reader.open().next()
        first, second, third = (caller.submit(text, kind=kind) for text in ("first", "second", "third"))
        assert [head_and_count(event) for event in reader.take(3)] == [(first, 1), (first, 2), (first, 3)]
        assert caller.resolve(second, answer, kind=kind) == 200, "one that is not the head may be answered, too"
        assert caller.resolve(first, answer, kind=kind) == 200
        assert caller.resolve(third, answer, kind=kind) == 200
        events = reader.take(3)
        assert [head_and_count(event) for event in events] == [(first, 2), (third, 1), (None, 0)]
        assert events[-1].json() == {"pending": None, "pending_count": 0}
        assert {event.event for event in events} == {kind}


def test_s3_2_queues_of_other_sessions_and_of_the_other_kind_hear_nothing(app: sse_fast.Server, caller: Caller) -> None:
    with follow(app.port, "a") as first, follow(app.port, "b") as second, follow(app.port, "a", "approval") as third:
        for reader in (first, second, third):
            reader.open().next()
        caller.submit("for a", "a")
        assert head_and_count(first.next())[1] == 1
        caller.submit("for b", "b")
        caller.submit("for a", "a", "approval")
        assert second.next().json()["pending"]["text"] == "for b"
        assert third.next().json()["pending"]["kind"] == "approval"
        first.assert_silent(0.1)


@pytest.mark.timeout(240)
def test_s3_2_ten_thousand_changes_of_eight_threads_have_one_order_for_every_reader(
    app: sse_fast.Server, hasty_threads: None
) -> None:
    """Readers come, resume and go all the time. Their events are of one order, and each step in it is one change."""
    stop = threading.Event()
    visits: list[list[Event]] = []

    def change(number: int) -> None:
        chance, waiting = random.Random(number), list[int]()
        with Caller(app.port) as caller:
            for turn in range(1250):
                if waiting and chance.random() < 0.5:
                    assert caller.resolve(waiting.pop(chance.randrange(len(waiting)))) == 200
                else:
                    waiting.append(caller.submit(f"{number}/{turn}"))

    def read(number: int) -> None:
        chance, last_id = random.Random(number), None
        while not stop.is_set():
            with follow(app.port, last_event_id=last_id if chance.random() < 0.5 else None) as reader:
                events = reader.open().take(1)
                while len(events) < 40 and not stop.is_set():
                    if reader.parser.events[len(events) :] or reader.pump():
                        events += reader.take(len(reader.parser.events) - len(events))
            visits.append(events)
            last_id = events[-1].own_id or last_id

    reading = threading.Thread(target=in_threads, args=[read, 4])
    with recorded(app) as everything:
        reading.start()
        try:
            in_threads(change, 8)
        finally:
            stop.set()
            with Caller(app.port) as caller:
                caller.submit("the last, which wakes every reader")
            reading.join()
    assert sorted(everything) == list(range(10_002)), "there is one event for each change"
    states = [json.loads(everything[number]) for number in sorted(everything)]
    for before, after in itertools.pairwise(states):
        assert_one_change(before, after)
    for visit in visits:
        places = [place(event) for event in visit if event.event != "gap"]
        assert places == sorted(places)
        assert [event.data for event in visit if event.event != "gap"] == [everything[number] for number in places]
    assert sum(map(len, visits)) > 5000


def assert_one_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    """One question came to the end of the queue, or one left it."""
    step = after["pending_count"] - before["pending_count"]
    heads = [state["pending"]["id"] if state["pending"] else None for state in (before, after)]
    assert (heads[1] is None) == (after["pending_count"] == 0)
    if step == 1:
        assert heads[0] in {None, heads[1]}
    else:
        assert step == -1
        assert heads[1] is None or heads[1] >= heads[0]


def test_s3_2_of_eight_that_answer_one_question_one_is_heard(app: sse_fast.Server, caller: Caller) -> None:
    for _ in range(20):
        question = caller.submit("which?")
        statuses: list[int] = []

        def answer(number: int, question: int = question, statuses: list[int] = statuses) -> None:
            with Caller(app.port) as own:
                statuses.append(own.resolve(question, f"answer {number}"))

        in_threads(answer, 8)
        assert sorted(statuses) == [200] + [409] * 7
    status, answer_ = caller.call("/api/clarify/resolve", {"session_id": "s", "id": question, "answer": "late"})
    assert (status, answer_["error"]) == (409, "already_resolved")
    assert answer_["detail"].startswith("it was answered before: answer ")


# ---- S3.3 ----


def test_s3_3_a_reader_that_does_not_read_goes_on_with_the_newest_head_after_a_burst(
    app: sse_fast.Server, caller: Caller
) -> None:
    with follow(app.port, receive_buffer=2048) as reader:
        reader.open().next()
        first = caller.submit("the head " + "x" * 1000)
        for number in range(1, 500):
            caller.submit(f"{number} " + "x" * 1000)
        stats = app.stream("clarify/s").stats()
        assert stats.retained <= 16
        assert stats.retained_bytes < 16 * 3000, "what a reader that does not read costs is bounded"
        assert app.stats().publish_socket_wait_s == 0.0, "nobody waits for it"
        events: list[Event] = []
        while not events or events[-1].event == "gap" or place(events[-1]) < 500:
            events.append(reader.next())
        skipped = [event.json()["skipped"] for event in events if event.event == "gap"]
        assert len(events) - len(skipped) + sum(skipped) == 500
        assert sum(skipped) > 300, "the reader was not stalled"
        assert events[-2].event == "gap", "after the gap comes the newest, and nothing else"
        assert head_and_count(events[-1]) == (first, 500)
        caller.resolve(first)
        assert head_and_count(reader.next())[1] == 499


@pytest.mark.parametrize("changes", [16, 17])
def test_s3_3_a_reader_that_was_away_gets_sixteen_changes_one_by_one_and_more_as_the_state(
    app: sse_fast.Server, caller: Caller, changes: int
) -> None:
    with follow(app.port) as reader:
        assert reader.open().next().event == "initial"
        caller.submit("before")
        last = reader.next()
    questions = [caller.submit(str(number)) for number in range(changes)]
    with follow(app.port, last_event_id=last.own_id) as reader:
        reader.open()
        if changes == 16:
            assert [head_and_count(event)[1] for event in reader.take(16)] == list(range(2, 18))
        else:
            gap, state = reader.take(2)
            assert (gap.event, state.event, head_and_count(state)[1]) == ("gap", "initial", 18)
            assert gap.json()["skipped"] == 17
        assert caller.resolve(questions[0]) == 200
        assert head_and_count(reader.next())[1] == changes


# ---- S3.4 ----


def test_s3_4_a_heartbeat_comment_comes_each_30_s(tmp_path: Path) -> None:
    with testing.serve(heartbeat_pace=100) as server:
        approvals.install(server, tmp_path)
        with follow(server.port) as reader:
            reader.open().next()
            began = time.monotonic()
            reader.read_until(lambda: len(reader.parser.comments) >= 4, what="heartbeats")
            assert time.monotonic() - began >= 3 * 0.3, "30 s at a hundred times the pace"
            assert bytes(reader.body).endswith(b"\n\n" + b": heartbeat\n" * len(reader.parser.comments))


@pytest.mark.alone
@pytest.mark.parametrize("how", ["close", "reset"])
def test_s3_4_a_disconnect_is_cleaned_up_at_once(app: sse_fast.Server, how: str) -> None:
    reader = follow(app.port)
    reader.open().next()
    assert app.stats().subscribers == 1
    getattr(reader, how)()
    until(lambda: app.stats().subscribers == app.stats().connections == 0, 1.0)


def test_s3_4_a_thousand_connects_and_disconnects_leave_nothing_behind(app: sse_fast.Server, caller: Caller) -> None:
    caller.submit("one")

    def come_and_go(times: int) -> tuple[int, int, int]:
        for number in range(times):
            if number % 50 == 0:  # So often that its connection is never closed as idle.
                assert caller.call("/api/sessions") == (200, {"s": 1})
            reader = follow(app.port, kind=KINDS[number % 2])
            if number % 3:
                reader.open().next()
            (reader.reset if number % 2 else reader.close)()
        until(lambda: app.stats().subscribers == 0 and app.stats().connections == 1)  # The caller's is kept.
        gc.collect()  # What other tests have left to it is not of these connections.
        return descriptors(), threads(), len(app.streams())

    before = come_and_go(50)
    assert come_and_go(1000) == before
    assert caller.call("/api/sessions") == (200, {"s": 1})


# ---- S3.5 ----


@pytest.mark.alone
@every_kind
@pytest.mark.parametrize("waiting", [0, 3])
def test_s3_5_an_empty_and_a_populated_queue_answer_well_under_2_s(
    app: sse_fast.Server, caller: Caller, kind: str, waiting: int
) -> None:
    for number in range(waiting):
        caller.submit(str(number), kind=kind)

    def ask(_number: int) -> None:
        began = time.monotonic()
        with follow(app.port, kind=kind) as reader:
            assert head_and_count(reader.open().next())[1] == waiting
        assert time.monotonic() - began < 2.0

    in_threads(ask, 20)  # More than there are threads for handlers: one that hung would hold up the others.


@every_kind
def test_s3_5_polling_gets_the_same_as_json(app: sse_fast.Server, caller: Caller, kind: str) -> None:
    path = f"/api/{kind}/stream?session_id=s"
    status, answer = caller.call(path)
    assert (status, json.loads(answer["snapshot"]["data"])) == (200, {"pending": None, "pending_count": 0})
    caller.submit("first", kind=kind)
    status, answer = caller.call(f"{path}&last_event_id={answer['last_id']}")
    assert [(event["event"], json.loads(event["data"])["pending_count"]) for event in answer["events"]] == [(kind, 1)]
    status, answer = caller.call(path)
    assert json.loads(answer["snapshot"]["data"])["pending"]["text"] == "first"
    assert (answer["events"], answer["ended"]) == ([], False)


# ---- Rows, refusals, troubles ----

SERVER = """
import sys
from pathlib import Path
import sse_fast
from sse_fast.demos import approvals

with sse_fast.serve(int(sys.argv[1])) as server:
    approvals.install(server, Path(sys.argv[2]))
    print("port", server.port, flush=True)
    server.wait()
"""


def test_questions_survive_their_server_and_its_readers_are_told(tmp_path: Path) -> None:
    with Program(SERVER, 0, tmp_path) as program:
        port = int(program.line_with("port"))
        with Caller(port) as caller:
            numbers = [caller.submit(text) for text in ("first", "second", "third")]
            assert caller.resolve(numbers[0]) == 200
        with follow(port) as reader:
            last = reader.open().next()
            program.process.kill()
            program.wait()
    with Program(SERVER, port, tmp_path) as program:
        program.line_with("port")
        with follow(port, last_event_id=last.own_id) as reader:
            gap, state = reader.open().take(2)
            assert (gap.event, gap.json()["skipped"]) == ("gap", None)
            assert (state.event, state.data) == ("initial", last.data)
        with Caller(port) as caller:
            rows = caller.call("/api/questions?session_id=s")[1]
    assert [(row["text"], row["answer"]) for row in rows] == [("third", None), ("second", None), ("first", "yes")]
    assert rows[2]["resolved_at"] >= rows[2]["submitted_at"]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("clarify/stream", None, 400, "session_id: must be a text"),
        ("clarify/stream?session_id=a/b", None, 400, "session_id: must be 1 to 64 letters"),
        ("clarify/stream?session_id=" + "a" * 65, None, 400, "session_id: must be 1 to 64 letters"),
        ("clarify/submit", [], 400, "session_id: must be a text"),
        ("clarify/submit", {"session_id": "s"}, 400, "text: must be"),
        ("clarify/submit", {"session_id": "s", "text": "x" * 2001}, 400, "text: must be"),
        ("clarify/submit", {"session_id": "s", "text": "x", "choices": "yes"}, 400, "choices: must be"),
        ("clarify/resolve", {"session_id": "s", "answer": "x", "id": "1"}, 400, "id: must be"),
        ("clarify/resolve", {"session_id": "s", "answer": "x", "id": 7}, 404, "there is no question 7"),
        ("clarify/resolve", {"session_id": "s", "answer": "x", "id": 10**30}, 404, "there is no question 1000"),
        ("clarify/resolve", {"session_id": "s", "answer": "", "id": 1}, 400, "answer: must be a text"),
        ("approval/resolve", {"session_id": "s", "answer": "perhaps", "id": 1}, 400, "answer: must be approve or deny"),
        ("questions", None, 400, "session_id: must be a text"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field_and_changes_nothing(
    app: sse_fast.Server, caller: Caller, path: str, body: object, status: int, detail: str
) -> None:
    answered, answer = caller.call(f"/api/{path}", body)
    assert (answered, answer["detail"][: len(detail)]) == (status, detail)
    assert app.stats().published == 0
    assert caller.call("/api/sessions") == (200, {})


def test_a_question_is_answered_only_in_its_own_queue(caller: Caller) -> None:
    question = caller.submit("for a", "a")
    assert caller.resolve(question, session_id="b") == 404
    assert caller.resolve(question, "approve", session_id="a", kind="approval") == 404
    assert caller.resolve(question, session_id="a") == 200


def test_connections_that_are_dropped_come_back_to_the_same_state(app: sse_fast.Server, caller: Caller) -> None:
    caller.submit("first")
    with follow(app.port) as reader:
        last = reader.open().next()
        assert caller.call("/api/approvals/drop", {"kind": "clarify", "session_id": "s"}) == (200, {"dropped": 1})
        assert reader.rest() == []
    caller.submit("second")
    with follow(app.port, last_event_id=last.own_id) as reader:
        gap, state = reader.open().take(2)
        assert (gap.json()["skipped"], head_and_count(state)[1]) == (None, 2)


def test_the_slow_reader_of_the_page_tells_what_it_was_given(app: sse_fast.Server, caller: Caller) -> None:
    answers: list[Any] = []

    def be_slow() -> None:
        with Caller(app.port) as own:
            body = {"kind": "approval", "session_id": "s", "seconds": 1.5}
            answers.append(own.call("/api/approvals/slow-reader", body))

    thread = threading.Thread(target=be_slow)
    thread.start()
    readers = "/api/approvals/readers?kind=approval&session_id=s"
    until(lambda: caller.call(readers) == (200, {"subscribers": 1}))
    for number in range(500):
        caller.submit(f"{number} {'x' * 500}", kind="approval")
    thread.join()
    (status, answer) = answers[0]
    assert (status, answer["newest"]["pending_count"]) == (200, 500)
    assert answer["newest"]["pending"]["text"].startswith("0 ")
    assert answer["events"] + answer["skipped"] == 501
    assert answer["skipped"] > 0
