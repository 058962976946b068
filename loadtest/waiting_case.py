"""One measurement of `make waiting`: a server of its own, readers in another process, publishers that are timed.

Owns: the processes of a case, their deadlines, and what is kept of it. Must not know: which cases there are, what is
allowed (`waiting`), how a table looks (`waiting_table`).
"""

from __future__ import annotations

import contextlib
import json
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compare import Deadline, compile_neutral, free_port
from .histogram import Histogram
from .ledger import Ledger, Totals
from .processes import Child, ChildError, cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 50_000  # Events a second, of all publishing threads together.
TAKE = 200_000  # Bytes a second that a slow reader takes of one stream; of several, its part, or it would not be slow.
_PATIENCE = 120.0  # Seconds for connecting, for publishing beyond its own time, and for what comes after.
_ROLES = ("healthy", "slow", "dead")
Row = dict[str, Any]


@dataclass(frozen=True)
class Paced:
    """Publishers that keep a pace, beside readers of every kind. `row` is what `--only` chooses by."""

    row: str
    healthy: int = 5
    slow: int = 0
    dead: int = 0
    threads: int = 1
    streams: int = 1
    rate: int = RATE

    @property
    def name(self) -> str:
        """What stands in the table."""
        readers = ", ".join(f"{count} {role}" for role in _ROLES if (count := getattr(self, role)))
        return f"{self.row}: {readers}" + (f", at {self.rate:,}/s" if self.rate != RATE else "")

    @property
    def baseline(self) -> Paced:
        """The same without a slow or dead reader: what this case is compared with."""
        return Paced("base", self.healthy, 0, 0, self.threads, self.streams, self.rate)


@dataclass(frozen=True)
class Loop:
    """A plain loop of `events`, as fast as it goes, to `readers` threads of one Python process."""

    row: str
    events: int
    readers: int

    @property
    def name(self) -> str:
        """What stands in the table."""
        return f"{self.row}: {self.events:,} events to {self.readers} Python readers"


class Stand:
    """The compiled client, how long a case publishes, the server's settings."""

    def __init__(self, folder: Path, seconds: float, settings: dict[str, Any]) -> None:
        """Compiles the client."""
        self.seconds, self._settings = seconds, settings
        self._client = compile_neutral("readers", folder)
        self._log = folder / "stderr"

    def paced(self, case: Paced) -> Row:
        """Publishes at the case's pace, then lets every reader have the rest."""
        flags = {name: getattr(case, name) for name in (*_ROLES, "streams")} | {"take": TAKE // case.streams}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        with self._serving(case.streams) as (server, port):
            client = Child([self._client, *words, str(port), "/streams/load/{}"])
            with _connected(client):
                order = {"threads": case.threads, "rate": case.rate, "seconds": self.seconds}
                with _Cpu(server, client) as cpu:
                    told = _ask(server, {"pace": order}, self.seconds + _PATIENCE)
                client.tell("drain")
                with Deadline(client, _PATIENCE):
                    seen = client.answer()
        delays = Histogram()
        delays.merge(seen["delays"])
        row = {**vars(case), "name": case.name, "publisher": _per_second(told)} | cpu
        row |= {role: summary(seen["readers"], role, told["newest"], self.seconds) for role in _ROLES}
        return row | {"delays_ms": delays.summary()}

    def looped(self, case: Loop) -> Row:
        """The loop into a stream that nobody reads, then into the one that is read."""
        with self._serving(2) as (server, port):
            unread = _ask(server, {"loop": {"count": case.events, "stream": 1}}, _PATIENCE)
            job = {"port": port, "path": "/streams/load/0", "readers": case.readers}
            readers = Child.module("waiting_readers", job)
            with _connected(readers):
                with _Cpu(server, readers) as cpu:
                    told = _ask(server, {"loop": {"count": case.events, "stream": 0}}, _PATIENCE)
                readers.tell(f"published {case.events}")
                # It has a deadline of its own, and half the time again to end its threads.
                seen = _answer(readers, 1.5 * _PATIENCE)
        row = {**vars(case), "name": case.name, "publisher": _per_second(told)} | cpu
        row |= {"unread_s": unread["seconds"], "late": seen["late"]}
        return row | {"healthy": summary(seen["readers"], "healthy", [case.events], told["seconds"])}

    @contextlib.contextmanager
    def _serving(self, streams: int) -> Iterator[tuple[Child, int]]:
        job = {"port": free_port(), "streams": streams, "settings": self._settings}
        with self._log.open("wb") as log:
            server = Child.module("waiting_server", job, log=log)
        try:
            yield server, _answer(server, _PATIENCE)["port"]
        except ChildError as error:
            # The end of a traceback says more than an exit code.
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ChildError(f"{error}: {said[-1]}" if said else str(error)) from error
        finally:
            server.end()


def summary(readers: list[Row], role: str, newest: list[int], seconds: float) -> Row:
    """The accounts of the readers of a kind, added up; `newest` is how many events each stream has had."""
    mine, totals = [reader for reader in readers if reader["role"] == role], Totals()
    whole = wrong = 0
    for reader in mine:
        ledger = Ledger(0)
        for name in ("last", "delivered", "announced", "missing", "repeats", "unknown"):
            setattr(ledger, name, reader[name])
        published = newest[reader["stream"]]
        # Whom the server has given up on is owed only what comes before the end of its connection.
        totals.add(ledger, None if reader["closed"] else published)
        whole += not reader["closed"] and reader["delivered"] == published
        added_up = reader["closed"] or reader["delivered"] + reader["announced"] == published
        wrong += bool(reader["missing"] or reader["repeats"] or reader["unknown"] or not added_up)
    found = {**totals.to_dict(), "lost": totals.lost, "whole": whole, "wrong": wrong}
    found |= {"gaps": sum(reader["gaps"] for reader in mine), "closed": sum(reader["closed"] for reader in mine)}
    for name, of in (("delivered", "delivered"), ("skipped", "announced")):
        values = [reader[of] for reader in mine] or [0]
        found[f"{name}_each"] = [min(values), round(statistics.median(values)), max(values)]
    taken = [reader["bytes_before_drain"] / seconds / 1e3 for reader in mine if "bytes_before_drain" in reader]
    return found | {"kb_per_s": round(statistics.median(taken), 1) if taken else None}


def _per_second(told: Row) -> Row:
    return told | {"per_s": round(told["published"] / told["seconds"], 1)}


def _ask(child: Child, order: Row, seconds: float) -> Row:
    child.tell(json.dumps(order))
    return _answer(child, seconds)


def _answer(child: Child, seconds: float) -> Row:
    """Its answer; a child that gives none in time is ended, and `ChildError` raised."""
    timer = threading.Timer(seconds, child.process.kill)
    timer.daemon = True
    timer.start()
    try:
        return child.answer()
    finally:
        timer.cancel()


@contextlib.contextmanager
def _connected(readers: Child) -> Iterator[None]:
    """The readers, each with its response head, until the block ends."""
    try:
        if refused := _answer(readers, _PATIENCE)["refused"]:
            raise ChildError(f"{refused} readers were refused")
        yield
    finally:
        readers.end()


class _Cpu:
    """The cores that server and readers used while the block lasted, and how long threads of anyone waited for one."""

    def __init__(self, server: Child, readers: Child) -> None:
        self._pids = {"server_cores": server.pid, "reader_cores": readers.pid}
        self.figures: Row = {"waited_percent": None}

    def __enter__(self) -> Row:
        self._began, self._before, self._waited = time.monotonic(), self._used(), _waited_for_a_core()
        return self.figures

    def __exit__(self, *_: object) -> None:
        seconds, after, waited = time.monotonic() - self._began, self._used(), _waited_for_a_core()
        self.figures |= {name: round((after[name] - self._before[name]) / seconds, 3) for name in after}
        if waited is not None and self._waited is not None:
            self.figures["waited_percent"] = round((waited - self._waited) / seconds * 100, 1)

    def _used(self) -> dict[str, float]:
        return {name: cpu_seconds([pid]) for name, pid in self._pids.items()}


def _waited_for_a_core() -> float | None:
    """Seconds in which some thread was ready and had no core. Not from /proc/stat, which overlooks short sleeps."""
    try:
        text = Path("/proc/pressure/cpu").read_text(encoding="ascii")
    except OSError:  # The kernel was built without it.
        return None
    return int(text.partition("total=")[2].split()[0]) / 1e6
