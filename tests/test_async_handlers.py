"""Asynchronous handlers: one event loop for all of them, as long as the server lives.

Guards that what one request makes serves the next, that a coroutine that waits holds no thread and is held up by none,
what becomes of tasks that are left over, and the loop that a program gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until, until_async
from support.held import Held
from support.reader import Reader, fetch


def test_requests_share_a_loop_and_what_belongs_to_it(server: sse_fast.Server) -> None:
    lock, loops = asyncio.Lock(), set()

    @server.get("/locked")
    async def locked(_req: sse_fast.Request) -> bool:
        loops.add(asyncio.get_running_loop())
        async with lock:
            await asyncio.sleep(0.01)
            return True

    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(server.port, "/locked")) for _ in range(4)]
        assert [reader.read_to_end() for reader in readers] == [b"true"] * 4
    assert len(loops) == 1


def test_a_task_survives_the_handler_that_made_it(server: sse_fast.Server) -> None:
    tasks, go = set(), asyncio.Event()

    @server.post("/chat")
    async def chat(_req: sse_fast.Request) -> sse_fast.Stream:
        stream = server.stream("chat", start="all")

        async def produce() -> None:
            await go.wait()
            stream.end("over")

        tasks.add(asyncio.create_task(produce()))
        return stream

    @server.post("/go")
    async def release(_req: sse_fast.Request) -> None:
        go.set()

    with Reader(server.port, "/chat", method="POST") as reader:
        reader.open()
        assert fetch(server.port, "/go", method="POST")[0].status == 204
        assert [event.data for event in reader.rest()] == ["over"]


def test_coroutines_that_wait_hold_no_thread_and_wait_for_none(serve: Serve) -> None:
    server = serve(handler_threads=1)
    arrived, go = set(), asyncio.Event()

    @server.get("/wait/{number}")
    async def wait(req: sse_fast.Request) -> str:
        arrived.add(req.params["number"])
        await go.wait()
        return req.params["number"]

    @server.get("/go")
    async def release(_req: sse_fast.Request) -> None:
        go.set()

    with contextlib.ExitStack() as stack:
        server.get("/held")(stack.enter_context(Held()))
        stack.enter_context(Reader(server.port, "/held"))  # The only thread is busy from now on.
        readers = [stack.enter_context(Reader(server.port, f"/wait/{number}")) for number in range(50)]
        before = threading.active_count()
        until(lambda: len(arrived) == 50)
        assert threading.active_count() == before
        fetch(server.port, "/go")
        assert [reader.read_to_end() for reader in readers] == [f'"{number}"'.encode() for number in range(50)]


def test_what_a_function_returns_may_be_awaitable(server: sse_fast.Server) -> None:
    async def later(value: object) -> object:
        await asyncio.sleep(0)
        return value

    server.get("/wrapped")(lambda req: later({"path": req.path}))
    server.route("/s/{id}", "s/{id}", wait=DEADLINE, exists=lambda name: later(name == "s/1"))
    assert fetch(server.port, "/wrapped")[1] == b'{"path":"/wrapped"}'
    with Reader(server.port, "/s/1") as reader:
        reader.open()


class Callable:
    """A handler that is an object."""

    async def __call__(self, _req: sse_fast.Request) -> str:
        await asyncio.sleep(0)
        return asyncio.get_running_loop().__class__.__module__.partition(".")[0]


def test_an_object_whose_call_is_a_coroutine_is_one(server: sse_fast.Server) -> None:
    server.get("/object")(Callable())
    assert fetch(server.port, "/object")[1] == b'"asyncio"'


@pytest.mark.parametrize("stop", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_task_that_ends_the_loop_does_not(
    server: sse_fast.Server, stop: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = set()

    @server.get("/leave")
    async def leave(_req: sse_fast.Request) -> str:
        async def exits() -> None:
            raise stop

        tasks.add(asyncio.create_task(exits()))
        return "left"

    with caplog.at_level(logging.ERROR, "sse_fast"):
        assert fetch(server.port, "/leave")[1] == b'"left"'
        until(lambda: "ended it" in caplog.text)
        assert fetch(server.port, "/leave")[1] == b'"left"'
    until(lambda: all(task.done() for task in tasks))
    assert [repr(task.exception()) for task in tasks] == [repr(stop)] * 2


def test_tasks_have_what_is_left_of_the_drain(serve: Serve) -> None:
    server = serve()
    done: list[str] = []
    tasks = set()

    @server.get("/begin")
    async def begin(_req: sse_fast.Request) -> None:
        async def work() -> None:
            await until_async(lambda: server.closed)
            await asyncio.sleep(0.05)
            done.append("work")

        tasks.add(asyncio.create_task(work()))

    fetch(server.port, "/begin")
    server.close(drain=DEADLINE)
    assert done == ["work"]


def test_tasks_that_need_more_are_cancelled_which_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    ended: list[str] = []
    tasks = set()

    @server.get("/begin")
    async def begin(_req: sse_fast.Request) -> None:
        async def endless_work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append("tidied up")

        tasks.add(asyncio.create_task(endless_work()))

    fetch(server.port, "/begin")
    with caplog.at_level(logging.WARNING, "sse_fast"):
        server.close(drain=0.05)
    assert ended == ["tidied up"]
    assert "endless_work" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "sse_fast handler loop"]


def test_closing_the_server_in_an_async_handler_waits_for_nobody_who_cannot_answer(serve: Serve) -> None:
    server = serve()

    @server.post("/stop")
    async def stop(_req: sse_fast.Request) -> None:
        server.close(drain=0.1)

    with Reader(server.port, "/stop", method="POST") as reader:
        reader.read_eof()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "sse_fast handler loop"])


# ---- The program's own loop ----------------------------------------------------------------


@pytest.fixture
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE)
    loop.close()


def test_handlers_run_on_the_loop_that_is_given(running_loop: asyncio.AbstractEventLoop, serve: Serve) -> None:
    server = serve(loop=running_loop)
    seen: list[Any] = []

    @server.get("/loop")
    async def handle(_req: sse_fast.Request) -> bool:
        seen.append(asyncio.get_running_loop())
        return True

    assert fetch(server.port, "/loop")[1] == b"true"
    assert seen == [running_loop]

    async def own_task() -> None:
        await asyncio.sleep(DEADLINE)

    own = asyncio.run_coroutine_threadsafe(own_task(), running_loop)
    server.close(drain=DEADLINE)
    assert not own.done(), "the program's own tasks are its own"
    own.cancel()


def test_a_server_in_a_program_of_asyncio_closes_in_its_loop(serve: Serve) -> None:
    async def program() -> bytes:
        with sse_fast.serve(0, loop=asyncio.get_running_loop()) as server:

            @server.get("/loop")
            async def handle(_req: sse_fast.Request) -> bool:
                await asyncio.sleep(0)
                return True

            return (await asyncio.to_thread(fetch, server.port, "/loop"))[1]

    assert asyncio.run(program()) == b"true"


def test_a_loop_that_is_closed_is_a_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    server = serve(loop=loop)

    @server.get("/loop")
    async def handle(_req: sse_fast.Request) -> bool:
        return True

    loop.close()
    with caplog.at_level(logging.ERROR, "sse_fast"):
        assert fetch(server.port, "/loop")[0].status == 500
    assert "closed" in caplog.text


def test_what_is_no_loop_is_refused() -> None:
    with pytest.raises(sse_fast.ArgumentTypeError, match="loop"):
        sse_fast.serve(0, loop=asyncio.new_event_loop)  # type: ignore[arg-type]
