"""Programs with a server that are interrupted, terminated, or simply end.

Guards the ways out: signals while something else goes on, `wait` in every kind of
program, and the interpreter's exit in the middle of everything, again and again:
no hang, no crash, no traceback.
"""

from __future__ import annotations

import signal

import pytest

from support.deadline import until
from support.process import Program
from support.reader import Reader
from support.stuck import STALLED

WAITING = """
server = stalled()
print("ready", flush=True)
server.wait()
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_the_drain(first: signal.Signals, second: signal.Signals) -> None:
    with Program(STALLED + WAITING) as program:
        assert program.line() == "ready"
        until(lambda: program.catches(signal.SIGTERM), what="`wait` catching SIGTERM")
        program.send_signal(first)
        until(lambda: not program.catches(signal.SIGTERM), what="the first signal being taken")
        assert program.process.poll() is None, "it does not drain"
        program.send_signal(second)
        # After the drain it would end with 0.
        assert program.wait() == -second


PROGRAMS = {
    "served from another thread": """
        import sse_fast, threading
        made = []
        thread = threading.Thread(target=lambda: made.append(sse_fast.serve(0)))
        thread.start()
        thread.join()
        print("ready", flush=True)
        made[0].wait()
        print("closed", made[0].closed)
    """,
    "waited for in another thread": """
        import signal, sse_fast, threading
        server = sse_fast.serve(0)
        signal.signal(signal.SIGTERM, lambda *_: server.close())
        thread = threading.Thread(target=server.wait)
        thread.start()
        print("ready", flush=True)
        thread.join()
        print("closed", server.closed)
    """,
    "waited for in asyncio": """
        import asyncio, signal, sse_fast
        async def main():
            with sse_fast.serve(0) as server:
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
                print("ready", flush=True)
                await asyncio.to_thread(server.wait)
                print("closed", server.closed)
        asyncio.run(main())
    """,
    "waited for twice": """
        import signal, sse_fast
        server = sse_fast.serve(0)
        before = signal.getsignal(signal.SIGTERM)
        print("ready", flush=True)
        server.wait()
        server.wait()
        print("closed", signal.getsignal(signal.SIGTERM) == before)
    """,
}


@pytest.mark.parametrize("source", PROGRAMS.values(), ids=PROGRAMS)
def test_sigterm_closes_however_the_server_is_waited_for(source: str) -> None:
    with Program(source) as program:
        assert program.line() == "ready"
        until(lambda: program.catches(signal.SIGTERM), what="SIGTERM being caught")
        program.send_signal(signal.SIGTERM)
        assert program.line() == "closed True"
        assert program.wait() == 0
        assert program.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_drain_and_exit_with_zero(number: signal.Signals) -> None:
    waiting = """
        import sse_fast
        server = sse_fast.serve(0)
        stream = server.stream("s")
        print("port", server.port)
        server.wait()
        print("waited", server.closed)
    """
    with Program(waiting) as program:
        with Reader(int(program.line_with("port"))) as reader:
            reader.open()
            until(lambda: program.catches(signal.SIGTERM), what="`wait` catching SIGTERM")
            program.send_signal(number)
            reader.read_to_end()
        assert program.line() == "waited True"
        assert program.wait() == 0
        assert program.stderr == ""


#: Everything that a server does at once, in the moment the program ends.
BUSY = """
import asyncio, http.client, sse_fast, sys, threading, time, urllib.request

server = sse_fast.serve(0)
stream = server.stream("s", start="all")

def publish():
    try:
        while True:
            stream.publish("x" * 100)
    except sse_fast.ServerClosed:
        pass

def get(path):
    try:
        urllib.request.urlopen(server.url + path).read()
    except (OSError, http.client.HTTPException):
        pass

async def read():
    async for _ in stream.events():
        pass

async def main():
    tasks = [asyncio.create_task(read()) for _ in range(3)]
    for _ in range(3):  # Each of them waits now.
        await asyncio.sleep(0)

server.get("/slow")(lambda _req: time.sleep(60))
server.get("/endless")(lambda _req: [event for event in stream.events()])
server.watch(time.monotonic_ns, every=0.001, stream="watched", until="never")
server.watch(lambda: time.sleep(60), every=0.001, stream="stuck", until="never")
child = "from sse_fast.runner import emit\\nwhile True: emit('A', 1)"
server.run([sys.executable, "-c", child], stream="run", on_event=lambda _event: None)
threads = [lambda: list(stream.events()), publish, publish]
threads += [lambda path=path: get(path) for path in ("/slow", "/endless", "/streams/s")]
for work in threads:
    threading.Thread(target=work, daemon=True).start()
asyncio.run(main())
print("over", flush=True)
"""


def test_the_interpreter_may_exit_in_the_middle_of_everything() -> None:
    for _ in range(5):
        with Program(BUSY, options=("-u", "-X", "faulthandler", "-W", "error")) as program:
            program.line_with("over")
            assert (program.wait(), program.stderr) == (0, "")
