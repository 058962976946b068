"""What becomes of requests that handlers work on, or would have worked on, when their server closes.

Guards that each is answered, or refused before it began and never done without an answer; that from half of the drain
on none is begun; that a handler may close its own server; and that no thread of a closed server is left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.process import Program
from support.reader import Reader

POSTS = 200

PROGRAM = """
import os, sse_fast, time
server = sse_fast.serve(0, drain=4.0)
@server.post("/jobs")
def job(request):
    os.write(1, b"begun\\n")  # One line whole, whatever other threads write.
    time.sleep(0.5)
    os.write(1, b"done %d\\n" % request.json())
    return {"id": request.json()}
print(server.port, flush=True)
server.wait()
"""


def test_of_many_requests_in_flight_each_is_answered_or_was_never_begun() -> None:
    with Program(PROGRAM) as program:
        port = int(program.line())
        readers = [Reader(port, "/jobs", method="POST", body=json.dumps(number).encode()) for number in range(POSTS)]
        for _ in range(40):  # In the middle: some are done, some under way, most wait.
            program.line_with("begun")
        program.send_signal(signal.SIGTERM)
        answers = []
        for reader in readers:
            body = reader.read_to_end()
            answers.append((reader.read_head().status, json.loads(body)))
            reader.close()
        assert program.wait() == 0
        said = program.read_to_end()
    done = {int(line.split()[1]) for line in said if line.startswith("done")}
    assert said.count("begun") == len(done)
    answered = {body["id"] for status, body in answers if status == 200}
    refused = [body for status, body in answers if status == 503]
    assert answered == done
    assert len(answered) + len(refused) == POSTS
    assert {body["error"] for body in refused} == {"closing"}
    assert 40 < len(answered) < POSTS


def test_what_waits_is_refused_when_half_of_the_drain_is_over_and_what_was_begun_has_the_rest(serve: Serve) -> None:
    server = serve(handler_threads=1)
    begun, go = threading.Event(), threading.Event()

    @server.post("/work")
    def work(_request: sse_fast.Request) -> str:
        begun.set()
        assert go.wait(30)
        return "done"

    with Reader(server.port, "/work", method="POST") as first:
        assert begun.wait(30)
        with Reader(server.port, "/work", method="POST") as second:
            until(lambda: server.stats().requests == 2)
            closing = threading.Thread(target=server.close, kwargs={"drain": 2.0})
            closing.start()
            refused = second.read_to_end()
            assert second.read_head().status == 503
            assert second.read_head()["retry-after"]
            assert json.loads(refused)["error"] == "closing"
            assert closing.is_alive()
        go.set()
        assert first.read_to_end() == b'"done"'
        closing.join(30)
        assert not closing.is_alive()


def test_a_generator_in_flight_runs_to_its_end_and_its_reader_has_that(serve: Serve) -> None:
    server = serve()
    go = threading.Event()

    @server.get("/plain")
    def generate(_request: sse_fast.Request) -> Iterator[str]:
        yield "first"
        assert go.wait(30)
        yield "second"

    @server.get("/async")
    async def generate_async(_request: sse_fast.Request) -> AsyncIterator[str]:
        yield "first"
        assert await asyncio.to_thread(go.wait, 30)
        yield "second"

    server.stream("beats", heartbeat=0.05, heartbeat_event="beat")
    with (
        Reader(server.port, "/plain") as one,
        Reader(server.port, "/async") as other,
        Reader(server.port, "/streams/beats") as beats,
    ):
        assert (one.open().next().data, other.open().next().data) == ("first", "first")
        beats.open()
        closing = threading.Thread(target=server.close, kwargs={"drain": 60.0})
        closing.start()
        until(lambda: server.closed)
        beats.take(10)  # Readers are served that long.
        go.set()
        for reader in (one, other):
            assert [event.event for event in reader.rest()] == ["message", "end"]
        closing.join(30)
        assert not closing.is_alive()


def test_a_generator_without_an_end_is_closed_with_the_drain(serve: Serve) -> None:
    server = serve()
    closed = threading.Event()

    @server.get("/ticks")
    def ticks(_request: sse_fast.Request) -> Iterator[str]:
        try:
            while True:
                yield "tick"
                closed.wait(0.01)
        finally:
            closed.set()

    with Reader(server.port, "/ticks") as reader:
        reader.open().next()
        server.close(drain=0.4)
        assert closed.wait(30)
        assert reader.rest()[-1].event == "message"


def test_a_body_that_does_not_come_is_refused_when_half_of_the_drain_is_over(serve: Serve) -> None:
    server = serve()
    server.post("/work")(lambda _request: "never")
    raw = b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"
    with Reader(server.port, raw=raw) as reader:
        until(lambda: server.stats().requests == 1)
        closing = threading.Thread(target=server.close, kwargs={"drain": 1.0})
        closing.start()
        assert json.loads(reader.read_to_end())["error"] == "closing"
        assert reader.read_head().status == 503
        closing.join(30)


@pytest.mark.alone
@pytest.mark.parametrize("drain", [0.0, 0.4])
@pytest.mark.parametrize("written", ["def", "async def"])
def test_a_handler_that_takes_longer_than_the_drain_has_its_client_told(
    serve: Serve, caplog: pytest.LogCaptureFixture, written: str, drain: float
) -> None:
    server, go = serve(), threading.Event()

    begun = threading.Semaphore(0)

    def work(_request: sse_fast.Request) -> str:
        begun.release()
        go.wait(30)
        return "too late"

    async def work_on_the_loop(request: sse_fast.Request) -> str:
        return await asyncio.to_thread(work, request)

    handler = work if written == "def" else work_on_the_loop
    server.post("/work")(handler)
    server.get("/work")(handler)
    try:
        with (
            caplog.at_level(logging.INFO, "sse_fast.handler"),
            Reader(server.port, "/work", method="POST", body=b"{}") as reader,
            Reader(server.port, "/work", headers=[("Accept", "text/event-stream")]) as page,
        ):
            assert begun.acquire(timeout=30)
            assert begun.acquire(timeout=30)
            began = time.monotonic()
            closing = threading.Thread(target=server.close, kwargs={"drain": drain})
            closing.start()
            body = json.loads(reader.read_to_end())
            assert reader.read_head().status == 503
            assert reader.read_head()["connection"] == "close"
            assert body["error"] == "cut_off"
            assert "retry-after" not in reader.read_head().headers, "it may have been done"
            assert page.read_to_end().startswith(b"retry: "), (
                "an EventSource gives up for good after any status but 200"
            )
            assert page.read_head().status == 200
            took = time.monotonic() - began
            go.set()
            closing.join(30)
        assert drain <= took < drain + 5.0
        assert sum("'/work' was cut off" in text or '"/work" was cut off' in text for text in caplog.messages) == 2
    finally:
        go.set()


def plain(server: sse_fast.Server) -> str:
    server.close(drain=3600.0)
    return "bye"


async def by_aclose(server: sse_fast.Server) -> str:
    await server.aclose(drain=3600.0)
    return "bye"


async def by_a_thread(server: sse_fast.Server) -> str:
    await asyncio.to_thread(server.close, 3600.0)
    return "bye"


@pytest.mark.parametrize("closes", [plain, by_aclose, by_a_thread], ids=lambda function: function.__name__)
def test_a_handler_that_closes_its_own_server_is_answered(serve: Serve, closes: object) -> None:
    server = serve()
    if closes is plain:
        server.post("/stop")(lambda _request: plain(server))
    else:

        async def stop(_request: sse_fast.Request) -> str:
            return str(await closes(server))  # type: ignore[operator]

        server.post("/stop")(stop)
    with Reader(server.port, "/stop", method="POST") as reader:
        assert reader.read_to_end() == b'"bye"'
    server.wait(timeout=30.0)
    assert server.closed


def test_a_handler_of_another_server_waits_for_the_close(serve: Serve) -> None:
    server, other = serve(), serve()
    ended = []

    @server.post("/stop")
    def stop(_request: sse_fast.Request) -> str:
        other.close()
        ended.append(other.stats().connections)
        return "bye"

    with Reader(other.port, "/streams/s"), Reader(server.port, "/stop", method="POST") as reader:
        assert reader.read_to_end() == b'"bye"'
    assert ended == [0]


def test_what_a_handler_began_closes_as_anybody_does_once_that_has_answered(serve: Serve) -> None:
    server = serve()
    closed = threading.Event()

    async def later() -> None:
        await asyncio.sleep(0.05)
        await server.aclose()
        closed.set()

    tasks = []

    @server.post("/stop")
    async def stop(_request: sse_fast.Request) -> str:
        tasks.append(asyncio.create_task(later()))
        return "bye"

    with Reader(server.port, "/stop", method="POST") as reader:
        assert reader.read_to_end() == b'"bye"'
    server.wait(timeout=30.0)
    assert closed.wait(30)


def test_no_thread_of_a_closed_server_is_left(serve: Serve) -> None:
    before = set(threading.enumerate())  # Other tests' documents may have servers that nobody closes.
    server = serve()

    @server.post("/plain")
    def answer(_request: sse_fast.Request) -> str:
        return "plain"

    @server.post("/async")
    async def answer_async(_request: sse_fast.Request) -> str:
        return "async"

    @server.get("/generated")
    def generate(_request: sse_fast.Request) -> object:
        yield "one"

    for path in ("/plain", "/async"):
        with Reader(server.port, path, method="POST") as reader:
            assert json.loads(reader.read_to_end()) == path[1:]
    server.on_join(lambda _stream, _reader: None)
    server.close()
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []
