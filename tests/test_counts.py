"""What a delivery, a connection and an encoding cost, counted: system calls and instructions.

Counts, never time: they are the same on a busy machine and on an idle one. A change
that costs one more system call for each delivery fails here, and nothing else does.
What is allocated is counted by the server's own tests (`rust/sse-fast-server/tests/counts`).

System calls are counted by strace (`support/strace.py`), and told apart by the thread
that made them, so Python's own do not matter. Instructions are counted by valgrind,
whose processor is the same everywhere.
"""

from __future__ import annotations

import collections
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deadline import DEADLINE, until
from support.reader import Reader, request
from support.strace import Traced, traced

ROOT = Path(__file__).resolve().parents[1]

# ---- System calls --------------------------------------------------------------------------

#: A server that does what it is told by requests, none of which a shard ever sees. Looking for a file that does not
#: exist leaves a mark in the trace.
SERVER = """
import json, os, sse_fast, threading
server = sse_fast.serve(0, shards=2, heartbeat=None)
stream = server.stream("s")

@server.post("/publish")
def publish(request):
    stream.publish_many([{"data": "x" * 100} for _ in range(int(request.body) - 1)] + [{"data": "last"}])

@server.post("/mark")
def mark(request):
    os.access("/counted/" + request.body.decode(), os.F_OK)

threads = {tid: open(f"/proc/self/task/{tid}/comm").read().strip() for tid in os.listdir("/proc/self/task")}
print(os.getpid(), json.dumps({"port": server.port, "threads": threads}))
server.wait()
"""


class TracedServer:
    """A server whose system calls are written down."""

    def __init__(self, traced: Traced) -> None:
        started = json.loads(traced.said)
        self.traced = traced
        self.port: int = started["port"]
        self._threads: dict[str, str] = started["threads"]
        self._marks = 0

    def publish(self, events: int) -> None:
        """Publish so many events; the last one's data is `last`."""
        self._post("/publish", str(events))

    def mark(self) -> str:
        """Leave a mark in the trace."""
        self._marks += 1
        name = f"mark-{self._marks}"
        self._post("/mark", name)
        return name

    def _post(self, path: str, body: str) -> None:
        headers = [("Connection", "close")]
        raw = request(path, self.port, method="POST", headers=headers, body=body.encode())
        with Reader(self.port, raw=raw) as reader:
            while reader.pump():
                pass
            assert reader.head is not None
            assert reader.head.status < 300, reader.received

    def calls(self, names: tuple[str, ...], begin: str, end: str) -> collections.Counter[str]:
        """The calls that threads of these names began between two marks."""
        return self.traced.calls(lambda thread: self._threads.get(thread) in names, begin, end)


@pytest.fixture
def server_traced(tmp_path: Path) -> Iterator[TracedServer]:
    with traced(SERVER, tmp_path) as running:
        yield TracedServer(running)


class Crowd:
    """Readers that look only for the end of what they wait for."""

    def __init__(self, port: int, count: int) -> None:
        self.sockets = [socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) for _ in range(count)]
        for reader in self.sockets:
            reader.sendall(request("/streams/s", port))

    def receive(self, end: bytes) -> None:
        """Read until everybody received bytes that end so."""
        for reader in self.sockets:
            received = b""
            while not received.endswith(end):
                more = reader.recv(1 << 16)
                assert more, f"closed after {received[-200:]!r}"
                received = received[-64:] + more

    def receive_heads(self) -> None:
        self.receive(b"\r\n\r\n")

    def receive_last(self) -> None:
        self.receive(b"data: last\n\n\r\n")

    def close(self) -> None:
        for reader in self.sockets:
            reader.close()


@pytest.fixture
def crowd(server_traced: TracedServer) -> Iterator[Crowd]:
    """200 readers past their response heads."""
    crowd = Crowd(server_traced.port, 200)
    try:
        crowd.receive_heads()
        yield crowd
    finally:
        crowd.close()


SHARDS = ("sse-fast-0", "sse-fast-1")
ENGINE = (*SHARDS, "sse-fast-contro")  # The kernel keeps 15 bytes of a name.

#: What the C library's allocator asks of the system, now and then, for several subscribers at once. What is allocated
#: is counted elsewhere.
FOR_MEMORY = {"brk", "madvise", "mmap", "mprotect", "mremap", "munmap"}


def test_a_lone_event_costs_each_subscriber_one_system_call(server_traced: TracedServer, crowd: Crowd) -> None:
    events = 10
    deliveries = events * len(crowd.sockets)
    begin = server_traced.mark()
    for _ in range(events):
        server_traced.publish(1)
        crowd.receive_last()
    calls = server_traced.calls(SHARDS, begin, server_traced.mark())
    print(f"{deliveries} deliveries of lone events: {dict(calls)}")
    assert calls["sendto"] == deliveries, calls
    # Besides, a shard sleeps once an event, and looks for sockets between some hundred sends.
    assert calls.total() <= 1.05 * deliveries, calls


def test_a_burst_costs_each_subscriber_few_system_calls(server_traced: TracedServer, crowd: Crowd) -> None:
    begin = server_traced.mark()
    server_traced.publish(200)
    crowd.receive_last()
    calls = server_traced.calls(SHARDS, begin, server_traced.mark())
    print(f"a burst of 200 events to {len(crowd.sockets)} subscribers: {dict(calls)}")
    # How many walks it takes depends on how the publisher and the shards meet: usually one or two.
    assert calls["sendto"] <= 16 * len(crowd.sockets), calls
    assert calls.total() <= 1.1 * calls["sendto"] + 20, calls


def test_a_subscriber_s_connection_costs_four_system_calls(server_traced: TracedServer) -> None:
    subscribers = 100
    begin = server_traced.mark()
    # Everybody waits when the server looks: otherwise it would depend on time how many it finds at once.
    os.kill(server_traced.traced.pid, signal.SIGSTOP)
    until(server_traced.traced.stopped, what="the server stopped")
    crowd = Crowd(server_traced.port, subscribers)
    os.kill(server_traced.traced.pid, signal.SIGCONT)
    try:
        crowd.receive_heads()
        calls = server_traced.calls(ENGINE, begin, server_traced.mark())
    finally:
        crowd.close()
    for name in FOR_MEMORY:
        del calls[name]
    print(f"{subscribers} connections: {dict(calls)}")
    assert calls["sendto"] == subscribers, calls
    for name in ("accept4", "recvfrom", "epoll_ctl"):
        assert subscribers <= calls[name] <= 1.1 * subscribers, calls
    # Besides, both sides of the hand-over sleep and wake once a batch.
    assert calls.total() <= 4.8 * subscribers, calls


# ---- Instructions --------------------------------------------------------------------------

#: What one of each took when the bound was set, on x86-64: a walk over 1,000 subscribers, an event of each of the 32
#: streams of one connection, an interval of heartbeats of 1,000 subscribers. Lower them when the engine becomes
#: cheaper; raise them only knowing why.
INSTRUCTIONS = {
    "encode-small": 1_070,
    "encode-lines": 2_600,
    "encode-json": 2_320,
    "publish": 1_380,
    "walk": 83_200,
    "walk-burst": 151_000,
    "several": 22_900,
    "wheel": 265_000,
}

#: An event by itself from the publisher to so many sockets, in user space, the readers' own work included. How long it
#: took is measured in it: 117 of the 3,630, and no more with more subscribers.
LONE = {1: 3_630, 100: 45_200}

#: Compilers and C libraries differ by less; other processors have other instructions.
TOLERANCE = 1.25 if platform.machine() in {"x86_64", "AMD64"} else 1.7


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that does the core's work, built against the core as it is released."""
    return program(tmp_path_factory.mktemp("instructions"), "sse-fast-core", "instructions")


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that sends events one at a time, built against the server as it is released."""
    return program(tmp_path_factory.mktemp("lone"), "sse-fast-server", "lone")


@pytest.mark.timeout(300)  # The first of them builds.
@pytest.mark.parametrize("what", INSTRUCTIONS)
def test_the_core_s_work_takes_no_more_instructions_than_it_did(instructions: Path, what: str) -> None:
    each = each_of(instructions, what, few=10, many=110)
    print(f"{what}: {each:.0f} instructions")
    assert each <= TOLERANCE * INSTRUCTIONS[what]


@pytest.mark.timeout(600)  # The first of them builds.
@pytest.mark.parametrize("subscribers", LONE)
def test_a_lone_event_takes_no_more_instructions_than_it_did(lone: Path, subscribers: int) -> None:
    each = each_of(lone, str(subscribers), few=20, many=220)
    print(f"{subscribers} subscribers: {each:.0f} instructions")
    assert each <= TOLERANCE * LONE[subscribers]


def program(folder: Path, package: str, name: str) -> Path:
    """The package's benchmark of that name, built against the package as it is released."""
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--locked", "--package", package]
    built = run(*cargo, "--message-format", "json")
    artifacts = [json.loads(line) for line in built.stdout.splitlines()]
    crate = package.replace("-", "_")
    made = next(artifact for artifact in artifacts if artifact.get("target", {}).get("name") == crate)
    library = next(Path(file) for file in made["filenames"] if file.endswith(".rlib"))
    # By hand, since cargo would build everything that tests and benchmarks need, too.
    linked = ["--extern", f"{crate}={library}", "-L", f"dependency={library.parent / 'deps'}"]
    source = ROOT / "rust" / package / "benches" / f"{name}.rs"
    run("rustc", "--edition", "2024", "-C", "opt-level=3", "-o", folder / name, source, *linked)
    return folder / name


def each_of(program: Path, what: str, *, few: int, many: int) -> float:
    """The instructions of one: what starting the program takes is in both numbers."""
    assert shutil.which("valgrind"), "valgrind is missing: `make test` installs it"
    return (counted(program, what, many) - counted(program, what, few)) / (many - few)


def counted(program: Path, what: str, times: int) -> int:
    """The instructions of the whole program."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = run(*valgrind, program, what, str(times))
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run in the repository; insist on exit code 0."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"{command} failed: {done.stderr[-3000:]}"
    return done
