"""Reading a stream in the process that publishes it, with `for` and `async for`.

Guards `Stream.events`: the same events, gaps and end as over a socket, timeouts
that are errors and can be continued, and that waiting blocks neither the
interpreter nor an event loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest

import sse_fast
from conftest import Open, Serve
from support.process import Program


def test_iteration_gives_what_a_socket_gives(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", start="all")
    stream.publish("a\r\nb", event="e", id="own", retry=1.5)
    stream.publish({"n": 1})
    stream.end("over")
    inside = list(stream.events(timeout=10.0))
    outside = read().open().rest()
    assert [(event.event, event.data, event.id) for event in inside] == [
        (event.event, event.data, event.own_id) for event in outside
    ]
    assert inside[0] == sse_fast.Event("a\nb", event="e", id="own", retry=1.5)
    assert inside[1].json() == {"n": 1}


def test_iteration_follows_a_stream_that_is_written_meanwhile(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", history=5000, max_lag=5000)

    def publish() -> None:
        for number in range(3000):
            stream.publish(number)
        stream.end("over")

    thread = threading.Thread(target=publish)
    thread.start()
    got = [event.data for event in stream.events(timeout=20.0)]
    thread.join()
    assert got == [*map(str, range(3000)), "over"]


def test_a_silent_stream_raises_wait_timeout_and_iteration_goes_on(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    events = stream.events(timeout=0.05)
    with pytest.raises(sse_fast.WaitTimeout) as caught:
        next(events)
    assert isinstance(caught.value, TimeoutError)
    stream.publish("x")
    assert next(events).data == "x"
    with pytest.raises(sse_fast.WaitTimeout):
        next(events)


def test_async_iteration_gives_the_same(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", history=3000, max_lag=3000)

    async def main() -> list[str]:
        async def publish() -> None:
            for number in range(1000):
                stream.publish(number)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            stream.end("over")

        task = asyncio.create_task(publish())
        got = [event.data async for event in stream.events(timeout=20.0)]
        await task
        return got

    assert asyncio.run(main()) == [*map(str, range(1000)), "over"]


def test_async_iteration_leaves_the_loop_free_and_can_be_cancelled(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> str:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        other = asyncio.create_task(turn())
        events = stream.events()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext_of(events), 0.2)
        assert turns > 20
        stream.publish("after the cancellation")
        event = await asyncio.wait_for(anext_of(events), 10)
        other.cancel()
        data: str = event.data
        return data

    async def anext_of(events: Any) -> Any:
        return await events.__anext__()

    assert asyncio.run(main()) == "after the cancellation"


def test_async_timeout_raises_wait_timeout(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def main() -> None:
        async for _ in stream.events(timeout=0.05):
            pass

    with pytest.raises(sse_fast.WaitTimeout):
        asyncio.run(main())


def test_many_async_readers_share_one_loop_and_cost_no_thread_each(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")
    before = threading.active_count()

    async def main() -> tuple[list[list[str]], int]:
        async def one() -> list[str]:
            return [event.data async for event in stream.events(timeout=20.0)]

        tasks = [asyncio.create_task(one()) for _ in range(50)]
        await asyncio.sleep(0.05)
        stream.publish("x")
        await asyncio.sleep(0.01)
        threads = threading.active_count()
        stream.end("over")
        return list(await asyncio.gather(*tasks)), threads

    got, threads = asyncio.run(main())
    assert got == [["x", "over"]] * 50
    assert threads <= before + 2


def test_last_event_id_and_start_choose_where_to_begin(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    ids = [stream.publish(number) for number in range(5)]
    stream.end("over")
    assert [event.data for event in stream.events(start="all")] == ["0", "1", "2", "3", "4", "over"]
    assert [event.data for event in stream.events(start="last")] == ["over"]
    assert [event.data for event in stream.events(last_event_id=ids[2])] == ["3", "4", "over"]
    with pytest.raises(ValueError, match="start"):
        stream.events(start="middle")  # type: ignore[arg-type]


def test_a_reader_that_fell_out_of_history_is_told_exactly(server: sse_fast.Server) -> None:
    stream = server.stream("s", history=5, max_lag=5)
    events = stream.events(timeout=10.0)
    for number in range(20):
        stream.publish(number)
    gap = next(events)
    assert gap.event == "gap"
    assert gap.json()["skipped"] == 15
    assert [next(events).data for _ in range(5)] == ["15", "16", "17", "18", "19"]


def test_no_heartbeat_is_seen_inside(server: sse_fast.Server) -> None:
    stream = server.stream("s", heartbeat=0.05, heartbeat_event="heartbeat")
    events = stream.events(timeout=0.3)
    with pytest.raises(sse_fast.WaitTimeout):
        next(events)


def test_readers_inside_are_no_subscribers(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    events = stream.events(timeout=5.0)
    assert stream.subscribers == 0
    stream.end("over")
    assert [event.data for event in events] == ["over"]


def test_closing_the_server_and_removing_the_stream_end_the_iteration(serve: Serve) -> None:
    for way in ("close", "remove"):
        server = serve()
        stream = server.stream("s")
        ended = threading.Event()

        def follow(stream: Any = stream, ended: threading.Event = ended) -> None:
            for _ in stream.events():
                pass
            ended.set()

        thread = threading.Thread(target=follow)
        thread.start()
        (server.close if way == "close" else stream.remove)()
        assert ended.wait(20), way
        thread.join()


def test_waiting_leaves_the_interpreter_to_others(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    threads = [threading.Thread(target=lambda: list(stream.events())) for _ in range(20)]
    for thread in threads:
        thread.start()
    start = time.thread_time()
    for _ in range(10):
        time.sleep(0.01)
    assert time.thread_time() - start < 1.0
    stream.end("over")
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_ctrl_c_interrupts_a_waiting_reader() -> None:
    with Program(
        """
        import sse_fast
        server = sse_fast.serve(0)
        try:
            print("waiting")
            for event in server.stream("s").events():
                pass
        except KeyboardInterrupt:
            print("interrupted")
        """
    ) as program:
        assert program.line() == "waiting"
        # Ctrl-C may come in the moment before the wait; that is no different for the user.
        os.kill(program.pid, signal.SIGINT)
        assert program.line() == "interrupted"
        assert program.wait() == 0
