"""`sse_fast.asgi`, with nothing but its protocol: a response while it lasts, and its end.

Guards that events and heartbeats come as they happen, that leaving, stalling and closing end it, and that a response
which is over leaves nothing. What goes out is in test_bridge.py, real servers and frameworks in hosts/test_bridge.py.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import types
import weakref
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from sse_fast import asgi
from support.asgi import Asgi, filled
from support.deadline import DEADLINE
from support.sse import parse


def test_the_head_and_a_comment_go_out_before_there_is_an_event(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        assert asked.status == 200
        assert asked.head == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
        }
        assert asked.body == b":\n"
        stream.publish("first")
        await asked.until(lambda: len(asked.sent) == 3)
        assert [event.data for event in parse(asked.body)] == ["first"]
        stream.end()
        await running
        assert asked.sent[-1] == {"type": "http.response.body", "body": b""}

    asyncio.run(test())


def test_heartbeats_come_in_silence_as_comments_or_events(serve: Serve) -> None:
    server = serve()

    async def test(stream: sse_fast.Stream, **options: Any) -> bytes:
        asked = Asgi(asgi.EventSourceResponse(stream, heartbeat=0.02, **options))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) >= 5)
        stream.end()
        await running
        return asked.body

    assert asyncio.run(test(server.stream("a"))).startswith(b":\n: heartbeat\n: heartbeat\n: heartbeat\n")
    assert asyncio.run(test(server.stream("b"), comment="computing")).startswith(b":\n: computing\n: computing\n")
    beats = parse(asyncio.run(test(server.stream("c"), heartbeat_event="alive")))[:-1]
    assert {(beat.event, beat.own_id) for beat in beats} == {("alive", None)}
    assert abs(beats[0].json()["timestamp"] / 1000 - time.time()) < DEADLINE


def test_a_head_request_gets_the_head_alone(serve: Serve) -> None:
    stream = serve().stream("s")
    asked = asyncio.run(Asgi(asgi.EventSourceResponse(stream), method="HEAD").run())
    assert (asked.status, asked.body) == (200, b"")


def test_a_client_that_leaves_ends_it_and_is_told(serve: Serve) -> None:
    stream = serve().stream("s")
    closed: list[str] = []

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream, on_close=lambda: closed.append("closed")))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        assert not closed
        asked.gone.set()
        await running
        assert len(asked.sent) == 2
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(test())
    assert closed == ["closed"]


def test_a_send_that_fails_is_a_client_that_has_gone(serve: Serve) -> None:
    stream = serve().stream("s", start="all")
    stream.publish("1")

    class Broken(Asgi):
        async def send(self, event: Any) -> None:
            await super().send(event)
            if "body" in event:
                raise BrokenPipeError

    closed: list[str] = []
    asyncio.run(Broken(asgi.EventSourceResponse(stream, on_close=lambda: closed.append("closed"))).run())
    assert closed == ["closed"]


def test_what_a_server_raises_is_not_hidden(serve: Serve) -> None:
    class Wrong(Asgi):
        async def send(self, event: Any) -> None:
            if "body" in event:
                raise LookupError("no such state")

    with pytest.raises(LookupError):
        asyncio.run(Wrong(asgi.EventSourceResponse(serve().stream("s"))).run())


def test_a_reader_that_takes_nothing_is_given_up(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream, stall_timeout=0.1))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        asked.full.set()
        stream.publish("not taken")
        await running
        assert asked.sent[-1].get("more_body"), "a cut body must not look like a whole one"

    asyncio.run(test())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("leaves", [True, False], ids=["it leaves", "it stays"])
def test_a_reader_that_does_not_even_take_the_head_is_given_up(serve: Serve, method: str, leaves: bool) -> None:
    stream, over = serve().stream("s"), []

    async def test() -> None:
        response = asgi.EventSourceResponse(
            stream, stall_timeout=3600.0 if leaves else 0.1, on_close=lambda: over.append(True)
        )
        asked = Asgi(response, method=method)
        asked.full.set()
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 1)
        if leaves:
            asked.gone.set()
        await running
        assert [event["type"] for event in asked.sent] == ["http.response.start"]

    asyncio.run(test())
    assert over == [True]


@pytest.mark.parametrize("ending", ["remove", "end"])
def test_204_is_for_a_stream_that_has_ended_alone(serve: Serve, ending: str) -> None:
    stream = serve().stream("s")
    last = stream.publish("x")
    if ending == "end":
        last = stream.end()
    else:
        stream.remove()

    async def test() -> Asgi:
        return await Asgi(asgi.EventSourceResponse(stream, last_event_id=last)).run()

    asked = asyncio.run(test())
    assert asked.status == (204 if ending == "end" else 200)
    assert asked.body.startswith(b"" if ending == "end" else b"retry: ")


def test_a_silent_stream_is_no_reader_that_takes_nothing(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream, stall_timeout=0.01, heartbeat=None))
        running = asyncio.create_task(asked.run())
        await asyncio.wait({running}, timeout=0.2)
        assert not running.done()
        stream.end()
        await running

    asyncio.run(test())


def test_a_slow_reader_delays_no_publisher_and_is_told_what_it_missed(serve: Serve) -> None:
    stream = serve().stream("s", history=10, max_lag=10)

    async def test() -> bytes:
        asked = Asgi(asgi.EventSourceResponse(stream))
        may_go_on = asyncio.Event()
        send = asked.send

        async def slow(event: Any) -> None:
            await send(event)
            if b"first" in event.get("body", b""):
                await may_go_on.wait()

        asked.send = slow  # type: ignore[method-assign]
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        stream.publish("first")
        await asked.until(lambda: b"first" in asked.body)
        for number in range(100):
            stream.publish(number)
        stream.end()
        may_go_on.set()
        await running
        return asked.body

    events = parse(asyncio.run(test()))
    assert [event.event for event in events[:2]] == ["message", "gap"]
    assert events[1].json()["skipped"] + len(events) - 2 == 101
    assert events[-1].event == "end"


def test_the_closing_of_the_engine_ends_it(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        await server.aclose()
        await running
        assert asked.sent[-1] == {"type": "http.response.body", "body": b""}

    asyncio.run(test())


def test_background_work_comes_after_the_response(serve: Serve) -> None:
    stream, _ = filled(serve(), start="all")
    order: list[str] = []

    async def later() -> None:
        order.append("background")

    response = asgi.EventSourceResponse(stream, background=later, on_close=lambda: order.append("closed"))  # type: ignore[arg-type]
    asyncio.run(Asgi(response).run())
    assert order == ["closed", "background"]


def test_responses_that_are_over_leave_nothing(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> weakref.ref[Any]:
        for _ in range(50):
            response = asgi.EventSourceResponse(stream)
            asked = Asgi(response)
            running = asyncio.create_task(asked.run())
            await asked.until(lambda asked=asked: len(asked.sent) == 2)  # type: ignore[misc]
            asked.gone.set()
            await running
        return weakref.ref(response._reading)

    threads = threading.active_count()
    reading = asyncio.run(test())
    gc.collect()
    assert reading() is None
    assert not asgi._bodies
    assert threading.active_count() == threads


def test_websockets_are_refused(serve: Serve) -> None:
    asked = Asgi(asgi.EventSourceResponse(serve().stream("s")))
    asked.scope["type"] = "websocket"
    with pytest.raises(RuntimeError, match="websocket"):
        asyncio.run(asked.run())


def test_a_request_of_wsgi_is_told_the_right_response(serve: Serve) -> None:
    with pytest.raises(sse_fast.ArgumentTypeError, match=r"sse_fast\.wsgi\.django_response"):
        asgi.django_response(types.SimpleNamespace(META={}), serve().stream("s"))
