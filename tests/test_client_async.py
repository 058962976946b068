"""`sse_fast.AsyncClient`: the client of programs of asyncio, against the real engine.

Guards what differs from the client of threads: tasks that share it and are cancelled, loops that come and go; and once
more that nothing is lost or doubled. What an answer means is the same code, tested in test_client.py.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.cutting import CuttingProxy
from support.deadline import DEADLINE, until_async
from support.proxy import Proxy

KEY = "a-key-of-32-characters-or-more-00"


@pytest.fixture
def hub(serve: Serve) -> sse_fast.Server:
    return serve(publish_key=KEY)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """On a loop of its own, within the deadline."""
    return asyncio.run(asyncio.wait_for(main, DEADLINE * 2))


def data_of(stream: sse_fast.Stream) -> list[str]:
    return [event.data for event in stream.events(start="all", timeout=DEADLINE)]


def test_it_publishes_what_a_stream_would_and_tells_the_state(hub: sse_fast.Server) -> None:
    async def main() -> None:
        async with sse_fast.AsyncClient(hub.url, key=KEY) as client:
            stream = client.stream("s")
            assert (stream.name, await stream.last_id(), await stream.ended()) == ("s", None, False)
            assert hub.stream("empty").last_id is await client.stream("empty").last_id() is None
            assert (await stream.publish({"n": 1}, event="A", snapshot="state")).endswith("-1")
            assert len(await stream.publish_many([(n, None) for n in range(600)])) == 600
            await stream.snapshot({"n": 2}, event="state")
            last = await stream.end("over", event="DONE")
            assert (await stream.last_id(), await stream.ended()) == (last, True)
            with pytest.raises(sse_fast.StreamEnded):
                await stream.publish(1)
            with pytest.raises(sse_fast.EventTypeError, match="is not JSON"):
                await stream.publish(object())
            await stream.remove()
            await stream.remove()
            assert await stream.last_id() is None

    run(main())


def test_a_key_of_the_caller_s_own_publishes_once(hub: sse_fast.Server) -> None:
    async def main() -> tuple[list[str], list[list[str]]]:
        async with sse_fast.AsyncClient(hub.url, key=KEY) as client:
            one = [await client.stream("s").publish("x", idempotency_key="task") for _ in range(3)]
            one += await client.stream("s").publish_many([("x", None)], idempotency_key="task")
            wide, many = client.stream("t", history=1000), [(number, None) for number in range(300)]
            first = await wide.publish_many(many, idempotency_key="task")
            return one, [first, await client.stream("t", history=3).publish_many(many, idempotency_key="task")]

    one, (first, again) = run(main())
    assert len(set(one)) == 1
    assert first == again


def test_many_tasks_share_a_client(hub: sse_fast.Server) -> None:
    async def main() -> None:
        async with sse_fast.AsyncClient(hub.url, key=KEY) as client:
            await asyncio.gather(*(client.stream("s").publish(number) for number in range(40)))
            assert 0 < len(client._connections._kept) <= 32

    run(main())
    hub.stream("s").end()
    assert sorted(data_of(hub.stream("s"))[:-1], key=int) == [str(number) for number in range(40)]


def test_a_connection_is_kept_for_the_next_request_and_one_that_was_cut_costs_nothing(hub: sse_fast.Server) -> None:
    async def main(proxy: Proxy) -> None:
        async with sse_fast.AsyncClient(f"http://127.0.0.1:{proxy.port}", key=KEY) as client:
            for number in range(10):
                await client.stream("s").publish(number)
            assert proxy.connections == 1
            proxy.cut()
            await client.stream("s").publish(10)

    with Proxy(hub.port) as proxy:
        run(main(proxy))


def test_a_client_outlives_the_loops_that_use_it(hub: sse_fast.Server) -> None:
    """As in a notebook, or a program that calls `asyncio.run` several times."""
    client = sse_fast.AsyncClient(hub.url, key=KEY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio warns of what its loop's end left open.
        ids = [run(client.stream("s").publish(number)) for number in range(3)]
        run(client.aclose())
        gc.collect()
    assert [int(id_.partition("-")[2]) for id_ in ids] == [1, 2, 3]


def test_connections_cut_at_any_byte_neither_lose_nor_double_an_event(serve: Serve) -> None:
    hub = serve(publish_key=KEY, history=20_000, history_bytes=1 << 24)

    async def main(url: str) -> None:
        async with sse_fast.AsyncClient(url, key=KEY, retry_for=60.0) as client:

            async def publish(task: int) -> None:
                for number in range(40):
                    await client.stream("s").publish(f"{task}:{number}")
                await client.stream("s").publish_many([(f"{task}:{number}", None) for number in range(40, 200)])

            await asyncio.gather(*(publish(task) for task in range(8)))

    with CuttingProxy(hub.port, 3, 8_000) as cutting:
        run(main(cutting.url))
        assert cutting.cuts > 10, "they were cut"  # Some 40; how many depends on who uses which connection.
    hub.stream("s").end()
    *seen, _end = data_of(hub.stream("s"))
    for task in range(8):
        mine = [int(text.partition(":")[2]) for text in seen if text.startswith(f"{task}:")]
        assert mine == list(range(200))


def test_a_reader_whose_connections_are_cut_at_any_byte_gets_every_event_once(serve: Serve) -> None:
    hub = serve()
    stream = hub.stream("s", start="all", history=5000)

    async def main(url: str) -> list[str]:
        async with sse_fast.AsyncClient(url, retry_for=60.0) as client:

            async def publish() -> None:
                await stream.apublish_many([(n, None) for n in range(3000)])
                await stream.aend()

            publishing = asyncio.create_task(publish())
            seen = [event.data async for event in client.stream("s").events(timeout=DEADLINE)]
            await publishing
            return seen

    with CuttingProxy(hub.port, 5, 40_000) as cutting:
        assert run(main(cutting.url)) == [*map(str, range(3000)), "null"]
        assert cutting.cuts > 1


def test_a_task_that_is_cancelled_leaves_no_connection_in_the_middle(hub: sse_fast.Server) -> None:
    async def main(proxy: Proxy) -> None:
        async with sse_fast.AsyncClient(f"http://127.0.0.1:{proxy.port}", key=KEY) as client:
            with socket.create_server(("127.0.0.1", 0)) as silent:
                silent.setblocking(False)
                waiting = asyncio.create_task(
                    sse_fast.AsyncClient(f"http://127.0.0.1:{silent.getsockname()[1]}").stream("s").publish(1)
                )
                accepted, _ = await asyncio.get_running_loop().sock_accept(silent)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                while await asyncio.get_running_loop().sock_recv(accepted, 4096):
                    pass  # To its end: it was closed.
                accepted.close()
            assert (await client.stream("s").publish("whole")).endswith("-1")

    with Proxy(hub.port) as proxy:
        run(main(proxy))


def test_a_server_that_is_not_there_or_never_answers_is_unreachable() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(sse_fast.Unreachable, match="no answer came in time") as away:
                await sse_fast.AsyncClient(url, retry_for=0.0, timeout=0.1).stream("s").publish(1)
            assert away.value.published is None
        with pytest.raises(sse_fast.Unreachable, match="Connect") as away:
            await sse_fast.AsyncClient(url, retry_for=0.1).stream("s").publish(1)
        assert away.value.published is False
        client = sse_fast.AsyncClient(url)
        await client.aclose()
        with pytest.raises(sse_fast.Unreachable, match="closed"):
            await client.stream("s").publish(1)

    run(main())


def test_a_server_that_is_restarted_is_waited_for(serve: Serve) -> None:
    async def main(first: sse_fast.Server) -> None:
        async with sse_fast.AsyncClient(first.url, key=KEY, retry_for=DEADLINE) as client:
            await client.stream("s").publish(1)
            await first.aclose()
            later = asyncio.create_task(client.stream("s").publish(2))
            second = serve(first.port, publish_key=KEY)
            assert await later == second.stream("s").last_id

    run(main(serve(publish_key=KEY)))


def test_reading_ends_by_the_terminal_event_by_aclose_and_by_silence(hub: sse_fast.Server) -> None:
    async def main() -> None:
        stream = hub.stream("s", start="all")
        async with sse_fast.AsyncClient(hub.url) as client:
            events = client.stream("s").events(timeout=0.05)
            with pytest.raises(sse_fast.WaitTimeout):
                await anext(events)
            await events.aclose()
            assert [event async for event in events] == []

            async with client.stream("s").events() as waits:
                waiting = asyncio.create_task(anext(waits, None))
                await until_async(lambda: stream.subscribers == 1)
                await waits.aclose()
                assert await waiting is None
            await until_async(lambda: stream.subscribers == 0)
            ids = [stream.publish("a"), stream.end("b", event="DONE")]
            seen = [event async for event in client.stream("s").events(timeout=DEADLINE)]
            assert seen == [sse_fast.Event("a", id=ids[0]), sse_fast.Event("b", "DONE", ids[1])]
            with pytest.raises(sse_fast.EventError):
                client.stream("s").events(last_event_id="a\nb")

    run(main())


def test_a_task_that_waits_for_the_next_event_may_be_cancelled_and_loses_none(hub: sse_fast.Server) -> None:
    async def main() -> None:
        stream = hub.stream("s", start="all")
        async with sse_fast.AsyncClient(hub.url) as client, client.stream("s").events() as events:
            seen = []
            for number in range(20):
                waiting = asyncio.create_task(anext(events))
                await asyncio.sleep(0)
                if number % 2:
                    waiting.cancel()
                    await asyncio.wait([waiting])
                stream.publish(number)
                if not waiting.cancelled():
                    seen.append((await waiting).data)
            seen += [(await anext(events)).data for _ in range(20 - len(seen))]
            assert seen == [str(number) for number in range(20)]

    run(main())


def test_other_tasks_run_while_one_reads_a_flood(hub: sse_fast.Server) -> None:
    """Events that are there already cost no turn each, but other tasks have theirs."""
    stream = hub.stream("s", start="all", history=5000)
    stream.publish_many([(n, None) for n in range(3000)])
    stream.end()

    async def main() -> None:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(turn())
        async with sse_fast.AsyncClient(hub.url) as client:
            assert len([None async for _ in client.stream("s").events(timeout=DEADLINE)]) == 3001
        other.cancel()
        assert turns > 10

    run(main())
