"""`python -m loadtest two-machines`: two groups of engines behind one Redis; one is killed and comes back.

Owns: the order of a run and its figures. Must not know: how engines publish (`two_machines_engine`), how readers read
(`two_machines_readers`), what an account is (`two_machines_account`), how machines are made (`networks`), how the
report looks (`two_machines_report`).

The promise: nothing is lost, doubled or out of order for any reader, and all readers of a stream have the same, while
half of the engines are killed with their publishers, while they come back, and while the others cannot reach Redis.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import machine, redis_server
from .networks import Networks
from .processes import Child, ChildError, cpu_seconds, pss_bytes
from .two_machines_account import owed, wrong
from .two_machines_report import markdown

_PORT = 8080  # Of a machine's first engine; a machine has its address for itself.
_HISTORY = 20_000  # Events that a reader may be behind: more than are published into a stream.
_ACCOUNT = 60.0  # Seconds in which everything must have come.
_CUT = 4.0  # Seconds for which a machine is off the network.


@dataclass(frozen=True)
class Load:
    """What is put on the engines."""

    engines: int = 2  # On each machine.
    streams: int = 100
    readers: int = 400
    rate: float = 500.0  # Events a second that each engine publishes.
    batch: int = 1
    bytes: int = 100
    seconds: float = 20.0


class Group:
    """The engines of one machine."""

    def __init__(self, number: int, load: Load, networks: Networks, backplane: str, folder: Path) -> None:
        """None is started yet."""
        self.number, self._load, self._networks, self._backplane, self._folder = (
            number,
            load,
            networks,
            backplane,
            folder,
        )
        self.engines: list[Child] = []
        self.killed: list[str] = []
        self._names: list[str] = []
        self._lives = 0
        self.cpu = self.away = self.slowest = 0.0
        self.published = 0

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where readers find them."""
        return [(self._networks.address(self.number), _PORT + at) for at in range(self._load.engines)]

    def start(self) -> None:
        """Starts them with publishers that begin to count anew."""
        load, before = self._load, self._networks.command(self.number)
        self._lives += 1
        for at, (host, port) in enumerate(self.addresses):
            name = f"m{self.number}e{at}l{self._lives}"
            self._names.append(name)
            job = {"host": host, "port": port, "backplane": self._backplane, "history": _HISTORY, "publisher": name}
            job |= {key: value for key, value in asdict(load).items() if key in {"streams", "rate", "batch", "bytes"}}
            job["confirmed"] = str(self._folder / name)
            command = [*before, sys.executable, "-m", "loadtest.two_machines_engine", json.dumps(job)]
            self.engines.append(Child(command, log=(self._folder / f"{name}.log").open("wb")))
        for engine in self.engines:
            engine.answer()

    def order(self, what: str) -> list[dict[str, Any]]:
        """Tells all of them; their answers."""
        for engine in self.engines:
            engine.tell(what)
        return [engine.answer() for engine in self.engines]

    def kill(self) -> None:
        """As the death of their machine would, in the middle of whatever they do."""
        self.cpu += cpu_seconds([engine.pid for engine in self.engines])
        for engine in self.engines:
            engine.process.kill()
            engine.process.wait()
            engine.end()
        self.killed = self._names[-len(self.engines) :]
        self.engines.clear()

    def rest(self) -> None:
        """Publishers come to their rest; what they did is added up."""
        for answer in self.order("rest"):
            self.published += answer["published"]
            self.away += answer["away"]
            self.slowest = max(self.slowest, answer["slowest_s"])
        self.cpu += cpu_seconds([engine.pid for engine in self.engines])

    def confirmed(self) -> dict[str, list[int]]:
        """For each publisher that there ever was, the number that was confirmed for each stream."""
        return {
            name: [count for (count,) in struct.iter_unpack("<q", (self._folder / name).read_bytes())]
            for name in self._names
        }

    def end(self) -> None:
        """Ends those that live, and shows what they complained of."""
        for engine in self.engines:
            engine.end()


def run(load: Load, results: Path, *, namespaces: bool = True) -> int:
    """Plays it and writes two-machines.json and .md; the exit code: 1 where a promise was broken."""
    kept: dict[str, Any] = {"date": machine.today(), "revision": machine.revision(), "machine": machine.facts()}
    kept |= {"versions": machine.versions("sse-fast"), "load": asdict(load)}
    with tempfile.TemporaryDirectory(prefix="machines-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        networks = stack.enter_context(Networks(2, namespaces=namespaces))
        print(f"two machines, as {networks.kind}", flush=True)
        redis, url = redis_server.started(networks.hub, folder)
        stack.callback(redis.end)
        groups = [Group(number, load, networks, url, folder) for number in range(2)]
        for group in groups:
            stack.callback(group.end)
        try:
            kept |= {"machines": networks.kind} | _play(load, networks, groups, redis)
        except ChildError:
            for log in sorted(folder.glob("*.log")):
                sys.stderr.write(f"---- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
            raise
    written = machine.results_folder(results)
    (written / "two-machines.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (written / "two-machines.md").write_text(markdown(kept), encoding="utf-8")
    print(markdown(kept).partition("\n## ")[2].partition("\n")[2].strip())
    return 1 if kept["wrong"] else 0


def _play(load: Load, networks: Networks, groups: list[Group], redis: Child) -> dict[str, Any]:
    """The run itself; its figures."""
    for group in groups:
        group.start()
    engines = [address for pair in zip(*(group.addresses for group in groups), strict=True) for address in pair]
    job = {"engines": engines, "streams": load.streams, "readers": load.readers}
    readers = Child.module("two_machines_readers", job)
    try:
        readers.answer()
        for group in groups:
            group.order("publish")
        redis_cpu, began = cpu_seconds([redis.pid]), time.monotonic()
        steps = _faults(load, networks, groups, readers)
        redis_cpu = cpu_seconds([redis.pid]) - redis_cpu
        for group in groups:
            group.rest()
        took = time.monotonic() - began
        readers.tell(owed((counts for group in groups for counts in group.confirmed().values()), _ACCOUNT))
        account = readers.answer()
    finally:
        readers.end()
    kept = {"steps": steps} | _figures(load, groups, account, took)
    kept["redis_us_per_event"] = round(redis_cpu / max(1, kept["events"]) * 1e6, 2)
    return kept | {"redis_bytes": pss_bytes([redis.pid])}


def _faults(load: Load, networks: Networks, groups: list[Group], readers: Child) -> list[str]:
    """What happens while events are published; what it was, in words."""
    part, second = load.seconds / 5, groups[1]
    time.sleep(part)
    second.kill()
    time.sleep(part)
    second.start()
    second.order("publish")
    readers.tell("home")
    readers.answer()
    time.sleep(part)
    steps = ["the second machine's engines were killed (-9) while they published, and started again"]
    if networks.cut(0, away=True):
        # A balancer that asks /readyz leads readers elsewhere; those at the machine hear nothing at all from it.
        readers.tell(f"leave {networks.address(0)}")
        readers.answer()
        time.sleep(min(_CUT, part))
        networks.cut(0, away=False)
        readers.tell("home")
        readers.answer()
        steps.append(f"the first machine was off the network for {min(_CUT, part):g} s, while it published")
    else:
        steps.append("no machine was taken off the network: that needs namespaces")
    time.sleep(part)
    return steps


def _figures(load: Load, groups: list[Group], account: dict[str, Any], took: float) -> dict[str, Any]:
    found, publishers = [], {name: counts for group in groups for name, counts in group.confirmed().items()}
    killed = {name for group in groups for name in group.killed}
    for stream, accounts in enumerate(account.pop("streams")):
        for open_, names in ((load.batch, killed), (0, publishers.keys() - killed)):
            confirmed = {name: publishers[name][stream] for name in names}
            found += [f"stream {stream}: {text}" for text in wrong(accounts, confirmed, open_)]
        delivered = sum(each["events"] for each in accounts)
        account["delivered"] = account.get("delivered", 0) + delivered
        account["events"] = account.get("events", 0) + accounts[0]["events"]
    if account["connected"] < load.readers:
        found.append(f"{load.readers - account['connected']} readers had no connection at the end")
    cpu = sum(group.cpu for group in groups)
    return account | {
        "confirmed": sum(map(sum, publishers.values())),
        "events_per_s": round(account["events"] / took),
        "unavailable": sum(group.away for group in groups),
        "slowest_publish_s": round(max(group.slowest for group in groups), 3),
        "engines_us_per_delivery": round(cpu / max(1, account["delivered"]) * 1e6, 2),
        "wrong": sorted(set(found)),
    }
