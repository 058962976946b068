"""Readers inside the process, in programs of asyncio.

Guards that iteration leaves the loop to others however busy the stream is, that it
can be closed and cancelled at any moment without losing an event, and that two
tasks cannot take each other's events.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import sse_fast


def test_a_busy_stream_leaves_the_loop_to_others(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", history=20_000, max_lag=20_000)
    stream.publish_many({"data": str(number)} for number in range(10_000))

    async def main() -> tuple[int, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(turn())
        taken = 0
        async for _ in stream.events(timeout=20):
            taken += 1
            if taken == 10_000:
                break
        other.cancel()
        return taken, turns

    taken, turns = asyncio.run(main())
    assert taken == 10_000
    assert turns >= 100


def test_a_second_task_in_the_same_iteration_is_told(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> str:
        events = stream.events(timeout=20)
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="two tasks"):
            await anext(events)
        stream.publish("x")
        return (await first).data

    assert asyncio.run(main()) == "x"


@pytest.mark.parametrize("where", ["a task", "a thread"])
def test_closing_ends_a_waiting_iteration_at_once(server: sse_fast.Server, where: str) -> None:
    stream = server.stream("s")

    async def main() -> float:
        events = stream.events()
        waiting = asyncio.ensure_future(read(events))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        if where == "a task":
            events.close()
        else:
            threading.Thread(target=events.close).start()
        assert await waiting == []
        return time.monotonic() - began

    async def read(events: sse_fast._stream.Events) -> list[str]:
        return [event.data async for event in events]

    assert asyncio.run(main(), debug=True) < 5.0


def test_cancelling_again_and_again_loses_no_event(server: sse_fast.Server) -> None:
    stream = server.stream("s", history=5000, max_lag=5000)
    over = threading.Event()

    def publish() -> None:
        for number in range(2000):
            stream.publish(str(number))
            if number % 50 == 0:
                time.sleep(0.001)
        over.set()

    async def main() -> list[str]:
        events = stream.events(timeout=20)
        seen: list[str] = []
        threading.Thread(target=publish).start()
        while len(seen) < 2000:
            task = asyncio.ensure_future(take(events, seen))
            await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.wait([task])
        return seen

    async def take(events: sse_fast._stream.Events, seen: list[str]) -> None:
        async for event in events:
            seen.append(event.data)  # noqa: PERF401 - what was seen before it is cancelled counts

    assert asyncio.run(main()) == [str(number) for number in range(2000)]
    assert over.wait(20)
