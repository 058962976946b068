"""What a delivery, a connection and an encoding cost, counted: system calls and instructions.

Counts, never time: they are the same on a busy machine and on an idle one. A change
that costs one more system call for each delivery fails here, and nothing else does.
What is allocated is counted by the server's own tests (`rust/sse-fast-server/tests/counts`).

System calls are counted by strace, which starts the server: the engine makes some
without the C library, which a shim before it would not see, and a process may be
traced by its parent without privileges. Calls are told apart by the thread that made
them, so Python's own do not matter. Instructions are counted by valgrind, whose
processor is the same everywhere.
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
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deadline import DEADLINE, until
from support.process import Program
from support.reader import Reader, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strace and the bounds are Linux's")

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
print(json.dumps({"pid": os.getpid(), "port": server.port, "threads": threads}))
server.wait()
"""

#: Becomes strace, which starts the server as its child.
STRACE = """
import os, sys
log, source = sys.argv[1:]
options = ["-f", "-qq", "-s", "0", "-e", "signal=none", "-o", log]
os.execvp("strace", ["strace", *options, sys.executable, "-u", "-c", source])
"""


class Traced:
    """A server whose system calls are written down."""

    def __init__(self, program: Program, log: Path) -> None:
        started = json.loads(program.line())
        self.pid: int = started["pid"]
        self.port: int = started["port"]
        self._threads: dict[str, str] = started["threads"]
        self._log = log
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

    def calls(self, threads: tuple[str, ...], begin: str, end: str) -> collections.Counter[str]:
        """The calls that threads of these names began between two marks."""
        counted: collections.Counter[str] = collections.Counter()
        inside = False
        for line in until(lambda: self._lines_to(end), what="the mark in the trace"):
            if f'"/counted/{begin}"' in line:
                inside = True
            found = re.match(r"(\d+) +(\w+)\(", line)
            # What is resumed was counted when it began.
            if inside and found is not None and self._threads.get(found[1]) in threads:
                counted[found[2]] += 1
        return counted

    def _lines_to(self, mark: str) -> list[str]:
        before, found, _ = self._log.read_text(errors="replace").partition(f'"/counted/{mark}"')
        return before.splitlines() if found else []

    def stopped(self) -> bool:
        """Whether every thread stands still."""
        stats = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] in "tT" for stat in stats)


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    assert shutil.which("strace"), "strace is missing: `make test` installs it"
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    assert tried.returncode == 0, (
        f"strace cannot trace even its own child here, and system calls cannot be counted without it"
        f" (a sandbox must allow ptrace): {tried.stderr}"
    )
    log = tmp_path / "calls"
    with Program(STRACE, log, SERVER) as program:
        server = Traced(program, log)
        try:
            yield server
        finally:
            # Ending strace would only let the server go.
            os.kill(server.pid, signal.SIGKILL)
            program.wait()


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
def crowd(traced: Traced) -> Iterator[Crowd]:
    """200 readers past their response heads."""
    crowd = Crowd(traced.port, 200)
    try:
        crowd.receive_heads()
        yield crowd
    finally:
        crowd.close()


SHARDS = ("sse-fast-0", "sse-fast-1")
ENGINE = (*SHARDS, "sse-fast-contro")  # The kernel keeps 15 bytes of a name.

#: What the C library's allocator asks of the system, by and by and for several subscribers at once. What is allocated
#: is counted elsewhere.
FOR_MEMORY = {"brk", "madvise", "mmap", "mprotect", "mremap", "munmap"}


def test_a_lone_event_costs_each_subscriber_one_system_call(traced: Traced, crowd: Crowd) -> None:
    events = 10
    deliveries = events * len(crowd.sockets)
    begin = traced.mark()
    for _ in range(events):
        traced.publish(1)
        crowd.receive_last()
    calls = traced.calls(SHARDS, begin, traced.mark())
    print(f"{deliveries} deliveries of lone events: {dict(calls)}")
    assert calls["sendto"] == deliveries, calls
    # Besides, a shard sleeps once an event, and looks for sockets between some hundred sends.
    assert calls.total() <= 1.05 * deliveries, calls


def test_a_burst_costs_each_subscriber_few_system_calls(traced: Traced, crowd: Crowd) -> None:
    begin = traced.mark()
    traced.publish(200)
    crowd.receive_last()
    calls = traced.calls(SHARDS, begin, traced.mark())
    print(f"a burst of 200 events to {len(crowd.sockets)} subscribers: {dict(calls)}")
    # How many walks it takes depends on how the publisher and the shards meet: usually one or two.
    assert calls["sendto"] <= 16 * len(crowd.sockets), calls
    assert calls.total() <= 1.1 * calls["sendto"] + 20, calls


def test_a_subscriber_s_connection_costs_four_system_calls(traced: Traced) -> None:
    subscribers = 100
    begin = traced.mark()
    # Everybody waits when the server looks: otherwise it would depend on time how many it finds at once.
    os.kill(traced.pid, signal.SIGSTOP)
    until(traced.stopped, what="the server stopped")
    crowd = Crowd(traced.port, subscribers)
    os.kill(traced.pid, signal.SIGCONT)
    try:
        crowd.receive_heads()
        calls = traced.calls(ENGINE, begin, traced.mark())
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

#: What one of each took when the bound was set, on x86-64: a walk over 1,000 subscribers, an interval of heartbeats of
#: as many. Lower them when the engine becomes cheaper; raise them only knowing why.
INSTRUCTIONS = {
    "encode-small": 1_070,
    "encode-lines": 2_600,
    "encode-json": 2_320,
    "publish": 1_380,
    "walk": 83_200,
    "walk-burst": 151_000,
    "wheel": 265_000,
}

#: Compilers and C libraries differ by less; other processors have other instructions.
TOLERANCE = 1.25 if platform.machine() in {"x86_64", "AMD64"} else 1.7


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that does the core's work, built against the core as it is released."""
    cargo = [os.environ.get("CARGO", "cargo"), "build", "--release", "--locked", "--package", "sse-fast-core"]
    built = run(*cargo, "--message-format", "json")
    artifacts = [json.loads(line) for line in built.stdout.splitlines()]
    core = next(made for made in artifacts if made.get("target", {}).get("name") == "sse_fast_core")
    library = next(Path(name) for name in core["filenames"] if name.endswith(".rlib"))
    program = tmp_path_factory.mktemp("instructions") / "instructions"
    # By hand, since cargo would build everything that tests and benchmarks need, too.
    linked = ["--extern", f"sse_fast_core={library}", "-L", f"dependency={library.parent / 'deps'}"]
    source = ROOT / "rust/sse-fast-core/benches/instructions.rs"
    run("rustc", "--edition", "2024", "-C", "opt-level=3", "-o", program, source, *linked)
    return program


@pytest.mark.timeout(300)  # The first of them builds.
@pytest.mark.parametrize("what", INSTRUCTIONS)
def test_the_core_s_work_takes_no_more_instructions_than_it_did(instructions: Path, what: str) -> None:
    assert shutil.which("valgrind"), "valgrind is missing: `make test` installs it"
    few, many = 10, 110
    # What starting the program takes is in both.
    each = (counted(instructions, what, many) - counted(instructions, what, few)) / (many - few)
    print(f"{what}: {each:.0f} instructions")
    assert each <= TOLERANCE * INSTRUCTIONS[what]


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
