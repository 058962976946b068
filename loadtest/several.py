"""`make several`: 32 streams over one connection, beside a connection for each, with cuts and resumes at every byte.

Owns: the cases, what is measured of each, and what may not happen. Must not know: how readers read (`several_readers`),
how events are published (`several_server`).

The promise: nothing is lost, doubled or out of order, across cuts at any byte, and many streams over one connection
cost no more for each delivery than over one connection each, and a part of the memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

from . import bars_sockets, machine
from .processes import Child, cpu_seconds, pss_bytes

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = 32
_BYTES = 100
_SETTLE = 3.0  # Seconds after which what parsing needed is given back.
_CUT_EVERY = 0.5  # Seconds between two rounds of cuts.


@dataclasses.dataclass(frozen=True)
class Case:
    """Readers of 32 streams each; every stream has 32 readers, so that a delivery takes the same publishing in all."""

    name: str
    readers: int
    apart: bool = False
    cuts: bool = False

    @property
    def streams(self) -> int:
        """How many there are."""
        return max(_NAMES, self.readers)


def cases(readers: int, beside: int) -> list[Case]:
    """What is measured: `readers` as asked, and `beside` of them both ways."""
    return [
        Case(f"{readers} readers, one connection each", readers),
        Case(f"{readers} readers, cut and resumed", readers, cuts=True),
        Case(f"{beside} readers, one connection each", beside),
        Case(f"{beside} readers, 32 connections each", beside, apart=True),
    ]


def run(chosen: list[Case], seconds: float, rate: float, results: Path) -> int:
    """Measures and writes several.json; the exit code: 1 where anything was lost, doubled or out of order."""
    kept: dict[str, Any] = {"date": machine.today(), "revision": machine.revision(), "machine": machine.facts()}
    kept |= {"versions": machine.versions("sse-fast"), "seconds": seconds, "rate": rate, "rows": []}
    folder = machine.results_folder(results)
    for case in chosen:
        row = {**dataclasses.asdict(case), **measure(case, seconds, rate)}
        kept["rows"].append(row)
        print(json.dumps(row), flush=True)
        (folder / "several.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    wrong = [row["name"] for row in kept["rows"] if row["wrong"] or row["missing"] or row["gaps"]]
    print(f"wrong: {', '.join(wrong)}" if wrong else "nothing was lost, doubled or out of order")
    return 1 if wrong else 0


def measure(case: Case, seconds: float, rate: float) -> dict[str, Any]:
    """One case: what it cost, and what was wrong."""
    with contextlib.ExitStack() as stack:
        job = {"streams": case.streams, "rate": rate, "bytes": _BYTES, "settings": {"history": 4096, "heartbeat": 60.0}}
        server = Child.module("several_server", job)
        stack.callback(server.end)
        port = server.answer()["port"]
        time.sleep(_SETTLE)
        before = pss_bytes([server.pid])
        job = {"port": port, "readers": case.readers, "names": _NAMES, "streams": case.streams, "apart": case.apart}
        readers = Child.module("several_readers", job | {"seed": 1})
        stack.callback(readers.end)
        connections = readers.answer()["connections"]
        time.sleep(_SETTLE)
        memory, kernel = pss_bytes([server.pid]) - before, sum(bars_sockets.memory(port))
        first, used = _stats(server), cpu_seconds([server.pid])
        server.tell(f"publish {seconds}")
        if case.cuts:
            _cut(readers, connections, seconds)
        published = server.answer()
        account = _account(readers, published["sent"])
        used, last = cpu_seconds([server.pid]) - used - published["thread_s"], _stats(server)
        delivered = last["delivered"] - first["delivered"]
        return account | {
            "published": published["published"],
            "delivered": delivered,
            "user_bytes_per_reader": round(memory / case.readers),
            "kernel_bytes_per_reader": round(kernel / case.readers),
            "engine_us_per_delivery": round(used / max(1, delivered) * 1e6, 3),
            "deliveries_per_write": round(delivered / max(1, last["writes"] - first["writes"]), 2),
            "bytes_per_delivery": round((last["bytes"] - first["bytes"]) / max(1, delivered), 1),
        }


def _cut(readers: Child, connections: int, seconds: float) -> None:
    """Cuts a tenth of all every half a second."""
    end = time.monotonic() + seconds - 1
    while time.monotonic() < end:
        readers.tell(f"cut {max(1, connections // 10)}")
        readers.answer()
        time.sleep(_CUT_EVERY)


def _stats(server: Child) -> dict[str, Any]:
    server.tell("stats")
    return server.answer()


def _account(readers: Child, sent: list[int]) -> dict[str, Any]:
    readers.tell(f"account {json.dumps(sent)}")
    return readers.answer()
