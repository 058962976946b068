"""What happens when more requests come for handlers than handlers can take.

Guards that the queue is bounded in calls and in bytes, what is said beyond it, and that it costs streams nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.held import Held
from support.reader import Reader, fetch


def test_beyond_the_queue_the_answer_is_503_and_it_is_counted_and_logged_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(handler_threads=1, handler_queue=2)
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(Held())
        server.post("/work")(held)
        readers = [stack.enter_context(Reader(server.port, "/work", method="POST"))]
        until(held.begun.is_set)
        readers += [stack.enter_context(Reader(server.port, "/work", method="POST")) for _ in range(2)]
        until(lambda: server.stats().requests == 3)
        stack.enter_context(caplog.at_level(logging.WARNING, "sse_fast"))
        for _ in range(5):
            head, body = fetch(server.port, "/work", method="POST", body=b"x" * 100)
            assert (head.status, head["retry-after"]) == (503, "2")
            assert b'"busy"' in body
        assert server.stats().calls_refused == 5
        until(lambda: "handler_queue=2" in caplog.text)
        assert caplog.text.count("was refused") == 1
        held.go.set()
        assert [reader.read_to_end() for reader in readers] == [b'"done"'] * 3
    assert len(held.asked) == 3


def test_an_event_source_is_told_to_come_back(serve: Serve) -> None:
    """One that got a status would never return."""
    server = serve(handler_threads=1, handler_queue=1)
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(Held())
        server.get("/work")(held)
        stack.enter_context(Reader(server.port, "/work"))
        until(held.begun.is_set)
        stack.enter_context(Reader(server.port, "/work"))
        until(lambda: server.stats().requests == 2)
        seen = set()
        for _ in range(10):
            head, body = fetch(server.port, "/work", headers=[("Accept", "text/event-stream")])
            assert (head.status, head["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert head["cache-control"] == "no-store"
            found = re.fullmatch(rb"retry: (\d+)\n", body)
            assert found is not None
            seen.add(int(found[1]))
        assert all(2000 <= retry <= 6000 for retry in seen)
        assert len(seen) > 1, "a crowd must not come back at once"
        assert fetch(server.port, "/work")[0].status == 503, "it named no type"


def test_bodies_that_wait_are_bounded_in_bytes(serve: Serve) -> None:
    size = 8 << 20
    server = serve(handler_threads=1, max_body_bytes=size)
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(Held())
        server.post("/work")(held)
        stack.enter_context(Reader(server.port, "/work", method="POST"))
        until(held.begun.is_set)
        readers = [stack.enter_context(Reader(server.port, "/work", method="POST", body=b"x" * size)) for _ in range(8)]

        def is_refused() -> int:  # What comes before the last body has arrived has room.
            stack.enter_context(Reader(server.port, "/work", method="POST", body=b"y"))
            refused: int = server.stats().calls_refused
            return refused

        until(is_refused)
        held.go.set()
        # The last of them has none where one of a byte came before its end.
        assert [reader.read_head().status for reader in readers].count(200) >= 7


def test_async_handlers_work_on_no_more_than_the_queue_may_hold(serve: Serve) -> None:
    server = serve(handler_queue=2)
    working, go = [], asyncio.Event()

    @server.get("/work")
    async def work(_req: sse_fast.Request) -> bool:
        working.append(1)
        await go.wait()
        return True

    @server.get("/go")
    def release(_req: sse_fast.Request) -> None:
        server._callbacks._handler_loop().loop.call_soon_threadsafe(go.set)

    with contextlib.ExitStack() as stack:
        readers = []
        for number in range(1, 5):
            readers.append(stack.enter_context(Reader(server.port, "/work")))
            until(lambda number=number: server.stats().requests == number)  # type: ignore[misc]
            until(lambda number=number: len(working) == min(number, 2))  # type: ignore[misc]
        assert fetch(server.port, "/work")[0].status == 503
        assert len(working) == 2
        fetch(server.port, "/go")
        assert [reader.read_to_end() for reader in readers] == [b"true"] * 4


@pytest.mark.parametrize("early_head", [False, True])
def test_a_call_that_is_dropped_makes_room(serve: Serve, early_head: bool) -> None:
    server = serve(handler_threads=1, handler_queue=1)
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(Held())
        server.get("/work", early_head=early_head, heartbeat=0.01)(held)
        first = stack.enter_context(Reader(server.port, "/work"))
        until(held.begun.is_set)
        second = stack.enter_context(Reader(server.port, "/work"))
        until(lambda: server.stats().requests == 2)
        if early_head:
            second.open()
        assert fetch(server.port, "/work")[0].status == 503
        second.reset()
        until(lambda: server.stats().connections == 1)

        def with_a_place() -> Reader | None:  # The engine may need a moment to see that the second has left.
            reader = stack.enter_context(Reader(server.port, "/work"))
            with contextlib.suppress(TimeoutError):
                reader.pump(0.2)  # A refusal comes at once.
            return None if reader.head is not None and reader.head.status == 503 else reader

        third = until(with_a_place)
        assert third is not None
        held.go.set()
        for reader in (first, third):
            reader.read_to_end()
    assert len(held.asked) == 2
