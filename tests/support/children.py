"""Processes that others started: whether they live, what they hold, and a server that starts hundreds of them."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import sse_fast

from .process import Program
from .reader import Reader

#: A server that starts four children at a time, by each of Python's ways in turn, and publishes between them.
MANY = """
import multiprocessing, os, sys, sse_fast

server = sse_fast.serve(0, heartbeat=0.5, history=1000, max_lag=1000)
stream = server.stream("s", start="all")
print("port", server.port)
contexts = [multiprocessing.get_context(method) for method in ("fork", "forkserver", "spawn")]
for number in range(int(sys.argv[1])):
    children = [contexts[number % 3].Process(target=os.getpid) for _ in range(4)]
    for child in children:
        child.start()
    stream.publish(number)
    for child in children:
        child.join()
        assert child.exitcode == 0, child.exitcode
stream.end("over")
server.close()
print("closed")
"""


def is_alive(pid: int) -> bool:
    """Whether the process has not ended; an orphan that nobody reaps has (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free(port: int) -> bool:
    """Whether a server can be started on the port."""
    try:
        sse_fast.serve(port).close(0.0)
    except sse_fast.AddressInUse:
        return False
    return True


def assert_no_reader_is_lost(rounds: int, readers: int, deadline: float = 60.0) -> None:
    """Every reader that stays gets all events and the end, while children are started and other readers come and go."""
    with Program(MANY, rounds, options=("-u", "-W", "ignore")) as program, contextlib.ExitStack() as stack:
        port = int(program.line_with("port"))
        over = threading.Event()

        def come_and_go() -> None:
            while not over.is_set():
                with (
                    contextlib.suppress(OSError, AssertionError),
                    Reader(port) as passing,
                ):  # The server closes at last.
                    passing.read_head()

        others = [threading.Thread(target=come_and_go) for _ in range(4)]
        staying = [stack.enter_context(Reader(port)).open() for _ in range(readers)]
        for other in others:
            other.start()
        try:
            for reader in staying:
                assert [event.data for event in reader.rest(deadline)] == [*map(str, range(rounds)), "over"]
            program.line_with("closed", deadline)
        finally:
            over.set()
            for other in others:
                other.join()
        assert free(port)
        assert program.wait() == 0
