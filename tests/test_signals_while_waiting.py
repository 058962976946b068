"""Signals in the corners of waiting for a server's end: none is lost.

Guards that a signal ends a waiting or has its usual effect, whatever else happens in
that moment: a timeout, another waiting that ends, a second signal, a handler put over
ours, a fork.
"""

from __future__ import annotations

import signal

import pytest

from support.deadline import until
from support.process import Program, run_program
from support.stuck import STALLED, TELLS


def test_a_signal_that_comes_with_the_timeout_is_no_timeout() -> None:
    # The whole wait is one look at the engine: the signal comes in the middle of it.
    source = """
        import os, signal, sse_fast, sys, threading
        server = sse_fast.serve(0)
        threading.Timer(0.02, os.kill, (os.getpid(), int(sys.argv[1]))).start()
        try:
            server.wait(0.06)
        except sse_fast.WaitTimeout:
            print("lost", server.closed)
        else:
            print("closed", server.closed)
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        assert run_program(source, int(number)).lines == ["closed True"]


@pytest.mark.parametrize("leaves", ["await a.aclose(); await first", "first.cancel()"])
def test_whoever_waits_longer_is_still_told(leaves: str) -> None:
    source = f"""
import asyncio, signal, sse_fast
async def main():
    async with sse_fast.serve(0) as a, sse_fast.serve(0) as b:
        first = asyncio.ensure_future(a.wait_async())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(b.wait_async())
        await asyncio.sleep(0)
        {leaves}
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        await second
        print(b.closed, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
asyncio.run(main())
"""
    assert run_program(source).lines == ["True True"]


LEAVING = {
    "wait_async": "async def main():\n    await server.wait_async()\nasyncio.run(main())",
    "async with": "async def main():\n    async with server:\n        await server.wait_async()\nasyncio.run(main())",
    "with": "with server:\n    server.wait()",
}


@pytest.mark.parametrize("source", LEAVING.values(), ids=LEAVING)
def test_a_second_ctrl_c_ends_the_process_without_the_drain(source: str) -> None:
    beginning = 'import asyncio\nserver = stalled(drain=3600.0)\nprint("ready", flush=True)\n'
    with Program(TELLS + STALLED + beginning + source) as program:
        program.line_with("waiting")
        program.send_signal(signal.SIGINT)
        until(lambda: not program.catches(signal.SIGTERM), what="the first signal being taken")
        program.send_signal(signal.SIGINT)
        assert program.wait() == -signal.SIGINT


@pytest.mark.parametrize("source", LEAVING.values(), ids=LEAVING)
def test_two_signals_in_one_moment_end_the_process_without_the_drain(source: str) -> None:
    beginning = """
import asyncio
def twice(_number, _frame):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGUSR1, twice)
server = stalled(drain=3600.0)
"""
    with Program(TELLS + STALLED + beginning + source) as program:
        program.line_with("waiting")
        program.send_signal(signal.SIGUSR1)
        assert program.wait() == -signal.SIGINT


def test_a_handler_over_ours_that_calls_it_leaves_later_signals_their_effect() -> None:
    source = """
        import signal, sse_fast, sys, threading, time
        server = sse_fast.serve(0)
        def install():
            while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                time.sleep(0.001)
            signal.raise_signal(signal.SIGUSR1)
        def over(number, frame):
            ours = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda n, f: ours(n, f))
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGUSR1, over)
        threading.Thread(target=install).start()
        server.wait()
        print("over", server.closed, flush=True)
        if sys.argv[1] == "again":
            again = sse_fast.serve(0)
            threading.Timer(0.1, signal.raise_signal, (signal.SIGTERM,)).start()
            again.wait()
            print("over", again.closed, flush=True)
        signal.raise_signal(signal.SIGTERM)
        print("alive")
    """
    for how, lines in (("once", 1), ("again", 2)):
        with Program(source, how) as program:
            assert [program.line() for _ in range(lines)] == ["over True"] * lines
            assert program.wait() == -signal.SIGTERM


def test_a_forked_child_of_a_program_that_waits_is_terminated_as_any() -> None:
    source = """
        import multiprocessing, signal, sse_fast, threading, time
        server = sse_fast.serve(0)
        def stay(begun):
            begun.set()
            time.sleep(60)
        def fork():
            while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                time.sleep(0.001)
            begun = multiprocessing.get_context("fork").Event()
            child = multiprocessing.get_context("fork").Process(target=stay, args=(begun,))
            child.start()
            begun.wait()  # Python itself loses a signal that comes before.
            child.terminate()
            child.join()
            print(child.exitcode, flush=True)
            server.close()
        threading.Thread(target=fork).start()
        server.wait()
    """
    assert run_program(source).lines == ["-15"]
