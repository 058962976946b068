"""Handlers that work for long, and readers that hear of it.

Guards `early_head`: the head and heartbeats go out while a handler that will return
a stream still works, also while it holds the interpreter.
"""

from __future__ import annotations

import itertools
import logging
import threading

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.interpreter import WATCHER, hold_the_interpreter
from support.process import Program
from support.reader import Reader

JSON = [("Content-Type", "application/json")]


def test_with_early_head_the_head_and_heartbeats_precede_the_handler_s_answer(serve: Serve) -> None:
    server = serve()
    gate = threading.Event()

    @server.post("/completions", early_head=True, heartbeat=0.05, ids=False)
    def complete(_req: sse_fast.Request) -> sse_fast.Stream:
        gate.wait(30)
        stream = server.stream("completion", ids=False, start="all")
        stream.publish("token")
        stream.end("[DONE]")
        return stream

    with Reader(server.port, "/completions", method="POST", body=b"{}", headers=JSON) as reader:
        try:
            reader.open()
            reader.read_until(lambda: len(reader.parser.comments) >= 3, what="heartbeats before the answer")
            assert not reader.parser.events
        finally:
            gate.set()
        assert [event.data for event in reader.rest()] == ["token", "[DONE]"]


def test_a_route_says_what_its_early_heartbeats_say(serve: Serve) -> None:
    server, go = serve(heartbeat_comment="alive"), threading.Event()

    def work(_req: sse_fast.Request) -> sse_fast.Stream:
        stream = server.stream(None, start="all", ids=False, heartbeat=0.05)
        assert go.wait(30)
        return stream

    server.post("/prefill", early_head=True, heartbeat=0.05, heartbeat_comment="prefill", ids=False)(work)
    server.post("/other", early_head=True, heartbeat=0.05, ids=False)(work)
    try:
        with (
            Reader(server.port, "/prefill", method="POST") as own,
            Reader(server.port, "/other", method="POST") as other,
        ):
            for reader, comment in ((own, "prefill"), (other, "alive")):
                reader.open()
                reader.read_until(lambda reader=reader: len(reader.parser.comments) >= 2, what="early heartbeats")
                assert reader.body.startswith(f": {comment}\n\n: {comment}\n\n".encode())
            go.set()
            own.read_until(lambda: b": alive\n\n" in own.body, what="the heartbeats of the stream that was answered")
    finally:
        go.set()


def test_a_reader_that_stalled_in_the_heartbeats_gets_the_answer_whole(serve: Serve) -> None:
    """Its socket is full and a heartbeat is half-written when the answer comes: nothing may be lost or torn."""
    server = serve()
    gate = threading.Event()

    @server.get("/slow", early_head=True, heartbeat=0.02, heartbeat_event="h" * 8000)
    def slow(_req: sse_fast.Request) -> sse_fast.Stream:
        gate.wait(30)
        stream = server.stream("answer", start="all", max_lag=4)
        for number in range(100):
            stream.publish(f"{number} {'x' * 4000}")
        stream.end("over")
        return stream

    with Reader(server.port, "/slow", receive_buffer=4096) as reader:
        try:
            until(lambda: server.stats().blocked > 0, what="a full socket")
        finally:
            gate.set()
        until(lambda: server.stream("answer").subscribers == 1, what="the answer's stream")
        events = reader.open().rest(60)
    named = [event for event in events if event.event != "h" * 8000]
    assert [event.data.partition(" ")[0] for event in named] == [*map(str, range(100)), "over"]


@pytest.mark.alone
def test_early_heartbeats_go_out_while_the_handler_holds_the_interpreter(serve: Serve) -> None:
    server = serve()

    @server.get("/completions", early_head=True, heartbeat=0.25)
    def complete(_req: sse_fast.Request) -> sse_fast.Stream:
        spans.append(hold_the_interpreter(3.0))
        stream = server.stream("completion", start="all")
        stream.end("over")
        return stream

    spans: list[tuple[float, float]] = []
    with Program(WATCHER, server.port, "/completions") as program:
        assert program.line() == "ready"
        lines = []
        while True:
            when, _, text = program.line(30).partition(" ")
            lines.append((float(when), text))
            if text == "data: over":
                break
    start, end = spans[0]
    assert sum(start <= when <= end and "heartbeat" in text for when, text in lines) >= 8, lines


def test_a_handler_that_fails_after_an_early_head_says_so_in_the_stream(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()

    @server.get("/fail", early_head=True, heartbeat=0.05)
    def fail(_req: sse_fast.Request) -> sse_fast.Stream:
        until(beating.is_set)
        raise RuntimeError("the secret reason")

    beating = threading.Event()
    with caplog.at_level(logging.ERROR, "sse_fast"), Reader(server.port, "/fail") as reader:
        reader.open()
        reader.read_until(lambda: reader.parser.comments, what="a heartbeat")
        beating.set()
        events = reader.rest()
    assert events[0].event == "error"
    assert b"secret" not in reader.received
    assert "the secret reason" in caplog.text


@pytest.mark.parametrize("kind", ["a refusal", "a bug"])
def test_an_error_is_never_lost_however_the_head_and_the_answer_meet(serve: Serve, kind: str) -> None:
    """The answer comes about when the head goes out, a little earlier or later each time."""
    server = serve(shards=1, handler_threads=16)
    offsets = itertools.cycle(number / 10_000 for number in range(-5, 16))
    never = threading.Event()

    @server.post("/slow", early_head=True, heartbeat=0.05)
    def slow(_req: sse_fast.Request) -> sse_fast.Stream:
        never.wait(0.05 + next(offsets))
        raise sse_fast.HttpError(400, "no such machine") if kind == "a refusal" else RuntimeError("a bug")

    def ask() -> None:
        with Reader(server.port, "/slow", method="POST", headers=[("Accept", "text/event-stream")]) as reader:
            head = reader.read_head()
            reader.read_to_end()
            told = head.status in {400, 500} or any(event.event == "error" for event in reader.parser.events)
            answers.append(bytes(reader.received) if not told else b"told")

    answers: list[bytes] = []
    for _ in range(40):
        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"told"] * 640


def test_a_fast_handler_with_early_head_is_the_same_response(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")
    event_id = stream.publish("x")
    server.get("/fast", early_head=True)(lambda _req: stream)
    with Reader(server.port, "/fast") as reader:
        reader.open()
        assert reader.next().own_id == event_id
        assert bytes(reader.body) == f"id: {event_id}\ndata: x\n\n".encode()


@pytest.mark.parametrize("resumed", [None, "3", "unknown"])
def test_a_reader_that_resumes_is_told_of_a_gap_only_where_there_is_one(serve: Serve, resumed: str | None) -> None:
    server = serve()
    gate = threading.Event()
    stream = server.stream("completion", start="all")
    ids = [stream.publish(number) for number in range(1, 6)]

    @server.get("/completions", early_head=True, heartbeat=0.05)
    def complete(_req: sse_fast.Request) -> sse_fast.Stream:
        gate.wait(30)
        return stream

    last_event_id = ids[2] if resumed == "3" else resumed
    with Reader(server.port, "/completions", last_event_id=last_event_id) as reader:
        try:
            reader.open()
            reader.read_until(lambda: len(reader.parser.comments) >= 2, what="heartbeats before the answer")
        finally:
            gate.set()
        expected = {None: ["1", "2", "3", "4", "5"], "3": ["4", "5"], "unknown": ["gap", "1", "2", "3", "4", "5"]}
        events = reader.take(len(expected[resumed]))
        assert [event.event if event.event == "gap" else event.data for event in events] == expected[resumed]
