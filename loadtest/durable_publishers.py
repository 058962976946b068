"""The publishers of `durable`: threads with a client each, which keep a pace whatever becomes of the engine.

    python -m loadtest.durable_publishers JSON

Owns: the pace, what each was told is published, and how long that took. Must not know: who reads, when the engine is
killed: the client repeats what has no answer. Each line that is read is an order, `publish`, `delays` or `rest`, which
is answered by a line of JSON; `delays` has what was measured since the last.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from sse_fast import client

from .histogram import Histogram

_TURN = 0.01  # Seconds between two turns; each publishes its share of the rate.
_RETRY_FOR = 60.0  # Seconds for which the engine may be away.


class Publishers:
    """All of them, and what they measure."""

    def __init__(self, job: dict[str, Any]) -> None:
        """They rest at first."""
        self._job = job
        self._on, self._over = threading.Event(), threading.Event()
        self._lock = threading.Lock()  # Protects the histogram.
        self._took = Histogram()
        self.failed: list[str] = []
        self.confirmed = {f"p{number}": [0] * job["streams"] for number in range(job["publishers"])}
        self._threads = [threading.Thread(target=self._run, args=(name,), daemon=True) for name in self.confirmed]
        for thread in self._threads:
            thread.start()

    def publish(self) -> None:
        """Begins."""
        self._on.set()

    def rest(self) -> None:
        """Ends; what is on its way is waited for."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * _RETRY_FOR)

    def delays(self) -> dict[str, float]:
        """What was measured since the last time."""
        with self._lock:
            took, self._took = self._took, Histogram()
        return {"count": took.count, "p50": took.percentile(50), "p99": took.percentile(99), "most": took.greatest}

    def _run(self, name: str) -> None:
        self._on.wait()
        job, counts, at = self._job, self.confirmed[name], 0
        rate = job["rate"] / job["publishers"]
        began = time.monotonic()
        with client.connect(job["url"], key=job["key"], retry_for=_RETRY_FOR) as connected:
            streams = [connected.stream(f"load/{number}") for number in range(job["streams"])]
            while not self._over.wait(_TURN):
                # What was not published while the engine was away is made up for at once.
                while at < (time.monotonic() - began) * rate and not self._over.is_set():
                    try:
                        self._one(streams[at % len(streams)], name, counts, at % len(streams))
                    except Exception as error:
                        self.failed.append(f"publisher {name}: {error!r}")
                        return
                    at += 1

    def _one(self, stream: client.RemoteStream, name: str, counts: list[int], at: int) -> None:
        began = time.monotonic_ns()
        stream.publish(f"{name} {counts[at] + 1} {began} {'x' * self._job['bytes']}")
        counts[at] += 1
        with self._lock:
            self._took.record((time.monotonic_ns() - began) / 1e6)


def main() -> None:
    """Publishes until its input ends."""
    publishers = Publishers(json.loads(sys.argv[1]))
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        order = line.strip()
        answer: dict[str, Any] = {}
        if order == "publish":
            publishers.publish()
        elif order == "delays":
            answer = publishers.delays()
        else:
            publishers.rest()
            answer = {"confirmed": publishers.confirmed, "failed": publishers.failed}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
