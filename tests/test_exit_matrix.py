"""Every way a program may end, in the middle of everything a server may be doing.

Guards the exit code, which is what Python says of such an end; that the end comes; that nothing
is written but what the program itself causes; that the port is free and no child lives on.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from support.children import is_alive
from support.deadline import until
from support.side_by_side import Ended, SideBySide, ended

#: Seconds. Far more than any end takes: the slowest drains for two.
DEADLINE = 40.0

BEGINNING = """
import asyncio, gc, http.client, os, signal, socket, sys, threading, time
import sse_fast

host = sys.argv[1]
server = sse_fast.serve(0, host=host, history=5000, max_lag=5000, history_bytes=1 << 28)
stream = server.stream("s", start="all")
begun = threading.Event()
children = []

def at_once(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()
"""

DOING = {
    "idle": "begun.set()",
    "publishing thread": """
def publish(stream=stream):
    try:
        for number in range(10 ** 9):
            stream.publish("x")
            stream.publish({"number": number})
            begun.set()
    except sse_fast.ServerClosed:
        pass
at_once(publish)
""",
    "daemon reader": """
def read(stream=stream):
    for _ in stream.events():
        begun.set()
at_once(read)
stream.publish("x")
""",
    "asyncio reader": """
async def read(stream=stream):
    asyncio.get_running_loop().call_later(0.05, begun.set)  # It waits then, and has imported what that needs.
    async for _ in stream.events():
        pass
at_once(lambda: asyncio.run(read()))
""",
    "handler running": """
@server.get("/slow")
def slow(_request):
    begun.set()
    threading.Event().wait()
def ask():
    try:
        http.client.HTTPConnection(host, server.port).request("GET", "/slow")
        threading.Event().wait()
    except OSError:
        pass
at_once(ask)
""",
    "run running": """
child = "from sse_fast.runner import emit; import time; emit('RUNNING', 1); time.sleep(600)"
run = server.run([sys.executable, "-c", child], stream="run", on_event=lambda _event: begun.set())
children.append(run.pid)
del run
""",
    "watch polling": """
def poll():
    begun.set()
    return time.monotonic_ns()
server.watch(poll, every=0.001, stream="watched", until="never")
""",
    "close under way": """
reader = socket.socket()
reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
reader.connect((host, server.port))
reader.sendall(b"GET /streams/s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
reader.recv(100)
for _ in range(2000):
    stream.publish("x" * 4000)
at_once(server.close, 1.0)
while not server.closed:
    time.sleep(0.001)
begun.set()
""",
}

BEGUN = """
assert begun.wait(20.0), "it does not begin"
print(server.port, *children, flush=True)
"""

#: Sends the signal once `Server.wait` waits.
WAITING = """
def send(number):
    default = signal.getsignal(signal.SIGTERM)
    while signal.getsignal(signal.SIGTERM) == default:
        time.sleep(0.001)
    os.kill(os.getpid(), number)
at_once(send, signal.{signal})
server.wait()
"""

UNHANDLED = """
os.kill(os.getpid(), signal.{signal})
threading.Event().wait(30.0)
"""


@dataclass(frozen=True)
class Ending:
    """How the program ends: its last lines, its exit code, and what its standard error must hold, if anything."""

    source: str
    code: int
    says: str = ""


ENDINGS = {
    "exit normally": Ending("", 0),
    "sys.exit": Ending("sys.exit(3)", 3),
    "unhandled exception": Ending("raise RuntimeError('the end')", 1, "RuntimeError: the end"),
    "SIGTERM": Ending(WAITING.format(signal="SIGTERM"), 0),
    "SIGINT": Ending(WAITING.format(signal="SIGINT"), 0),
    "SIGTERM unhandled": Ending(UNHANDLED.format(signal="SIGTERM"), -15),
    "SIGINT unhandled": Ending(UNHANDLED.format(signal="SIGINT"), -2, "KeyboardInterrupt"),
    "SIGKILL": Ending(UNHANDLED.format(signal="SIGKILL"), -9),
    "os._exit": Ending("os._exit(4)", 4),
    "recursion": Ending(
        """
def deeper():
    try:
        deeper()
    finally:
        try:
            stream.publish({"deep": [1]})
            stream.end()
            server.stats()
            server.close(0.1)
        except sse_fast.SseFastError:
            pass
deeper()
""",
        1,
        "RecursionError",
    ),
    "last reference gone": Ending("del server, stream; gc.collect()", 0),
}

Case = tuple[str, str]


def host(case: Case) -> str:
    """An address of the case's own: the port that one program has left another may take at once."""
    ending, doing = case
    return f"127.7.{list(ENDINGS).index(ending)}.{list(DOING).index(doing) + 1}"


def cell(case: Case) -> Ended:
    ending, doing = case
    return ended(BEGINNING + DOING[doing] + BEGUN + ENDINGS[ending].source, host(case), deadline=DEADLINE)


@pytest.fixture(scope="module")
def cells(request: pytest.FixtureRequest) -> Iterator[SideBySide[Case, Ended]]:
    own = [item.callspec.params for item in request.session.items if item.path == request.path]
    with SideBySide(cell, [(params["ending"], params["doing"]) for params in own]) as running:
        yield running


@pytest.mark.timeout(300)
@pytest.mark.parametrize("doing", DOING)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_as_python_says(cells: SideBySide[Case, Ended], ending: str, doing: str) -> None:
    outcome, expected = cells.outcome((ending, doing)), ENDINGS[ending]
    assert outcome.lines, outcome.stderr
    assert outcome.code == expected.code, outcome.stderr
    for fatal in ("panicked", "FATAL", "Fatal Python error", "abort"):
        assert fatal not in outcome.stderr, outcome.stderr
    assert expected.says in outcome.stderr
    assert expected.says or not outcome.stderr, outcome.stderr
    port, *children = map(int, outcome.lines[0].split())
    with socket.socket() as client:
        assert client.connect_ex((host((ending, doing)), port)) != 0, "something listens there still"
    for child in children:
        until(lambda child=child: not is_alive(child), what=f"the end of the child {child}")
