"""`python -m loadtest run durable`: one engine with a store, killed in the middle and started again.

Owns: the order of a run and its figures. Must not know: how the engine serves (`durable_engine`), how publishers
publish (`durable_publishers`), how readers read (`two_machines_readers`), what an account is (`two_machines_account`),
how the report looks (`durable_report`).

The promise: nothing that a publisher was told is published is lost, doubled or out of order for any reader, though
publishers repeat what a kill (-9) left without an answer; and no stream begins a new life.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import machine
from .durable_report import markdown
from .processes import Child, ChildError, wait_until
from .scenario import ScenarioError
from .two_machines_account import owed, wrong

NAME = "durable"
DESCRIPTION = (
    "an engine with a store is killed (-9) under load and started again: nothing lost, doubled or out of order"
)

_HOST = "127.0.0.1"
_KEY = "the-publishers-of-one-load-test-share-it"
_HISTORY = 50_000  # Events that a reader may be behind: more than are published into a stream.
_ACCOUNT = 60.0  # Seconds in which everything must have come.
_BACK = 60.0  # Seconds in which every reader must have come back.


@dataclasses.dataclass(frozen=True)
class Load:
    """What is put on the engine."""

    durable: str = "process"
    streams: int = 50
    readers: int = 500
    publishers: int = 4
    rate: float = 400.0  # Events a second, of all publishers together.
    bytes: int = 100
    seconds: float = 30.0  # Of which one half is before the kill.


def load_of(changes: list[str]) -> Load:
    """The load with changes such as ``readers=100``."""
    fields = {field.name: type(field.default) for field in dataclasses.fields(Load)}
    given: dict[str, Any] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if name not in fields or not equals:
            raise ScenarioError(f"{change!r}: the scenario {NAME} has {', '.join(fields)}, each as KEY=VALUE")
        try:
            given[name] = fields[name](value)
        except ValueError as error:
            raise ScenarioError(f"{change!r}: {error}") from error
    if given.get("durable", "process") not in {"process", "disk"}:
        raise ScenarioError('durable: must be "process" or "disk"')
    return Load(**given)


def run(load: Load, results: Path) -> int:
    """Plays it and writes durable.json and .md; the exit code: 1 where the promise was broken."""
    kept: dict[str, Any] = {"date": machine.today(), "revision": machine.revision(), "machine": machine.facts()}
    kept |= {"versions": machine.versions("sse-fast"), "load": dataclasses.asdict(load)}
    with tempfile.TemporaryDirectory(prefix="durable-") as name:
        folder = Path(name)
        try:
            kept |= _play(load, folder)
        except ChildError:
            for log in sorted(folder.glob("*.log")):
                sys.stderr.write(f"---- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
            raise
    written = machine.results_folder(results)
    (written / f"{NAME}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (written / f"{NAME}.md").write_text(markdown(kept), encoding="utf-8")
    print(markdown(kept).partition("\n## ")[2].partition("\n")[2].strip())
    return 1 if kept["wrong"] else 0


class _Engine:
    """The engine in each of its lives, at one port and with one folder."""

    def __init__(self, load: Load, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind((_HOST, 0))
            self.port: int = probe.getsockname()[1]
        self._folder, self._lives = folder, 0
        self._job = {"host": _HOST, "port": self.port, "store": str(folder / "store"), "key": _KEY}
        self._job |= {"durable": load.durable, "streams": load.streams, "history": _HISTORY}
        self._child = self._start()

    def _start(self) -> Child:
        self._lives += 1
        log = (self._folder / f"engine-{self._lives}.log").open("wb")
        child = Child.module("durable_engine", self._job, log=log)
        child.answer()
        return child

    def kill_and_start(self) -> float:
        """Kills it in the middle of whatever it does; for how many seconds nothing was at the port."""
        began = time.monotonic()
        self._child.process.kill()
        self._child.process.wait()
        self._child.end()
        self._child = self._start()
        return time.monotonic() - began

    def stats(self) -> dict[str, Any]:
        self._child.tell("stats")
        return self._child.answer()

    def end(self) -> None:
        self._child.end()


def _play(load: Load, folder: Path) -> dict[str, Any]:
    """The run itself; its figures."""
    engine = _Engine(load, folder)
    children: list[Child] = []
    try:
        job = {"engines": [(_HOST, engine.port)], "streams": load.streams, "readers": load.readers}
        children.append(readers := Child.module("two_machines_readers", job, log=(folder / "readers.log").open("wb")))
        readers.answer()
        url = f"http://{_HOST}:{engine.port}"
        job = dataclasses.asdict(load) | {"url": url, "key": _KEY}
        log = (folder / "publishers.log").open("wb")
        children.append(publishers := Child.module("durable_publishers", job, log=log))
        publishers.answer()
        order(publishers, "publish")
        time.sleep(load.seconds / 2)
        phases = {"before": _phase(readers, publishers)}
        away = engine.kill_and_start()
        wait_until(lambda: order(readers, "look")["connected"] == load.readers, _BACK, "every reader has come back")
        phases["meanwhile"] = _phase(readers, publishers)
        time.sleep(load.seconds / 2)
        phases["after"] = _phase(readers, publishers)
        rest = order(publishers, "rest")
        account = order(readers, owed(rest["confirmed"].values(), _ACCOUNT))
        stats = engine.stats()
    finally:
        for child in children:
            child.end()
        engine.end()
    kept = _figures(load, account, rest["confirmed"], rest["failed"])
    return kept | {"phases": phases, "engine_away_s": round(away, 2)} | stats


def order(child: Child, what: str) -> dict[str, Any]:
    """Tells it; its answer."""
    child.tell(what)
    return child.answer()


def _phase(readers: Child, publishers: Child) -> dict[str, Any]:
    """What was measured since the last phase."""
    return {"delivery_ms": order(readers, "delays"), "publish_ms": order(publishers, "delays")}


def _figures(load: Load, account: dict[str, Any], confirmed: dict[str, list[int]], failed: list[str]) -> dict[str, Any]:
    found, events, delivered = list(failed), 0, 0
    for stream, accounts in enumerate(account.pop("streams")):
        told = {name: counts[stream] for name, counts in confirmed.items()}
        found += [f"stream {stream}: {text}" for text in wrong(accounts, told, 0)]
        events += accounts[0]["events"]
        delivered += sum(each["events"] for each in accounts)
    if account["connected"] < load.readers:
        found.append(f"{load.readers - account['connected']} readers had no connection at the end")
    account |= {"events": events, "delivered": delivered, "confirmed": sum(map(sum, confirmed.values()))}
    return account | {"wrong": sorted(set(found))}
