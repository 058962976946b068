"""SIGTERM in a program of asyncio whose server's block has begun, and that does not wait yet, or never will.

Guards that such a signal is not the death of the process where a wait follows, and that it has its usual effect where
none does, where the block ends first, and where the program handles it itself.
"""

from __future__ import annotations

import signal

import pytest

from support.process import Program, run_program
from support.reader import Reader

#: What follows the signal inside the block; each ends by itself, with the server drained.
WAITS = {
    "wait_async": "await server.wait_async()",
    "wait in a thread": "await asyncio.to_thread(server.wait)",
    "wait": "server.wait()",
    "wait_async, a turn later": "await asyncio.sleep(0.05); await server.wait_async()",
}


@pytest.mark.parametrize("block", ["with", "async with"])
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_wait_that_begins_after_the_signal_ends_at_once(block: str, wait: str) -> None:
    source = f"""
import asyncio, signal, sse_fast
async def main():
    {block} sse_fast.serve(0) as server:
        signal.raise_signal(signal.SIGTERM)
        {wait}
        print("drained", server.closed)
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
asyncio.run(main())
"""
    assert run_program(source).lines == ["drained True", "True"]


#: What a program does inside the block; the signal ends each as if nobody had taken it over.
USUAL = {
    "nobody ever waits": "signal.raise_signal(signal.SIGTERM); await ever()",
    "the block ends": "signal.raise_signal(signal.SIGTERM)",
    "nobody waits any more": "await cancelled(server); signal.raise_signal(signal.SIGTERM); await ever()",
}


@pytest.mark.parametrize("inside", USUAL.values(), ids=USUAL)
def test_a_signal_that_nobody_waits_for_has_its_usual_effect(inside: str) -> None:
    source = f"""
import asyncio, contextlib, signal, sse_fast
async def ever():
    await asyncio.Event().wait()
async def cancelled(server):
    waiting = asyncio.ensure_future(server.wait_async())
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
async def main():
    with sse_fast.serve(0) as server:
        {inside}
asyncio.run(main())
"""
    with Program(source) as program:
        assert program.wait() == -signal.SIGTERM
        assert not program.stderr


def test_readers_get_their_end_before_a_signal_that_came_first_ends_the_process() -> None:
    source = """
import asyncio, signal, sse_fast
async def main():
    with sse_fast.serve(0) as server:
        stream = server.stream("s", start="all")
        print(server.port)
        while not stream.subscribers:
            await asyncio.sleep(0.001)
        signal.raise_signal(signal.SIGTERM)
        stream.publish("last words")
asyncio.run(main())
"""
    with Program(source) as program, Reader(int(program.line()), "/streams/s") as reader:
        reader.read_eof()
        assert b"last words" in reader.received
        assert program.wait() == -signal.SIGTERM


def test_a_handler_of_the_programs_own_is_left_alone() -> None:
    source = """
import asyncio, signal, sse_fast
signal.signal(signal.SIGTERM, lambda *_: print("its own"))
async def main():
    with sse_fast.serve(0) as server:
        signal.raise_signal(signal.SIGTERM)
        print(server.closed)
asyncio.run(main())
"""
    assert run_program(source).lines == ["its own", "False"]


def test_ctrl_c_is_not_taken_by_a_block() -> None:
    source = """
import asyncio, signal, sse_fast
async def main():
    with sse_fast.serve(0) as server:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    assert run_program(source).lines == ["interrupted"]
