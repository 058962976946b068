"""What a forked child holds of its parent's server: nothing; and what it keeps: everything else.

Guards, for every way in which Python starts processes, that a child has neither port nor connection nor poll, that a
server which is killed leaves its port free though its children live on, and that readers never notice a fork. That
connections are not taken for one another while children hold them is in `test_forked_children.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.children import assert_no_reader_is_lost, free, is_alive
from support.deadline import until
from support.process import Program, run_program
from support.reader import Reader, fetch

#: A server that starts children which sleep, by whatever `Start` says.
SERVER = """
import json, multiprocessing, os, pty, sys, time
import sse_fast

def links():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # The one of the list itself.
            pass
    return found

def by_fork():
    pid = os.fork()
    if not pid:
        time.sleep(600)
        os._exit(0)
    return [pid]

def by_pty():
    pid, _terminal = pty.fork()
    if not pid:
        time.sleep(600)
        os._exit(0)
    return [pid]

def by_process(method):
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(600,))
    child.start()
    kept.append(child)
    return [child.pid]

def by_pool(method):
    pool = multiprocessing.get_context(method).Pool(2)
    kept.append(pool)
    return [worker.pid for worker in pool._pool]

kept = []
start, port = sys.argv[1], int(sys.argv[2])
starts = {
    "os.fork": by_fork,
    "pty.fork": by_pty,
    **{f"Process, {method}": lambda method=method: by_process(method) for method in ("fork", "forkserver", "spawn")},
    **{f"Pool, {method}": lambda method=method: by_pool(method) for method in ("fork", "forkserver", "spawn")},
}

before = links()
server = sse_fast.serve(port, heartbeat=0.1, shards=2)
server.stream("quiet")
server.run([sys.executable, "-c", "import time; time.sleep(600)"], stream="run")

@server.post("/start")
def begin(_request):
    return starts[start]()

@server.post("/links")
def listed(_request):
    return [before, links()]

print("port", server.port)
server.wait()
"""

METHODS = ["fork", "forkserver", "spawn"]
STARTS = ["os.fork", "pty.fork", *(f"{kind}, {method}" for kind in ("Process", "Pool") for method in METHODS)]


class Parent:
    """The server's process, and the children that it started."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.port = int(program.line_with("port"))
        self.children: list[int] = []

    def start_children(self) -> list[int]:
        head, body = fetch(self.port, "/start", method="POST")
        assert head.status == 200, self.program.stderr
        self.children += json.loads(body)
        return self.children


@contextlib.contextmanager
def parent(start: str, port: int = 0) -> Iterator[Parent]:
    with Program(SERVER, start, port, options=("-u", "-W", "ignore")) as program:
        running = Parent(program)
        try:
            yield running
        finally:
            for pid in running.children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def links_of(pid: int) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return found


def beats(reader: Reader, count: int) -> None:
    seen = len(reader.parser.comments)
    reader.read_until(lambda: len(reader.parser.comments) >= seen + count, what=f"{count} heartbeats")


@pytest.mark.parametrize("start", STARTS)
def test_a_child_has_no_descriptor_of_the_server(start: str) -> None:
    with parent(start) as server, Reader(server.port, "/streams/quiet") as reader:
        beats(reader.open(), 1)
        before, serving = map(Counter, json.loads(fetch(server.port, "/links", method="POST")[1]))
        of_the_server = serving - before
        assert {kind.partition(":")[0] for kind in of_the_server} >= {"socket", "anon_inode", "pipe"}, of_the_server
        children = server.start_children()
        # What is still being started may have everything for a moment.
        for pid in children:
            until(lambda pid=pid: not shared(pid, before, of_the_server), what=f"the child {pid} letting go")
        beats(reader, 3)


def shared(pid: int, before: Counter[str], of_the_server: Counter[str]) -> Counter[str]:
    """What a child has of the server, beyond what its parent had before it served."""
    has = Counter(links_of(pid))
    return Counter({link: has[link] - before[link] for link in of_the_server if has[link] > before[link]})


@pytest.mark.parametrize("start", STARTS)
def test_a_killed_server_leaves_its_port_and_its_readers_though_children_live(start: str) -> None:
    with parent(start) as server, Reader(server.port, "/streams/quiet") as reader, Reader(server.port, "/x") as kept:
        beats(reader.open(), 1)
        kept.read_to_end()
        children = server.start_children()
        server.program.process.kill()
        server.program.process.wait()
        reader.read_eof()
        kept.read_eof()
        until(lambda: free(server.port), what="the port being free")
        living = [pid for pid in children if is_alive(pid)]
        # The others may end with their parent: by multiprocessing's doing, or the terminal's that is hung up.
        assert living or start not in {"os.fork", "Process, fork", "Process, spawn"}


def test_a_child_keeps_what_is_not_the_server_s() -> None:
    program = run_program(
        """
        import asyncio, os, select, socket
        import sse_fast

        socket.setdefaulttimeout(5.0)  # It must not make sockets of the parent's non-blocking.
        with sse_fast.serve(0) as server, sse_fast.serve(0, host="0.0.0.0") as everywhere:
            stream = server.stream("s", start="all")
            client = socket.create_connection(("127.0.0.1", server.port))
            listener = socket.create_server(("127.0.0.1", 0))
            datagrams = socket.socket(type=socket.SOCK_DGRAM)
            datagrams.bind(("127.0.0.1", server.port))  # The same port, of another protocol.
            elsewhere = socket.create_server(("127.0.0.2", server.port))  # The same port, of another address.
            ends = socket.socketpair()
            blocking = socket.socket()
            blocking.setblocking(True)
            poll = select.epoll()
            poll.register(listener, select.EPOLLIN)
            loop = asyncio.new_event_loop()
            kept = [client, listener, datagrams, elsewhere, *ends, blocking, poll]
            identities = {one.fileno(): os.readlink(f"/proc/self/fd/{one.fileno()}") for one in kept}
            pipe = os.pipe()

            async def read():
                async for event in stream.events():
                    return event.data

            pid = os.fork()
            if not pid:
                lost = [fd for fd, link in identities.items() if os.readlink(f"/proc/self/fd/{fd}") != link]
                sockets = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit()
                           and os.path.islink(f"/proc/self/fd/{fd}")]
                more = [link for link in sockets if link.startswith("socket") and link not in identities.values()]
                loop.call_soon(loop.stop)
                loop.run_forever()
                loop.close()
                own = sse_fast.serve(0)  # A server of its own.
                again = os.fork()
                if not again:
                    os._exit(0)
                os.waitpid(again, 0)
                own.stream("x").publish("y")
                own.close()
                # The two ends of the loop's own pair are left.
                os.write(pipe[1], f"{lost} {len(more)} {os.get_blocking(blocking.fileno())}".encode())
                os._exit(0)
            os.waitpid(pid, 0)
            print(os.read(pipe[0], 1000).decode())
            stream.publish("still")
            print(loop.run_until_complete(read()), os.get_blocking(blocking.fileno()))
            loop.close()
        """
    )
    assert program.lines == ["[] 2 True", "still True"]


def test_children_come_and_go_and_no_reader_is_lost() -> None:
    assert_no_reader_is_lost(rounds=20, readers=100)
