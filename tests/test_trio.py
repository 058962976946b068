"""Programs of trio, and of anyio on either of its backends.

Guards that they read and wait as programs of asyncio do, by trio's own rules (a deadline around a wait passes, a
cancelled task leaves nothing behind), and that a loop of another kind is refused in so many words.
"""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

import sse_fast
from conftest import Open
from support.deadline import DEADLINE
from support.left_behind import descriptors, threads


def test_a_trio_task_reads_to_the_end(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", history=3000, max_lag=3000)

    async def main() -> list[str]:
        async def publish() -> None:
            for number in range(1000):
                stream.publish(number)
                if number % 50 == 0:
                    await trio.lowlevel.checkpoint()
            stream.end("over")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            return [event.data async for event in stream.events(timeout=DEADLINE)]

    assert trio.run(main) == [*map(str, range(1000)), "over"]


def test_many_trio_tasks_share_one_descriptor_and_no_thread(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")

    async def main() -> tuple[list[list[str]], int, int]:
        got: list[list[str]] = []

        async def read() -> None:
            got.append([event.data async for event in stream.events(timeout=DEADLINE)])

        before = descriptors(), threads()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            stream.publish("x")
            await trio.testing.wait_all_tasks_blocked()
            needed = descriptors() - before[0], threads() - before[1]
            stream.end("over")
        return got, *needed

    got, needed, started = trio.run(main)
    assert got == [["x", "over"]] * 50
    assert needed <= 1
    assert started <= 0


def test_a_deadline_around_a_wait_passes_and_loses_nothing(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> str:
        events = stream.events()
        with trio.move_on_after(0.05) as scope:
            await events.__anext__()
        assert scope.cancelled_caught
        stream.publish("after it")
        event = await events.__anext__()
        return str(event.data)

    assert trio.run(main) == "after it"


def test_a_silent_stream_times_out(server: sse_fast.Server) -> None:
    async def main() -> None:
        async for _ in server.stream("s").events(timeout=0.05):
            pass

    with pytest.raises(sse_fast.WaitTimeout):
        trio.run(main)


@pytest.mark.parametrize("where", ["a task", "a thread"])
def test_closing_ends_a_waiting_iteration(server: sse_fast.Server, where: str) -> None:
    stream = server.stream("s")

    async def main() -> None:
        events, got = stream.events(), []

        async def read() -> None:
            got.extend([event async for event in events])

        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                if where == "a task":
                    events.close()
                else:
                    threading.Thread(target=events.close).start()
        assert got == []

    trio.run(main)


def test_runs_one_after_another_leave_nothing_behind(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> None:
        with trio.move_on_after(0.001):
            async for _ in stream.events():
                pass

    trio.run(main)
    before = descriptors()
    for _ in range(20):
        trio.run(main)
    assert descriptors() <= before


def test_a_trio_task_waits_until_nobody_reads(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")

    async def main() -> None:
        reader = await trio.to_thread.run_sync(lambda: read().open())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: stream.await_empty(DEADLINE, after=0.0))
            await trio.testing.wait_all_tasks_blocked()
            reader.close()

    trio.run(main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_programs_of_anyio_read_and_publish_on_either_backend(server: sse_fast.Server, backend: str) -> None:
    stream = server.stream("s", start="all")

    async def main() -> list[str]:
        got: list[str] = []

        async def read() -> None:
            got.extend([event.data async for event in stream.events(timeout=DEADLINE)])

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await stream.apublish_many((str(number), None) for number in range(200))
            await stream.aend("over")
        return got

    assert anyio.run(main, backend=backend) == [*map(str, range(200)), "over"]


def test_a_loop_of_another_kind_is_refused(server: sse_fast.Server) -> None:
    """What drives these coroutines is no event loop at all."""
    stream = server.stream("s")

    def driven(coroutine: Any) -> None:
        with pytest.raises(RuntimeError, match=r"asyncio, .* under trio"):
            coroutine.send(None)

    async def read() -> None:
        async for _ in stream.events():
            pass

    driven(read())
    driven(stream.await_empty(1.0))
    driven(stream.apublish_many([("x", None)]))
