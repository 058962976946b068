"""What the processes of a run use, once a second: CPU, memory, open files.

Owns: the sampling and what "CPU" of a group means (percent of one core of its busiest process for locust, the sum for
the servers). Must not know: who the processes are.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import gevent

from .processes import cpu_seconds, open_files, pss_bytes, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_EVERY = 1.0  # Seconds.
_MEMORY_EVERY = 5  # Samples: reading a large process's memory map takes milliseconds.
WINDOW = 5  # Samples over which locust's CPU is judged; a single second of it says little.


class Sampler:
    """Samples two groups of processes; `samples` is one dict per second."""

    def __init__(self, servers: Sequence[int], readers: Sequence[int], origin: float) -> None:
        """Times count from `origin`."""
        self.samples: list[dict[str, float]] = []
        self._servers, self._readers, self._origin = servers, readers, origin
        self._used: dict[int, float] = {}
        self._memory = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Sampler]:
        """Samples as long as the block lasts."""
        greenlet = gevent.spawn(self._run)
        try:
            yield self
        finally:
            greenlet.kill()

    def _run(self) -> None:
        before = time.monotonic()
        self._take(0.0)
        while True:
            gevent.sleep(_EVERY)
            now = time.monotonic()
            self._take(now - before)
            before = now

    def _take(self, seconds: float) -> None:
        readers = [self._percent(pid, [pid], seconds) for pid in self._readers]
        servers = [self._percent(pid, tree([pid]), seconds) for pid in self._servers]
        if len(self.samples) % _MEMORY_EVERY == 0:
            self._memory = pss_bytes(self._servers)
        self.samples.append(
            {
                "at": round(time.monotonic() - self._origin, 2),
                "reader_cpu": max(readers, default=0.0),
                "server_cpu": sum(servers),
                "server_memory_mb": round(self._memory / 1e6, 1),
                "server_files": max(map(open_files, self._servers), default=0),
                "reader_files": max(map(open_files, self._readers), default=0),
            }
        )

    def _percent(self, key: int, pids: list[int], seconds: float) -> float:
        used = cpu_seconds(pids)
        spent = used - self._used.get(key, used)
        self._used[key] = used
        return round(100 * spent / seconds, 1) if seconds else 0.0


def busiest(samples: list[dict[str, float]], name: str, since: float, until: float) -> float:
    """The highest mean over `WINDOW` samples between two times."""
    values = [sample[name] for sample in samples if since <= sample["at"] <= until]
    size = min(WINDOW, len(values))
    if not size:
        return 0.0
    return max(sum(values[at : at + size]) / size for at in range(len(values) - size + 1))
