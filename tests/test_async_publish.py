"""Publishing from coroutines.

Guards that `apublish` and its like do what those without an `a` do, and never hold up their loop: others run every 64
events; a task that has to wait for a reader waits alone, without a thread, in its place among all publishers
(`shard/task_tests.rs` steps that by hand), and has published nothing when it is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import trio
import uvloop

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until, until_async
from support.left_behind import descriptors, threads
from support.reader import Reader
from support.turns import turns

PADDING = "x" * 2000

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def run_trio(main: Coroutine[Any, Any, Any]) -> Any:
    async def started() -> Any:
        return await main

    return trio.run(started)


@pytest.fixture(params=[asyncio.run, uvloop.run, run_trio], ids=["asyncio", "uvloop", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


@contextlib.asynccontextmanager
async def waiting(server: sse_fast.Server, count: int = 1) -> AsyncIterator[tuple[Reader, list[asyncio.Task[Any]]]]:
    """A reader that takes nothing, and tasks that publish one event each into its stream, and wait for it."""
    stream = server.stream("s", history=8, max_lag=8)
    with Reader(server.port, receive_buffer=4096) as reader:
        await until_async(lambda: stream.subscribers == 1)
        filling = asyncio.create_task(fill(stream))
        await until_async(lambda: server.stats().blocked > 0, what="a full socket")
        published = -1
        while published != stream.stats().published:  # What the shard had not offered yet is waited for too.
            published = stream.stats().published
            await asyncio.sleep(0.05)
        tasks = [filling, *(asyncio.create_task(stream.apublish(f"{number}")) for number in range(1, count))]
        await turns()
        assert not any(task.done() for task in tasks)
        try:
            yield reader, tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def fill(stream: sse_fast.Stream) -> None:
    while True:
        await stream.apublish(PADDING)


def lossless(serve: Serve) -> sse_fast.Server:
    """Publishers wait as long as it takes."""
    return serve(publish_wait=None, heartbeat=None, stall_timeout=600.0)


def test_they_do_what_the_others_do(server: sse_fast.Server, run: Run) -> None:
    stream = server.stream("s", start="all")

    async def main() -> None:
        first = await stream.apublish({"n": 1}, event="progress", retry=2.0)
        assert first == stream.last_id
        assert await stream.apublish("own", id="mine", snapshot="instead") == "mine"
        ids = await stream.apublish_many([("a", "line"), {"data": b"b"}, sse_fast.Event("c", event="e")])
        assert len(ids) == 3
        await stream.asnapshot({"step": 7})
        await stream.asnapshot("8", event="now")
        assert await stream.aend({"over": True}, event="done") == stream.last_id
        with pytest.raises(sse_fast.StreamEnded):
            await stream.apublish("late")
        with pytest.raises(sse_fast.StreamEnded):
            await stream.apublish_many([("late", None)])
        with pytest.raises(sse_fast.StreamEnded):
            await stream.asnapshot("late")
        with pytest.raises(sse_fast.StreamEnded):
            await stream.aend()

    run(main())
    with Reader(server.port) as reader:
        events = reader.rest()
    assert [(event.event, event.data) for event in events] == [("now", "8"), ("done", '{"over":true}')]


def test_what_cannot_be_published_is_refused_as_the_others_refuse_it(server: sse_fast.Server, run: Run) -> None:
    stream = server.stream("s", start="all")

    async def main() -> None:
        with pytest.raises(sse_fast.EventError, match="event"):
            await stream.apublish("x", event="a\nb")
        with pytest.raises(sse_fast.EventTypeError, match="object"):
            await stream.apublish(object())
        with pytest.raises(sse_fast.EventTypeError, match=r"events\[130\]"):
            await stream.apublish_many([("x", None)] * 130 + [("x", "y", "z")])  # type: ignore[list-item]
        with pytest.raises(sse_fast.EventError, match=r"events\[70\]"):
            await stream.apublish_many([("x", None)] * 70 + [("x", "a\nb")])
        for wrong in ("text", {"data": 1}, 7):
            with pytest.raises(sse_fast.EventTypeError, match="events"):
                await stream.apublish_many(wrong)  # type: ignore[arg-type]
        with pytest.raises(sse_fast.EventError, match="event"):
            await stream.aend(event="a\nb")

    run(main())
    assert stream.last_id is None, "nothing was published"
    assert not stream.ended


def test_data_is_taken_at_the_call(server: sse_fast.Server) -> None:
    """What changes while the coroutine waits for its turn was not converted before it."""
    stream = server.stream("s", start="all")

    async def main() -> list[str]:
        state = {"n": 1}
        await stream.apublish(state)
        state["n"] = 2
        await stream.aend(state)
        return [event.data async for event in stream.events(timeout=DEADLINE)]

    assert asyncio.run(main()) == ['{"n":1}', '{"n":2}']


@pytest.mark.parametrize("how", ["one by one", "many", "snapshots"])
def test_others_run_every_64_events(server: sse_fast.Server, how: str) -> None:
    stream = server.stream("s")
    count = 6400

    async def main() -> int:
        ran = 0

        async def other() -> None:
            nonlocal ran
            while True:
                ran += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        if how == "many":
            await stream.apublish_many(("x", None) for _ in range(count))
        else:
            for _ in range(count):
                await (stream.apublish("x") if how == "one by one" else stream.asnapshot("x"))
        task.cancel()
        return ran

    ran = asyncio.run(main())
    # Both the conversion and the publishing of many let others run.
    assert 99 <= ran <= (210 if how == "many" else 101)


def test_a_task_that_waits_for_a_reader_holds_up_nobody(serve: Serve) -> None:
    server = lossless(serve)

    async def main() -> None:
        before = threads(), descriptors()
        async with waiting(server, 20) as (reader, tasks):
            await turns(1000)
            assert not any(task.done() for task in tasks)
            assert threads() <= before[0], "no thread waits"
            assert descriptors() <= before[1] + 3, "a descriptor for the loop, and the connection's two ends"
            done = asyncio.gather(*tasks[1:])
            while not done.done():
                await asyncio.to_thread(reader.pump)
            assert len(set(await done)) == 19

    asyncio.run(main())


def test_one_that_is_cancelled_while_it_waits_has_published_nothing(serve: Serve) -> None:
    server = lossless(serve)

    async def main() -> None:
        async with waiting(server, 5) as (reader, tasks):
            stream = server.stream("s")
            cancelled = tasks[1:3]
            for task in cancelled:
                task.cancel()
            await asyncio.wait(cancelled)
            assert all(task.cancelled() for task in cancelled)
            rest = asyncio.gather(*tasks[3:])
            await reading(reader, rest)
            tasks[0].cancel()
            await asyncio.wait([tasks[0]])
            await reading(reader, asyncio.create_task(stream.aend("over")))
            await asyncio.to_thread(reader.read_until, lambda: reader.parser.events[-1].data == "over")
            assert [event.data for event in reader.parser.events if event.data in "1234"] == ["3", "4"]

    async def reading(reader: Reader, until_then: asyncio.Future[Any]) -> None:
        while not until_then.done():
            with contextlib.suppress(TimeoutError):
                await asyncio.to_thread(reader.pump, 0.1)
        await until_then

    asyncio.run(main())


def test_a_busy_loop_holds_up_no_thread_that_publishes(serve: Serve) -> None:
    """A task that waits has its place; one that does not come when it is called is gone past."""
    server = lossless(serve)
    stream = server.stream("s", history=8, max_lag=8)

    async def main() -> None:
        async with waiting(server) as (reader, _tasks):
            published = threading.Event()

            def publish() -> None:
                stream.publish("from a thread")
                published.set()

            threading.Thread(target=publish, daemon=True).start()
            await asyncio.sleep(0.05)
            assert not published.is_set(), "it waits behind the task"

            def read() -> None:
                while not published.is_set():
                    with contextlib.suppress(TimeoutError):
                        reader.pump(0.5)

            reading = threading.Thread(target=read, daemon=True)
            reading.start()
            held = published.wait(DEADLINE)  # The loop does nothing else.
            reading.join(DEADLINE)
            assert held

    asyncio.run(main())


def test_ending_and_closing_are_told_to_those_who_wait(serve: Serve) -> None:
    server = lossless(serve)

    async def main() -> None:
        async with waiting(server, 3) as (_reader, tasks):
            server.stream("s").remove()
            for task in tasks:
                with pytest.raises(sse_fast.StreamEnded):
                    await task
        async with waiting(server, 3) as (_reader, tasks):
            await asyncio.to_thread(server.close, 0.0)
            for task in tasks:
                with pytest.raises(sse_fast.ServerClosed):
                    await task

    asyncio.run(main())


def test_the_budget_is_a_thread_s(serve: Serve) -> None:
    """Tasks wait for a reader that takes nothing as long as a thread does: W/8 in a minute, with `publish_wait` W."""
    server = serve(stall_timeout=600.0, heartbeat=None, publish_wait=1.0)
    stream = server.stream("s", history=8, max_lag=8)

    async def main() -> None:
        with Reader(server.port, receive_buffer=4096):
            await until_async(lambda: stream.subscribers == 1)
            for _ in range(2000):
                await stream.apublish(PADDING)

    asyncio.run(main())
    stats = server.stats()
    # A machine that is busy gives the processor back late.
    assert 0 < stats.publish_socket_wait_s <= 1.2 * 0.125


def test_a_loop_that_is_closed_while_a_task_waits_leaves_nothing_behind(serve: Serve) -> None:
    server = lossless(serve)
    stream = server.stream("s", history=8, max_lag=8)
    with Reader(server.port, receive_buffer=4096) as reader:
        until(lambda: stream.subscribers == 1)

        async def begin() -> None:
            task = asyncio.create_task(fill(stream))
            await until_async(lambda: server.stats().blocked > 0)
            await asyncio.sleep(0.05)
            assert not task.done()

        asyncio.run(begin())  # It cancels what still waits.
        reading = threading.Thread(target=lambda: reader.read_until(lambda: reader.parser.events[-1].data == "y"))
        reader.open()
        stream_thread = threading.Thread(target=lambda: stream.publish("y"))
        stream_thread.start()
        reading.start()
        stream_thread.join(DEADLINE)
        reading.join(DEADLINE)
        assert not stream_thread.is_alive()
