"""What every row of `make bars` stands on: a server started alone, subscribers, and exact figures of a process tree.

Owns: the order in which servers alternate, and what is measured of one load. Must not know: bars, verdicts, tables.
CPU time comes from /proc/PID/task/*/schedstat, which counts nanoseconds, because the 10 ms steps of /proc/PID/stat are
too coarse for the smaller loads. Servers are those of `peers`, loads are written as in `comparisons.toml`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import peers
from .compare import Deadline, Load, Peak, compile_neutral, free_port, loads, pace, settle
from .processes import Child, cpu_seconds, pss_bytes, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 120.0  # Seconds for connecting, and again for receiving, after which the client reports what it has.
Row = dict[str, Any]


class Ours(peers.Peer):
    """sse_fast, published to from a plain Python loop in its own process."""

    name = "sse_fast"
    path = "/streams/load/0"

    def __init__(self, folder: Path, port: int, size: int, *, streams: int = 1, **settings: Any) -> None:
        """Not started yet; `settings` are those of `sse_fast.serve`."""
        super().__init__(folder, port, size)
        self._job = {"port": port, "streams": streams, "bytes": size, "settings": settings}

    def start(self) -> None:
        """Starts it; it listens when this returns."""
        self.child = Child.module("bars_server", self._job)
        self.child.answer()

    def publish(self, number: int, count: int, patience: float) -> int:  # noqa: ARG002 - its own limits hold it
        """By one order; the events follow each other in a plain loop."""
        self.tell(f"p {number} {count} 0 1")
        return count

    def tell(self, order: str) -> None:
        """An order of bars_server.py."""
        assert self.child is not None
        self.child.tell(order)

    def ask(self, order: str = "s") -> Row:
        """An order that is answered."""
        self.tell(order)
        assert self.child is not None
        return self.child.answer()


class Tree:
    """What /proc says about a server and its descendants."""

    def __init__(self, server: peers.Peer) -> None:
        """Of a server that has been started."""
        assert server.child is not None
        self.root = server.child.pid

    def cpu(self) -> float:
        """Seconds of user and system time so far, as finely as the kernel tells."""
        pids = tree([self.root])
        nanoseconds = 0
        for pid in pids:
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError, ValueError, IndexError):  # A thread may have ended by now.
                    nanoseconds += int(path.read_text(encoding="ascii").split()[0])
        return nanoseconds / 1e9 or cpu_seconds(pids)

    def memory(self) -> int:
        """Bytes of user memory, what is shared counted by its share."""
        return pss_bytes(tree([self.root]))


class Crowd:
    """Subscribers that count and time what they read: neutral/subscribers.c."""

    def __init__(self, child: Child) -> None:
        """Connecting still; `connected` is there once all are."""
        self._child = child
        with Deadline(child, PATIENCE):
            self.connected: Row = child.answer()

    def seen(self, published: int = 0) -> Row:
        """Waits until nothing comes any more; `published` is how many each subscriber is owed."""
        self._child.tell(f"published {published}")
        with Deadline(self._child, PATIENCE):
            return self._child.answer()


@dataclass
class Stage:
    """Compiled programs, how often each thing is measured, and what has been measured already."""

    folder: Path
    runs: int
    say: Callable[[str], None]
    kept: dict[Any, list] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Compiles the floor and the client."""
        self._client = compile_neutral("subscribers", self.folder)
        peers.Floor.program = compile_neutral("floor", self.folder)

    @contextlib.contextmanager
    def serving(self, kind: type[peers.Peer], size: int = 100, **options: Any) -> Iterator[Any]:
        """A server, started and at rest."""
        with tempfile.TemporaryDirectory(prefix="bars-") as folder:
            server = kind(Path(folder), free_port(), size, **options)
            try:
                server.start()
                settle()
                yield server
            finally:
                server.stop()

    @contextlib.contextmanager
    def crowd(self, server: peers.Peer, count: int, *, path: str = "", **flags: float) -> Iterator[Crowd]:
        """`count` subscribers, connected; `flags` are those of the client."""
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        command = [self._client, "--count", str(count), *words, str(server.port), path or server.path]
        child = Child(command)
        try:
            yield Crowd(child)
        finally:
            child.end()

    def pairs(self, load: Load, *kinds: type[peers.Peer], runs: int = 0, **options: Any) -> list[dict[str, Row]]:
        """The load on the floor, sse_fast and `kinds` in turn, `runs` times; measured once for all rows that ask."""
        key = (load, kinds, runs, str(options))
        if key not in self.kept:
            self.kept[key] = []
            for number in range(runs or self.runs):
                rows = {kind.name: self.delivery(load, kind, **options) for kind in (peers.Floor, Ours, *kinds)}
                self.kept[key].append(rows)
                self.say(f"  {load.name} run {number + 1}: {json.dumps(rows)}")
        return self.kept[key]

    def delivery(self, load: Load, kind: type[peers.Peer], **options: Any) -> Row:
        """One server under one load."""
        # The floor waits for every reader, so it would wait for these without end.
        stalled = 0 if kind is peers.Floor else load.stalled
        options = options if kind is Ours else {}
        with self.serving(kind, load.bytes, **options) as server:
            process, count = Tree(server), load.subscribers + stalled
            cpu, memory = process.cpu(), process.memory()
            with self.crowd(server, count, stalled=stalled, ramp=load.ramp, quiet=2.0) as crowd:
                accepted = process.cpu() - cpu
                settle()
                row = {"connected_s": crowd.connected["connected_s"], "accept_us": accepted / count * 1e6}
                if not load.events:
                    return row | {"refused": crowd.connected["refused"]}
                memory, cpu = process.memory(), process.cpu()
                # Only where memory is the question, because looking for the peak costs time of the cores.
                with Peak(process) if load.stalled else contextlib.nullcontext() as peak:
                    row["published"] = _publish(server, load)
                    row |= crowd.seen()
                row["grew_mib"] = ((peak.memory if peak else process.memory()) - memory) / 2**20
                row["cpu_us"] = (process.cpu() - cpu) / max(row["events"], 1) * 1e6
                row["lost"] = row["published"] * load.subscribers - row["events"]
        return row


def load(name: str, /, **changes: Any) -> Load:
    """A load of comparisons.toml, changed."""
    return dataclasses.replace(loads()[name], **changes)


def _publish(server: peers.Peer, load: Load) -> int:
    if not load.rate:
        return server.publish(1, load.events, PATIENCE)
    began, published = time.monotonic(), 0
    for number in range(load.events):
        pace(began + number / load.rate)
        published += server.publish(number + 1, 1, PATIENCE)
    return published
