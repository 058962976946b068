"""Readers inside the process, in programs of asyncio.

Guards that `async for` gives what `for` gives, that iteration leaves the loop to others
however busy or silent the stream is, that it can be closed and cancelled at any moment
without losing an event, and that two tasks cannot take each other's events. What it
costs is in test_async_costs.py.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest

import sse_fast
from support.deadline import DEADLINE
from support.turns import turns


async def waiting(events: Any) -> asyncio.Task[list[str]]:
    """A task that reads to the end, and waits by now."""

    async def read() -> list[str]:
        return [event.data async for event in events]

    task = asyncio.create_task(read())
    await turns()
    return task


def test_async_iteration_gives_the_same(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", history=3000, max_lag=3000)

    async def main() -> list[str]:
        async def publish() -> None:
            for number in range(1000):
                stream.publish(number)
                if number % 50 == 0:
                    await turns(1)
            stream.end("over")

        task = asyncio.create_task(publish())
        got = [event.data async for event in stream.events(timeout=DEADLINE)]
        await task
        return got

    assert asyncio.run(main()) == [*map(str, range(1000)), "over"]


def test_async_timeout_raises_wait_timeout(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> None:
        async for _ in stream.events(timeout=0.05):
            pass

    with pytest.raises(sse_fast.WaitTimeout):
        asyncio.run(main())


def test_a_silent_stream_leaves_the_loop_to_others(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> list[str]:
        reader = await waiting(stream.events(timeout=DEADLINE))
        await turns(1000)
        assert not reader.done()
        stream.end("over")
        return await reader

    assert asyncio.run(main()) == ["over"]


def test_a_busy_stream_leaves_the_loop_to_others(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", history=20_000, max_lag=20_000)
    stream.publish_many({"data": str(number)} for number in range(10_000))

    async def main() -> tuple[int, int]:
        ran = 0

        async def turn() -> None:
            nonlocal ran
            while True:
                ran += 1
                await turns(1)

        other = asyncio.create_task(turn())
        taken = 0
        async for _ in stream.events(timeout=DEADLINE):
            taken += 1
            if taken == 10_000:
                break
        other.cancel()
        return taken, ran

    taken, ran = asyncio.run(main())
    assert taken == 10_000
    assert ran >= 100


def test_many_readers_share_one_loop_and_cost_no_thread_each(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")
    before = threading.active_count()

    async def main() -> tuple[list[list[str]], int]:
        readers = [await waiting(stream.events(timeout=DEADLINE)) for _ in range(50)]
        stream.publish("x")
        await turns()
        threads = threading.active_count()
        stream.end("over")
        return list(await asyncio.gather(*readers)), threads

    got, threads = asyncio.run(main())
    assert got == [["x", "over"]] * 50
    assert threads <= before + 2


def test_readers_of_several_loops_get_the_same(server: sse_fast.Server) -> None:
    """Each loop is woken for itself, whatever the others do."""
    stream = server.stream("s", history=5000, max_lag=5000)
    ready = threading.Barrier(5)
    got: list[list[list[str]]] = []

    async def main() -> None:
        readers = [await waiting(stream.events(timeout=DEADLINE)) for _ in range(10)]
        ready.wait(DEADLINE)
        got.append(list(await asyncio.gather(*readers)))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait(DEADLINE)
    for number in range(1000):
        stream.publish(number)
    stream.end("over")
    for thread in threads:
        thread.join(DEADLINE)
    assert got == [[[*map(str, range(1000)), "over"]] * 10] * 4


def test_a_second_task_in_the_same_iteration_is_told(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> str:
        events = stream.events(timeout=DEADLINE)
        first = asyncio.ensure_future(anext_of(events))
        await turns()
        with pytest.raises(RuntimeError, match="two tasks"):
            await anext_of(events)
        stream.publish("x")
        data: str = (await first).data
        return data

    assert asyncio.run(main()) == "x"


async def anext_of(events: Any) -> Any:
    return await events.__anext__()


@pytest.mark.parametrize("where", ["a task", "a thread"])
def test_closing_ends_a_waiting_iteration(server: sse_fast.Server, where: str) -> None:
    """Nothing is published, so nothing else could end it."""
    stream = server.stream("s")

    async def main() -> list[str]:
        events = stream.events()
        reader = await waiting(events)
        if where == "a task":
            events.close()
        else:
            threading.Thread(target=events.close).start()
        return await asyncio.wait_for(reader, DEADLINE)

    assert asyncio.run(main(), debug=True) == []


def test_an_iteration_may_be_closed_after_its_loop(server: sse_fast.Server) -> None:
    events = server.stream("s").events()
    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(waiting(events))
    loop.close()
    events.close()
    assert list(events) == []
    assert not task.done(), "nothing could tell it"


def test_cancelling_again_and_again_loses_no_event(server: sse_fast.Server) -> None:
    stream = server.stream("s", history=5000, max_lag=5000)
    more = threading.Semaphore(0)

    def publish() -> None:
        for number in range(2000):
            assert more.acquire(timeout=DEADLINE)
            stream.publish(str(number))

    async def main() -> list[str]:
        events = stream.events(timeout=DEADLINE)
        seen: list[str] = []
        publisher = threading.Thread(target=publish)
        publisher.start()
        # So many turns of the loop are given before it is cancelled: before, while and after events come.
        for patience in itertools.cycle(range(6)):
            if len(seen) == 2000:
                break
            more.release(3)
            task = asyncio.ensure_future(take(events, seen))
            await turns(patience)
            task.cancel()
            await asyncio.wait([task])
        await asyncio.to_thread(publisher.join)
        return seen

    async def take(events: Any, seen: list[str]) -> None:
        async for event in events:
            seen.append(event.data)  # noqa: PERF401 - what was seen before it is cancelled counts

    assert asyncio.run(main()) == [str(number) for number in range(2000)]


def test_a_cancelled_wait_goes_on_with_the_next_event(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> str:
        events = stream.events(timeout=DEADLINE)
        first = asyncio.ensure_future(anext_of(events))
        await turns()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        stream.publish("after the cancellation")
        data: str = (await anext_of(events)).data
        return data

    assert asyncio.run(main()) == "after the cancellation"
