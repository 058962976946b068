"""Side by side: the same load on every server, one after another in one run, measured by the same neutral client.

Owns: the order of a measurement and its figures: CPU of the server's whole process tree between two moments at which
every subscriber is there, its memory, and what the subscribers saw. Must not know: how a server is started (`peers`),
how a table looks (`comparison_table`).

CPU per delivery, as a multiple of the floor of the same run, is the figure that carries over to another machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import comparison_table, machine, peers, shared_peers
from .peers import free_port
from .processes import Child, ChildError, cpu_seconds, pss_bytes, tree
from .scenario import ScenarioError, tomllib

if TYPE_CHECKING:
    from typing_extensions import Self

_NEUTRAL = Path(__file__).parent / "neutral"
_LOADS = Path(__file__).parent / "comparisons.toml"
SETTLE = 1.0  # Seconds in which a server comes to rest, before its memory and CPU are read.
_QUIET = 3.0  # Seconds without an event after which everything that will come has come.
_PATIENCE = 60.0  # Seconds that an overloaded server is given, for publishing, and again for what comes after.
_CONNECT = 180.0
_PACKAGES = (
    "sse-fast",
    "uvicorn",
    "granian",
    "starlette",
    "sse-starlette",
    "fastapi",
    "aiohttp",
    "aiohttp-sse",
    "django-eventstream",
)


@dataclass(frozen=True)
class Load:
    """One table of comparisons.toml."""

    name: str
    description: str
    subscribers: int
    events: int = 0
    bytes: int = 100
    rate: float = 0.0
    stalled: int = 0
    ramp: float = 4000.0
    seconds: float = 0.0

    def scaled(self, scale: float) -> Load:
        """With fewer subscribers, for a quick look."""
        values = {**vars(self), "stalled": round(self.stalled * scale)}
        return Load(**{**values, "subscribers": max(1, round(self.subscribers * scale))})


def loads() -> dict[str, Load]:
    """Every load by name."""
    tables = tomllib.loads(_LOADS.read_text(encoding="utf-8"))
    return {name: Load(name, **values) for name, values in tables.items()}


def compare(wanted: list[str], only: list[str], scale: float, results: Path) -> int:
    """Measures and writes comparison.md and comparison.json; returns the exit code."""
    known, names = loads(), {peer.name: peer for peer in (*peers.ALL, *shared_peers.ALL)}
    for given, there in ((wanted, known), (only, names)):
        if unknown := set(given) - set(there):
            raise ScenarioError(f"{', '.join(unknown)} is not known: there are {', '.join(there)}")
    chosen = [peer for name, peer in names.items() if not only or name in only]
    missing = {peer.name: hint for peer in chosen if (hint := peer.hint())}
    kept: dict[str, Any] = {"date": machine.today(), "revision": machine.revision(), "machine": machine.facts()}
    kept |= {"versions": machine.versions(*_PACKAGES), "missing": missing, "loads": {}, "scale": scale}
    kept["notes"] = {peer.name: peer.note for peer in (peers.Floor, *chosen) if peer.note}
    folder = machine.results_folder(results)
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
        client = compile_neutral("subscribers", Path(scratch))
        peers.Floor.program = compile_neutral("floor", Path(scratch))
        for load in (known[name].scaled(scale) for name in wanted or known):
            rows = kept["loads"][load.name] = {"load": vars(load), "rows": []}
            for peer in (peers.Floor, *(peer for peer in chosen if peer.name not in missing)):
                row = _measure_or_say(peer, load, client)
                rows["rows"].append(row)
                print(f"{load.name:8} {json.dumps(row)}", flush=True)
            comparison_table.add_multiples(rows["rows"])
            # After every load, so that a run that is broken off leaves what it has measured.
            (folder / "comparison.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            (folder / "comparison.md").write_text(comparison_table.markdown(kept), encoding="utf-8")
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    return 0


def compile_neutral(name: str, folder: Path) -> Path:
    """Builds a program of neutral/ into `folder`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise ChildError("the neutral client needs a C compiler: install gcc or clang")
    program = folder / name
    subprocess.run([compiler, "-O2", "-o", program, _NEUTRAL / f"{name}.c", "-lm"], check=True)
    return program


def _measure_or_say(kind: type[peers.Peer], load: Load, client: Path) -> dict[str, Any]:
    """One row; a server that fails has a row that says how."""
    if kind is peers.Floor:  # It waits for every reader, so it would wait for these without end.
        load = Load(**{**vars(load), "stalled": 0})
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        peer = kind(Path(folder), free_port(), load.bytes)
        try:
            peer.start()
            return {"server": peer.name, **_measure(peer, load, client)}
        except (ChildError, OSError, ValueError) as error:
            return {"server": kind.name, "failed": str(error)}
        finally:
            peer.stop()


def _measure(peer: peers.Peer, load: Load, client: Path) -> dict[str, Any]:
    settle()
    server = _Tree(peer.roots)
    cpu, memory = server.cpu(), server.memory()
    flags = ("--count", load.subscribers + load.stalled, "--stalled", load.stalled, "--ramp", load.ramp)
    subscribers = Child([client, *map(str, flags), "--quiet", str(_QUIET), str(peer.port), peer.path])
    try:
        with Deadline(subscribers, _CONNECT):
            connected = subscribers.answer()
        count, connected_cpu = load.subscribers + load.stalled, server.cpu()
        settle()
        before, connected_memory = server.cpu(), server.memory()
        row = {
            "connected_s": connected["connected_s"],
            "accept_us": round((connected_cpu - cpu) / count * 1e6, 1),
            "kib_per_subscriber": round((connected_memory - memory) / count / 1024, 2),
        }
        with Peak(server) as peak:
            published, took = _publish(peer, load)
            if load.events:
                subscribers.tell("published")
            with Deadline(subscribers, _PATIENCE if load.events else load.seconds):
                seen = subscribers.answer()
        spent = server.cpu() - before
    finally:
        subscribers.end()
    if not load.events:
        row["idle_us_per_s"] = round(spent / count / load.seconds * 1e6, 2) if load.seconds > 10 * SETTLE else None
        return row | {name: seen[name] for name in ("refused", "closed")}
    row |= {
        "published": published,
        "publish_s": round(took, 3),
        "cpu_us": round(spent / max(seen["events"], 1) * 1e6, 3),
    }
    row["delivered"] = round(seen["events"] / (load.subscribers * load.events), 4)
    row["grew_mb"] = round((peak.memory - connected_memory) / 1e6, 1)
    names = (
        "per_s",
        "p50_ms",
        "p99_ms",
        "tail_p50_ms",
        "tail_p99_ms",
        "gaps",
        "missed",
        "repeats",
        "refused",
        "closed",
    )
    return row | {name: seen[name] for name in names}


def _publish(peer: peers.Peer, load: Load) -> tuple[int, float]:
    """Publishes the load's events; returns how many were taken and how long that took."""
    began, published = time.monotonic(), 0
    if load.rate:
        for number in range(load.events):
            pace(began + number / load.rate)
            published += peer.publish(number + 1, 1, _PATIENCE)
            if time.monotonic() > began + load.events / load.rate + _PATIENCE:
                break
    elif load.events:
        published = peer.publish(1, load.events, _PATIENCE)
    return published, time.monotonic() - began


def settle(times: int = 1) -> None:
    """Lets a server come to rest: a pause, the same for every server.

    Nothing tells that it has: not that all its threads are up, nor that its allocator has given back what it will.
    """
    time.sleep(times * SETTLE)


def pace(moment: float) -> None:
    """Sleeps until a moment of the load, which was set beforehand: it does not depend on how long publishing takes."""
    time.sleep(max(0.0, moment - time.monotonic()))


class _Tree:
    """A server's processes."""

    def __init__(self, roots: list[int]) -> None:
        self._roots = roots

    def cpu(self) -> float:
        return cpu_seconds(tree(self._roots))

    def memory(self) -> int:
        return pss_bytes(tree(self._roots))


class Deadline:
    """Tells the neutral client to come to an end when the block takes longer than it may."""

    def __init__(self, client: Child, seconds: float) -> None:
        """The time runs from the beginning of the block."""
        self._timer = threading.Timer(seconds, client.tell, ("over",))
        self._timer.daemon = True

    def __enter__(self) -> None:
        """The time begins."""
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        """The block was in time."""
        self._timer.cancel()


class Peak:
    """The most memory that a server had while the block lasted."""

    def __init__(self, server: _Tree) -> None:
        """Looks at its memory four times a second."""
        self.memory = 0
        self._server, self._over = server, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            self.memory = max(self.memory, self._server.memory())

    def __enter__(self) -> Self:
        """Looks begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """A last look."""
        self._over.set()
        self._thread.join()
        self.memory = max(self.memory, self._server.memory())
