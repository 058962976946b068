"""The ways in which a program waits for its server's end, and what ends it.

Guards `wait`, `wait_async`, `async with`, `aclose` and the setting `drain`: every
signal and every call ends every way of waiting, handlers that the program has
installed are called and are there afterwards, and who is cancelled leaves nothing.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import textwrap
import threading

import pytest

import sse_fast
from support.deadline import until, until_async
from support.process import Program, run_program
from support.reader import Reader
from support.stuck import STALLED, TELLS

#: Programs that wait; each prints its port, and "over" and whether the server is closed at the end.
WAITING = {
    "wait": """
        import sse_fast
        server = sse_fast.serve(0)
        stream = server.stream("s")
        print("port", server.port)
        server.wait()
        print("over", server.closed)
    """,
    "wait_async": """
        import asyncio, sse_fast
        async def main():
            server = sse_fast.serve(0)
            stream = server.stream("s")
            print("port", server.port)
            await server.wait_async()
            print("over", server.closed)
        asyncio.run(main())
    """,
    "wait_async in async with": """
        import asyncio, sse_fast
        async def main():
            async with sse_fast.serve(0) as server:
                stream = server.stream("s")
                print("port", server.port)
                await server.wait_async()
                print("over", server.closed)
        asyncio.run(main())
    """,
    "wait in a thread of a loop": """
        import asyncio, sse_fast
        async def main():
            with sse_fast.serve(0) as server:
                stream = server.stream("s")
                print("port", server.port)
                await asyncio.to_thread(server.wait)
                print("over", server.closed)
        asyncio.run(main())
    """,
    "wait in a thread of a later loop": """
        import asyncio, sse_fast
        server = sse_fast.serve(0)
        stream = server.stream("s")
        async def main():
            with server:
                print("port", server.port)
                await asyncio.to_thread(server.wait)
                print("over", server.closed)
        asyncio.run(main())
    """,
    "wait inside a coroutine": """
        import asyncio, sse_fast
        async def main():
            server = sse_fast.serve(0)
            stream = server.stream("s")
            print("port", server.port)
            server.wait()
            print("over", server.closed)
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("source", WAITING.values(), ids=WAITING)
def test_a_signal_ends_the_waiting_and_readers_get_their_end(source: str, number: signal.Signals) -> None:
    with Program(TELLS + textwrap.dedent(source)) as program:
        with Reader(int(program.line_with("port"))) as reader:
            reader.open()
            program.line_with("waiting")
            program.send_signal(number)
            reader.read_to_end()
        assert program.line() == "over True"
        assert (program.wait(), program.stderr) == (0, "")


HANDLERS = """
import asyncio, signal, sse_fast, sys, threading, time
NUMBERS = (signal.SIGINT, signal.SIGTERM)
def theirs(number, frame):
    print("theirs", number, flush=True)
for number in NUMBERS:
    signal.signal(number, theirs)
server = sse_fast.serve(0)
def tell_once_it_waits():
    while any(signal.getsignal(number) is theirs for number in NUMBERS):
        time.sleep(0.001)
    print("ready", flush=True)
threading.Thread(target=tell_once_it_waits, daemon=True).start()
server.wait() if sys.argv[1] == "wait" else asyncio.run(server.wait_async())
print("over", [signal.getsignal(number) is theirs for number in NUMBERS])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", ["wait", "wait_async"])
def test_a_handler_of_the_programs_own_is_called_and_is_there_afterwards(how: str, number: signal.Signals) -> None:
    with Program(HANDLERS, how) as program:
        assert program.line() == "ready"
        program.send_signal(number)
        assert program.line() == f"theirs {int(number)}"
        assert program.line() == "over [True, True]"
        assert (program.wait(), program.stderr) == (0, "")


def test_what_a_loop_was_told_to_do_at_a_signal_is_done_as_well() -> None:
    source = """
        import asyncio, signal, sse_fast
        async def main():
            async with sse_fast.serve(0) as server:
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: print("theirs", flush=True))
                asyncio.get_running_loop().call_later(0.01, lambda: print("ready", flush=True))
                await server.wait_async()
        asyncio.run(main())
        print("over")
    """
    with Program(source) as program:
        assert program.line() == "ready"
        program.send_signal(signal.SIGTERM)
        assert program.line() == "theirs"
        assert program.line() == "over"
        assert (program.wait(), program.stderr) == (0, "")


@pytest.mark.parametrize("how", ["wait", "wait_async"])
def test_a_signal_that_is_ignored_stays_so(how: str) -> None:
    source = """
        import asyncio, signal, sse_fast, sys
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # As a shell does for what it starts in the background.
        server = sse_fast.serve(0)
        print("ready", flush=True)
        server.wait() if sys.argv[1] == "wait" else asyncio.run(server.wait_async())
        print("over", signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
    """
    with Program(source, how) as program:
        assert program.line() == "ready"
        until(lambda: program.catches(signal.SIGTERM), what="the waiting")
        assert not program.catches(signal.SIGINT)
        program.send_signal(signal.SIGTERM)
        assert program.line() == "over True"
        assert program.wait() == 0


def test_a_handler_that_a_thread_left_behind_passes_the_signal_on() -> None:
    # The loop is gone before the waiting is over: nobody in the main thread can put the handlers back.
    source = """
        import asyncio, signal, sse_fast, threading
        server = sse_fast.serve(0)
        async def main():
            server.__enter__()
            thread = threading.Thread(target=server.wait)
            thread.start()
            while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                await asyncio.sleep(0.001)
            return thread
        thread = asyncio.run(main())
        server.close()
        thread.join()
        print("closed", flush=True)
        signal.pause()
    """
    with Program(source) as program:
        assert program.line() == "closed"
        program.send_signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM


def test_a_second_signal_does_not_wait_for_the_drain_of_a_coroutine() -> None:
    waiting = """
import asyncio
server = stalled(drain=3600.0)
print("ready", flush=True)
asyncio.run(server.wait_async())
"""
    with Program(STALLED + waiting) as program:
        assert program.line() == "ready"
        until(lambda: program.catches(signal.SIGTERM), what="the waiting")
        program.send_signal(signal.SIGTERM)
        until(lambda: not program.catches(signal.SIGTERM), what="the first signal being taken")
        assert program.process.poll() is None, "it does not drain"
        program.send_signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM


def test_waiting_for_a_time_leaves_the_server_open() -> None:
    with sse_fast.serve(0) as server:
        for timeout in (0.0, 0.01):
            with pytest.raises(sse_fast.WaitTimeout, match=f"not closed within {timeout} s"):
                server.wait(timeout)
        assert not server.closed
        for wrong in (-1.0, float("nan"), "1"):
            with pytest.raises(sse_fast.SettingError, match="timeout="):
                server.wait(wrong)  # type: ignore[arg-type]
    server.wait(0.0)  # It is closed already.


def test_closing_from_a_thread_ends_every_way_of_waiting() -> None:
    async def main() -> None:
        server = sse_fast.serve(0)
        waiting = [asyncio.create_task(server.wait_async()) for _ in range(3)]
        blocking = asyncio.create_task(asyncio.to_thread(server.wait))
        await asyncio.sleep(0)
        threading.Thread(target=server.close).start()
        await asyncio.wait_for(asyncio.gather(*waiting, blocking), 20.0)
        assert server.closed
        await asyncio.wait_for(server.wait_async(), 20.0)  # Once more: it is over.

    asyncio.run(main())


def test_who_is_cancelled_leaves_the_server_open_and_the_handlers_as_they_were() -> None:
    async def main() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        async with sse_fast.serve(0) as server:
            waiting = asyncio.create_task(server.wait_async())
            await until_async(lambda: signal.getsignal(signal.SIGINT) != before[0], what="the waiting")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert signal.getsignal(signal.SIGINT) == before[0]
            assert not server.closed
            server.stream("s").publish("still here")
        assert server.closed
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    asyncio.run(main())


def test_an_event_loop_goes_on_while_its_server_drains() -> None:
    async def main() -> None:
        server = sse_fast.serve(0, drain=3600.0)
        ended = asyncio.Event()
        with socket.create_connection(("127.0.0.1", server.port)) as reader:
            reader.sendall(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.stream("s")
            closing = asyncio.create_task(server.aclose())
            asyncio.get_running_loop().call_later(0.0, ended.set)
            await ended.wait()
        await asyncio.wait_for(closing, 20.0)
        assert server.closed
        with pytest.raises(sse_fast.SettingError, match="drain="):
            await server.aclose(-1.0)

    asyncio.run(main())


def test_what_closing_raises_is_raised_in_the_loop(server: sse_fast.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_drain: float) -> None:
        raise OSError("no thread left")

    monkeypatch.setattr(server._lifetime, "_close", fails)
    with pytest.raises(OSError, match="no thread left"):
        asyncio.run(server.aclose())
    monkeypatch.undo()


def test_a_block_that_ends_waits_for_nobody_who_has_everything() -> None:
    # With a drain of an hour this would not end within the test's deadline.
    with sse_fast.serve(0, drain=3600.0) as server:
        stream = server.stream("s", start="all")
        stream.publish("one")
        idle = socket.create_connection(("127.0.0.1", server.port))
        kept = socket.create_connection(("127.0.0.1", server.port))
        kept.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 404")
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(b"GET /streams/s HT")
        reader = Reader(server.port)
        reader.open()
        until(lambda: stream.subscribers == 1)
    assert [idle.recv(100), half.recv(100)] == [b"", b""]
    reader.read_to_end()
    for held in (idle, kept, half):
        held.close()
    reader.close()


def test_the_drain_of_serve_is_what_closing_takes_at_most() -> None:
    closes = """
import time
def closing(close, **settings):
    server = stalled(**settings)
    began = time.monotonic()
    close(server)
    return time.monotonic() - began
def leave(server):
    with server:
        pass
at_once = [closing(leave, drain=0.0), closing(lambda server: server.close(), drain=0.0)]
soon = [closing(leave, drain=0.5), closing(lambda server: server.close(0.5), drain=0.0)]
later = closing(leave, drain=2.0)
print(max(at_once) < min(soon), max(soon) < later, min(soon) >= 0.5, later >= 2.0)
"""
    assert run_program(STALLED + closes).lines == ["True True True True"]
