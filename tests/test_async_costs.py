"""What readers in programs of asyncio cost: system calls of a publish, and descriptors.

Counts, never time. Guards that a publish wakes an event loop and not each of its
readers, that a loop needs one descriptor however many read, and that it is given
back when they are cancelled, at the end, and with the loop.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

import sse_fast
from support.deadline import until_async
from support.left_behind import descriptors
from support.strace import traced
from support.turns import turns

READERS = 200

#: Publishes from a thread that has no event loop, between two marks: first with no reader, then with many that wait,
#: then while their loop is held up and cannot look.
PUBLISHER = """
import asyncio, os, sse_fast, sys, threading
server = sse_fast.serve(0, shards=1, heartbeat=None)
stream = server.stream("s", history=10_000, max_lag=10_000)
print(os.getpid(), flush=True)

def publish(name):
    os.access("/counted/begin-" + name, os.F_OK)
    for _ in range(100):
        stream.publish("x")
    os.access("/counted/end-" + name, os.F_OK)

taken = 0

async def read():
    global taken
    async for _ in stream.events():
        taken += 1

async def they_wait():  # After so many turns of the loop.
    for _ in range(3):
        await asyncio.sleep(0)

async def main():
    readers = [asyncio.create_task(read()) for _ in range(READERS)]
    await they_wait()
    await asyncio.to_thread(publish, "waiting")
    while taken < 100 * READERS:
        await asyncio.sleep(0)
    await they_wait()
    publisher = threading.Thread(target=publish, args=("held",))
    publisher.start()
    publisher.join()  # The loop looks at nothing meanwhile.
    print("done", flush=True)
    stream.end()
    await asyncio.gather(*readers)

publish("nobody")
asyncio.run(main())
"""

#: What wakes another thread through a descriptor.
WRITES = ("write", "writev", "sendto", "sendmsg")


@pytest.mark.parametrize(
    ("when", "at_least", "at_most"),
    [
        ("nobody", 0, 0),
        # The loop looks between two publishes: it may have to be woken for each.
        ("waiting", 1, 100),
        # It was told once and has not looked since.
        ("held", 1, 1),
    ],
)
def test_a_publish_wakes_a_loop_and_not_its_readers(tmp_path: Path, when: str, at_least: int, at_most: int) -> None:
    with traced(PUBLISHER.replace("READERS", str(READERS)), tmp_path) as program:
        program.program.line_with("done", 60)
        calls = program.calls_of_marker(f"begin-{when}", f"end-{when}")
    woken = sum(calls[name] for name in WRITES)
    print(f"100 events, {READERS} readers, {when}: {woken} wake-ups, {dict(calls)}")
    assert at_least <= woken <= at_most, calls


@asynccontextmanager
async def reading(stream: sse_fast.Stream, count: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that read the stream, and wait by now."""

    async def read() -> None:
        async for _ in stream.events():
            pass

    tasks = [asyncio.create_task(read()) for _ in range(count)]
    await turns()
    yield tasks


def collected_descriptors() -> int:
    gc.collect()
    return descriptors()


def test_a_loop_needs_one_descriptor_however_many_read(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> tuple[int, int]:
        before = descriptors()
        async with reading(stream, READERS) as tasks:
            needed = descriptors() - before
            stream.end()
            await asyncio.gather(*tasks)
        return needed, descriptors() - before

    needed, left = asyncio.run(main())
    assert needed <= 1
    assert left <= 1


@pytest.mark.parametrize("how", ["cancelled", "ended", "removed"])
def test_readers_give_back_what_they_needed(server: sse_fast.Server, how: str) -> None:
    """The stream of those that are cancelled stays silent: nothing else tells the engine that they have gone."""
    stream = server.stream("s")

    async def main() -> None:
        async with reading(stream, 1) as first:  # Whatever is needed once and kept is there now.
            before = descriptors()
            for number in range(3):
                other = server.stream(f"s/{number}")
                async with reading(stream if how == "cancelled" else other, READERS) as tasks:
                    if how == "cancelled":
                        for task in tasks:
                            task.cancel()
                    elif how == "ended":
                        other.end()
                    else:
                        other.remove()
                    await asyncio.wait(tasks)
                tasks.clear()
                await until_async(lambda: collected_descriptors() <= before, what="descriptors given back")
            first[0].cancel()

    asyncio.run(main())


def test_a_loop_that_ended_leaves_no_descriptor_behind(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> None:
        async with reading(stream, 10):
            pass  # `asyncio.run` cancels what still reads.

    asyncio.run(main())
    gc.collect()
    before = descriptors()
    for _ in range(20):
        asyncio.run(main())
    gc.collect()
    assert descriptors() <= before


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_closed_while_a_task_waits_leaves_nothing_behind(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """`asyncio.run` cancels what still reads; a program that closes its loop by itself need not."""
    stream = server.stream("s")
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def begin() -> None:
        events = stream.events()

        async def read() -> None:
            async for event in events:
                read_already.set_result(event.data)

        read_already = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(read())
        tasks.add(task)
        await turns()
        stream.publish("x")
        assert await read_already == "x"
        await turns()  # It waits for the next one by now.

    def close_a_loop() -> None:
        loop = new_loop()
        loop.run_until_complete(begin())
        loop.close()
        loops.append(weakref.ref(loop))

    tasks: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()
    close_a_loop()
    before = collected_descriptors()
    for _ in range(50):
        close_a_loop()
    assert collected_descriptors() <= before
    assert not any(loop() for loop in loops)
    assert not tasks
    assert {record.name for record in caplog.records} == {"asyncio"}, "asyncio alone says that tasks were pending"
