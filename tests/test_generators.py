"""Handlers that are generators, synchronous and asynchronous.

Guards that what they yield is a stream of its own, that they are closed as soon as its reader has gone, that one that
is faster than its reader waits and nothing is lost, how their streams end, and what becomes of a reader that comes
back. Each test runs for both kinds where both can do it.
Long, because the two kinds are to behave alike in everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until, until_async
from support.reader import Reader, fetch

Steps = Callable[[sse_fast.Request], Iterator[Any]]
Make = Callable[[Steps], Any]


def synchronous(steps: Steps) -> Any:
    """A generator that yields the steps; an Event of threading among them is waited for."""

    def generate(req: sse_fast.Request) -> Iterator[Any]:
        for step in steps(req):
            if isinstance(step, threading.Event):
                step.wait(2 * DEADLINE)
            else:
                yield step

    return generate


def asynchronous(steps: Steps) -> Any:
    """The same as an asynchronous generator."""

    async def generate(req: sse_fast.Request) -> AsyncIterator[Any]:
        for step in steps(req):
            if isinstance(step, threading.Event):
                await until_async(step.is_set, 2 * DEADLINE)
            else:
                await asyncio.sleep(0)
                yield step

    return generate


@pytest.fixture(params=[synchronous, asynchronous], ids=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Make:
    maker: Make = request.param
    return maker


def post(server: sse_fast.Server, path: str = "/chat", **options: Any) -> Reader:
    return Reader(server.port, path, method="POST", **options)


# ---- What is yielded -----------------------------------------------------------------------


def test_what_is_yielded_is_the_response(server: sse_fast.Server, make: Make) -> None:
    def steps(req: sse_fast.Request) -> Iterator[Any]:
        yield "text\nof two lines"
        yield {"json": req.body.decode()}
        yield ("named", "tick")
        yield b"bytes"
        yield None
        yield sse_fast.Event("event", event="own", id="mine", retry=2.0)
        yield sse_fast.Event("a message")

    server.post("/chat")(make(steps))
    with post(server, body=b"asked") as reader:
        events = reader.open().rest()
    assert [(event.event, event.data) for event in events] == [
        ("message", "text\nof two lines"),
        ("message", '{"json":"asked"}'),
        ("tick", "named"),
        ("message", "bytes"),
        ("message", "null"),
        ("own", "event"),
        ("message", "a message"),
        ("end", "null"),
    ]
    assert events[5].own_id == "mine"
    assert b"retry: 2000\n" in reader.body


def test_an_event_named_end_is_the_last(server: sse_fast.Server, make: Make) -> None:
    asked_again = []

    def steps(_req: sse_fast.Request) -> Iterator[Any]:
        yield "token"
        yield sse_fast.Event("[DONE]", event="end")
        asked_again.append(1)
        yield "never"

    server.post("/chat")(make(steps))
    with post(server) as reader:
        assert [(event.event, event.data) for event in reader.open().rest()] == [
            ("message", "token"),
            ("end", "[DONE]"),
        ]
    assert not asked_again


def test_a_generator_without_an_event_is_an_empty_stream(server: sse_fast.Server, make: Make) -> None:
    server.post("/chat")(make(lambda _req: iter(())))
    with post(server) as reader:
        assert [(event.event, event.data) for event in reader.open().rest()] == [("end", "null")]


def test_each_request_has_a_generator_and_a_stream_of_its_own(server: sse_fast.Server, make: Make) -> None:
    server.get("/count/{to}")(make(lambda req: iter(range(int(req.params["to"])))))
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(server.port, f"/count/{to}")) for to in range(20)]
        for to, reader in enumerate(readers):
            assert [event.data for event in reader.open().rest()] == [*map(str, range(to)), "null"]
    assert server.streams() == []


def test_a_generator_that_another_handler_returns_is_one_too(server: sse_fast.Server, make: Make) -> None:
    inner = make(lambda _req: iter(("a", "b")))

    @server.post("/function")
    def function(req: sse_fast.Request) -> Any:
        return inner(req)

    @server.post("/coroutine")
    async def coroutine(req: sse_fast.Request) -> Any:
        return inner(req)

    for path in ("/function", "/coroutine"):
        with post(server, path) as reader:
            assert [event.data for event in reader.open().rest()] == ["a", "b", "null"]


def test_head_runs_no_generator_and_json_gets_none(server: sse_fast.Server, make: Make) -> None:
    asked = []

    def steps(req: sse_fast.Request) -> Iterator[Any]:
        asked.append(req)
        yield "x"

    server.get("/chat")(make(steps))
    head, _ = fetch(server.port, "/chat", method="HEAD")
    assert (head.status, head["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert fetch(server.port, "/chat", headers=[("Accept", "application/json")])[0].status == 406
    assert not asked


def test_heartbeats_go_on_between_events_and_before_the_first(server: sse_fast.Server, make: Make) -> None:
    first, second = threading.Event(), threading.Event()

    def steps(_req: sse_fast.Request) -> Iterator[Any]:
        yield first
        yield "token"
        yield second
        yield "token"

    server.post("/chat", heartbeat=0.02)(make(steps))
    with post(server) as reader:
        try:
            reader.open().read_until(lambda: len(reader.parser.comments) >= 3, what="early heartbeats")
            first.set()
            assert reader.next().data == "token"
            seen = len(reader.parser.comments)
            reader.read_until(lambda: len(reader.parser.comments) >= seen + 3, what="heartbeats between")
        finally:
            first.set()
            second.set()
        assert [event.data for event in reader.rest()] == ["token", "null"]


# ---- The reader leaves ---------------------------------------------------------------------


class Watched:
    """Steps that never end; tells how many were taken and what closed them."""

    def __init__(self, every: float = 0.001, size: int = 10) -> None:
        self.taken = 0
        self.begun, self.closed = threading.Event(), threading.Event()
        self.by: BaseException | None = None
        self.every, self.size = every, size

    def synchronous(self, _req: sse_fast.Request) -> Iterator[Any]:
        try:
            self.begun.set()
            while True:
                time.sleep(self.every)
                self.taken += 1
                yield "x" * self.size
        except BaseException as error:
            self.by = error
            raise
        finally:
            self.closed.set()

    async def asynchronous(self, _req: sse_fast.Request) -> AsyncIterator[Any]:
        try:
            self.begun.set()
            while True:
                await asyncio.sleep(self.every)
                self.taken += 1
                yield "x" * self.size
        except BaseException as error:
            self.by = error
            raise
        finally:
            self.closed.set()


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("leave", [Reader.close, Reader.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_it_is_closed_when_its_reader_leaves(
    server: sse_fast.Server, kind: str, leave: Callable[[Reader], None], method: str
) -> None:
    watched = Watched()
    getattr(server, method.lower())("/chat")(getattr(watched, kind))
    with Reader(server.port, "/chat", method=method) as reader:
        reader.open().take(3)
        assert not watched.closed.is_set()
        leave(reader)
        assert watched.closed.wait(DEADLINE)
    taken = watched.taken
    assert taken < 1000
    until(lambda: server.stats().connections == 0)
    assert watched.taken == taken


@pytest.mark.parametrize("leave", [Reader.close, Reader.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("heartbeat", [0.01, 60.0], ids=["early head", "before its head"])
def test_an_asynchronous_one_is_cancelled_where_it_waits(
    server: sse_fast.Server, leave: Callable[[Reader], None], heartbeat: float
) -> None:
    """In its very first step, too; it is not only closed at its next event."""
    watched = Watched(every=1000.0)
    server.post("/chat", heartbeat=heartbeat)(watched.asynchronous)
    with post(server) as reader:
        if heartbeat < 1:
            reader.open()
        assert watched.begun.wait(DEADLINE)
        leave(reader)
        assert watched.closed.wait(DEADLINE)
    assert isinstance(watched.by, asyncio.CancelledError)
    assert watched.taken == 0


def test_a_synchronous_one_that_was_left_in_its_first_step_yields_to_nobody(server: sse_fast.Server) -> None:
    go, begun, closed = threading.Event(), threading.Event(), threading.Event()

    @server.post("/chat")
    def chat(_req: sse_fast.Request) -> Iterator[str]:
        try:
            begun.set()
            go.wait(2 * DEADLINE)
            yield "first"
            raise AssertionError("nobody reads")
        finally:
            closed.set()

    with post(server) as reader:
        assert begun.wait(DEADLINE)
        reader.reset()
        until(lambda: server.stats().connections == 0)
        go.set()
        assert closed.wait(DEADLINE)


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_it_is_closed_while_it_waits_for_a_reader_that_leaves(server: sse_fast.Server, kind: str) -> None:
    watched = Watched(every=0.0, size=10_000)
    server.post("/chat")(getattr(watched, kind))
    with post(server, receive_buffer=4096) as reader:
        until(lambda: server.stats().blocked > 0, what="a full socket")
        taken = -1
        while taken != watched.taken:  # Until it waits.
            taken = watched.taken
            time.sleep(0.1)
        assert not watched.closed.is_set()
        reader.reset()
        assert watched.closed.wait(DEADLINE)


def test_a_reader_that_takes_nothing_is_cut_and_the_generator_closed(serve: Serve) -> None:
    server = serve(stall_timeout=0.3)
    watched = Watched(every=0.0, size=10_000)
    server.post("/chat")(watched.synchronous)
    with post(server, receive_buffer=4096):
        assert watched.closed.wait(DEADLINE)
    until(lambda: server.stats().closed.stalled == 1)


# ---- Faster than its reader ----------------------------------------------------------------


@pytest.mark.parametrize("publish_wait", [0.0, 0.05, None])
def test_a_reader_that_is_slow_gets_everything(serve: Serve, make: Make, publish_wait: float | None) -> None:
    """Nobody else reads the stream, so its generator waits, whatever publishers of other streams do."""
    server = serve(publish_wait=publish_wait)
    count = 3000
    server.post("/chat", history=16)(make(lambda _req: (f"{number} {'x' * 1000}" for number in range(count))))
    with post(server, receive_buffer=4096) as reader:
        reader.open()
        seen = []
        while len(seen) < count:
            if len(seen) % 1000 == 0:
                time.sleep(0.2)  # Its socket is full by then.
            seen.append(reader.next().data.partition(" ")[0])
        assert [event.data for event in reader.rest()] == ["null"]
    assert seen == [*map(str, range(count))]
    assert server.stats().skipped == 0


def test_an_asynchronous_one_that_never_waits_lets_others_run(server: sse_fast.Server) -> None:
    @server.post("/chat")
    async def chat(_req: sse_fast.Request) -> AsyncIterator[int]:
        for number in itertools.count():
            yield number

    @server.get("/other")
    async def other(_req: sse_fast.Request) -> bool:
        return True

    with post(server) as reader:
        reader.open().take(100)
        with Reader(server.port, "/other") as second:
            until(lambda: _pump(reader) or _pump(second) or second.head is not None)
            assert second.read_to_end() == b"true"


def _pump(reader: Reader) -> None:
    with contextlib.suppress(TimeoutError):
        reader.pump(0.001)


def test_more_synchronous_ones_than_threads_wait_then_get_503(serve: Serve) -> None:
    server = serve(generator_threads=2, handler_queue=1)
    go = threading.Event()

    def steps(_req: sse_fast.Request) -> Iterator[Any]:
        yield "begun"
        yield go

    server.post("/chat")(synchronous(steps))
    with contextlib.ExitStack() as stack:
        stack.callback(go.set)
        running = []
        for _ in range(2):  # One after the other: the queue is short.
            running.append(stack.enter_context(post(server)))
            assert running[-1].open().next().data == "begun"
        waiting = stack.enter_context(post(server))
        until(lambda: server.stats().requests == 3)
        assert fetch(server.port, "/chat", method="POST")[0].status == 503
        go.set()
        for reader in (*running, waiting):
            assert reader.rest()[-1].event == "end"
    until(lambda: sum(thread.name == "sse_fast generator" for thread in threading.enumerate()) == 1)


# ---- Errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [sse_fast.HttpError(402, "no credit"), RuntimeError("the secret reason")], ids=repr)
def test_an_error_before_the_first_event_is_the_answer(
    server: sse_fast.Server, make: Make, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def steps(_req: sse_fast.Request) -> Iterator[Any]:
        raise error
        yield

    server.post("/chat")(make(steps))
    with caplog.at_level(logging.ERROR, "sse_fast"):
        head, body = fetch(server.port, "/chat", method="POST")
    assert head.status == (402 if isinstance(error, sse_fast.HttpError) else 500)
    assert b"secret" not in body
    assert ("secret" in caplog.text) != isinstance(error, sse_fast.HttpError)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (sse_fast.HttpError(402, "no credit"), {"error": "payment_required", "detail": "no credit"}),
        (sse_fast.HttpError(402, body={"code": 7}), {"code": 7}),
        (RuntimeError("the secret reason"), {"error": "internal"}),
        (SystemExit(3), {"error": "internal"}),
    ],
    ids=repr,
)
def test_an_error_after_it_is_the_last_event(
    server: sse_fast.Server, make: Make, error: BaseException, told: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def steps(_req: sse_fast.Request) -> Iterator[Any]:
        yield "token"
        raise error

    server.post("/chat")(make(steps))
    with caplog.at_level(logging.ERROR, "sse_fast"), post(server) as reader:
        events = reader.open().rest()
    assert [event.event for event in events] == ["message", "error"]
    assert json.loads(events[1].data).items() >= told.items()
    assert b"secret" not in reader.received
    assert bool(caplog.records) != isinstance(error, sse_fast.HttpError)


def test_what_cannot_be_an_event_is_raised_where_it_was_yielded(
    server: sse_fast.Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def forgiving(_req: sse_fast.Request) -> Iterator[Any]:
        for item in (object(), ("a", "b", "c"), sse_fast.Event("x", event="a\nb"), "good"):
            try:
                yield item
            except sse_fast.SseFastError as error:  # noqa: PERF203 - it is what is tested
                yield f"{type(error).__name__} {error}"

    def generate(req: sse_fast.Request) -> Iterator[Any]:
        return (yield from forgiving(req))

    async def generate_async(req: sse_fast.Request) -> AsyncIterator[Any]:
        steps = forgiving(req)
        item = next(steps)
        with contextlib.suppress(StopIteration):
            while True:
                try:
                    yield item
                except sse_fast.SseFastError as error:  # noqa: PERF203 - as above
                    item = steps.throw(error)
                else:
                    item = next(steps)

    server.post("/chat")(generate if make is synchronous else generate_async)
    with post(server) as reader:
        data = [event.data for event in reader.open().rest()]
    assert [text.partition(" ")[0] for text in data] == [
        "EventTypeError",
        "EventTypeError",
        "EventError",
        "good",
        "null",
    ]

    server.post("/bad")(make(lambda _req: iter(("good", object()))))
    with caplog.at_level(logging.ERROR, "sse_fast"), post(server, "/bad") as reader:
        assert [event.event for event in reader.open().rest()] == ["message", "error"]
    assert "JSON" in caplog.text


def test_one_whose_closing_fails_is_logged_and_harms_nobody(
    server: sse_fast.Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()

    def generate(_req: sse_fast.Request) -> Iterator[str]:
        try:
            while True:
                begun.set()
                time.sleep(0.001)
                yield "x"
        finally:
            raise RuntimeError("cannot tidy up")

    async def generate_async(_req: sse_fast.Request) -> AsyncIterator[str]:
        try:
            while True:
                begun.set()
                await asyncio.sleep(0.001)
                yield "x"
        finally:
            raise RuntimeError("cannot tidy up")

    server.post("/chat")(generate if make is synchronous else generate_async)
    with caplog.at_level(logging.ERROR, "sse_fast"):
        with post(server) as reader:
            reader.open().take(2)
        until(lambda: "cannot tidy up" in caplog.text)
    server.post("/fine")(make(lambda _req: iter("x")))
    with post(server, "/fine") as reader:
        assert len(reader.open().rest()) == 2


# ---- Coming back ---------------------------------------------------------------------------


def test_a_reader_that_has_everything_gets_204_and_nothing_is_generated(server: sse_fast.Server, make: Make) -> None:
    asked = []

    def steps(req: sse_fast.Request) -> Iterator[Any]:
        asked.append(req)
        yield "token"

    server.get("/chat", linger=0.0)(make(steps))
    with Reader(server.port, "/chat") as reader:
        last = reader.open().rest()[-1]
    for _ in range(3):
        assert fetch(server.port, "/chat", headers=[("Last-Event-ID", last.own_id)])[0].status == 204
    assert len(asked) == 1
    with Reader(server.port, "/chat", last_event_id="unknown-1") as reader:
        assert [event.event for event in reader.open().rest()] == ["gap", "message", "end"]


def test_a_reader_that_lost_its_connection_gets_the_rest(server: sse_fast.Server, make: Make) -> None:
    asked = []

    def steps(req: sse_fast.Request) -> Iterator[Any]:
        asked.append(req)
        yield from ("one", "two", "three")

    server.get("/chat")(make(steps))
    with Reader(server.port, "/chat") as reader:
        events = reader.open().rest()
    with Reader(server.port, "/chat", last_event_id=events[0].own_id) as reader:
        assert [event.data for event in reader.open().rest()] == ["two", "three", "null"]
    assert len(asked) == 1


def test_one_that_comes_back_too_late_is_told_that_it_is_not_whole(server: sse_fast.Server, make: Make) -> None:
    asked = []
    go = threading.Event()

    def steps(req: sse_fast.Request) -> Iterator[Any]:
        asked.append(req)
        yield "one"
        yield "two"
        yield go
        yield "never"

    server.get("/chat")(make(steps))
    with Reader(server.port, "/chat") as reader:
        first, _ = reader.open().take(2)
    until(lambda: server.stats().connections == 0)
    go.set()
    with Reader(server.port, "/chat", last_event_id=first.own_id) as reader:
        events = reader.open().rest()
    assert [event.event for event in events] == ["message", "error"]
    assert json.loads(events[1].data)["error"] == "reader_left"
    assert fetch(server.port, "/chat", headers=[("Last-Event-ID", events[1].own_id)])[0].status == 204
    assert len(asked) == 1


def test_one_that_comes_back_while_its_old_connection_is_still_there_reads_on(
    server: sse_fast.Server, make: Make
) -> None:
    asked = []
    go = threading.Event()

    def steps(req: sse_fast.Request) -> Iterator[Any]:
        asked.append(req)
        yield "one"
        yield go
        yield "two"

    server.get("/chat")(make(steps))
    with contextlib.ExitStack() as stack:
        stack.callback(go.set)
        old = stack.enter_context(Reader(server.port, "/chat"))
        first = old.open().next()
        new = stack.enter_context(Reader(server.port, "/chat", last_event_id=first.own_id)).open()
        until(lambda: server.stats().subscribers == 2)
        old.reset()
        until(lambda: server.stats().subscribers == 1)
        go.set()
        assert [event.data for event in new.rest()] == ["two", "null"]
    assert len(asked) == 1


def test_an_id_leads_back_to_its_own_handler_only(server: sse_fast.Server, make: Make) -> None:
    for path in ("/a", "/b"):
        server.get(path)(make(lambda req: iter((req.path, "x"))))
    with Reader(server.port, "/a") as reader:
        first = reader.open().rest()[0]
    with Reader(server.port, "/b", last_event_id=first.own_id) as reader:
        assert [event.data for event in reader.open().rest()][1:] == ["/b", "x", "null"]
    with Reader(server.port, "/streams/a", last_event_id=first.own_id) as reader:
        assert reader.read_head().status == 404


def test_ids_of_generators_cannot_be_guessed(server: sse_fast.Server, make: Make) -> None:
    server.get("/chat")(make(lambda _req: iter("x")))
    epochs = set()
    for _ in range(8):
        with Reader(server.port, "/chat") as reader:
            epochs.add(int(reader.open().rest()[0].own_id.partition("-")[0], 36))
    assert len(epochs) == 8
    assert max(epochs) - min(epochs) > 1 << 60


def test_streams_that_have_ended_are_forgotten(server: sse_fast.Server, make: Make) -> None:
    server.get("/chat", linger=0.05)(make(lambda _req: iter("xy")))
    with Reader(server.port, "/chat") as reader:
        first = reader.open().rest()[0]

    def again() -> bool:
        with Reader(server.port, "/chat", last_event_id=first.own_id) as reader:
            return reader.open().rest()[0].event == "gap"

    until(again, what="a new call for an id that is forgotten")


# ---- At the end ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_closing_the_server_closes_its_generators(serve: Serve, kind: str) -> None:
    server = serve()
    watched = Watched()
    server.post("/chat")(getattr(watched, kind))
    with post(server) as reader:
        reader.open().take(2)
        server.close(drain=DEADLINE)
        assert watched.closed.wait(DEADLINE)
        reader.read_eof()
    ours = {"sse_fast generator", "sse_fast handler loop", "sse_fast async calls"}
    until(lambda: not [thread for thread in threading.enumerate() if thread.name in ours])
