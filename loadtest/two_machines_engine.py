"""One engine of `two-machines`, which publishes into streams that it shares with others, and serves readers of them.

    python -m loadtest.two_machines_engine JSON

Owns: the server, and a thread that publishes at an even pace. Must not know: who else publishes, who reads, when it
will be killed. What `publish` returned is counted in a file that is mapped into memory and outlives the process, eight
bytes for each stream. Each line that is read is an order, `publish`, `rest` or `stats`, answered by a line of JSON.
"""

from __future__ import annotations

import json
import mmap
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import sse_fast

_TURN = 0.01  # Seconds between two turns of publishing; each takes its share of the rate.
_PATIENCE = 60.0  # Seconds that the last `publish` may take, which is repeated until it is taken.
_COUNT = struct.Struct("<q")


class Publisher:
    """The thread that publishes; it counts each stream's events from 1 and keeps what was confirmed."""

    def __init__(self, streams: list[sse_fast.Stream], job: dict[str, Any]) -> None:
        """Rests at first."""
        self._streams, self._job = streams, job
        size = max(1, len(streams)) * _COUNT.size
        with Path(job["confirmed"]).open("w+b") as file:
            file.truncate(size)
            self._confirmed = mmap.mmap(file.fileno(), size)
        self._on, self._rests = threading.Event(), threading.Event()
        self.published = self.away = 0
        self.slowest = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def switch(self, *, on: bool) -> None:
        """Whether it publishes from now on; it rests when this returns."""
        if on:
            self._rests.clear()
            self._on.set()
        else:
            self._on.clear()
            self._rests.wait(_PATIENCE)

    def _run(self) -> None:
        batch, rate, at = self._job["batch"], self._job["rate"], 0
        while True:
            self._on.wait()
            began, done = time.monotonic(), 0
            while self._on.is_set():
                while done < (time.monotonic() - began) * rate and self._on.is_set():
                    self._publish(at % len(self._streams), batch)
                    at += 1
                    done += batch
                time.sleep(_TURN)
            self._rests.set()

    def _publish(self, at: int, batch: int) -> None:
        offset = at * _COUNT.size
        (number,) = _COUNT.unpack_from(self._confirmed, offset)
        name, filling = self._job["publisher"], "x" * self._job["bytes"]
        began = time.monotonic()
        events = [(f"{name} {number + 1 + each} {time.monotonic_ns()} {filling}", None) for each in range(batch)]
        while True:
            try:
                # Repeated under the same key: what was published all the same is not published again.
                key = f"{name}-{at}-{number}"
                if batch == 1:
                    self._streams[at].publish(events[0][0], idempotency_key=key)
                else:
                    self._streams[at].publish_many(events, idempotency_key=key)
                break
            except sse_fast.BackplaneUnavailable:
                self.away += 1
        _COUNT.pack_into(self._confirmed, offset, number + batch)
        self.published += batch
        self.slowest = max(self.slowest, time.monotonic() - began)


def main() -> None:
    """Serves until its input ends."""
    job = json.loads(sys.argv[1])
    options: dict[str, Any] = {"start": "all", "history": job["history"], "history_bytes": 1 << 26}
    with sse_fast.serve(job["port"], host=job["host"], backplane=job["backplane"], heartbeat=60.0, **options) as server:
        streams = [server.stream(f"load/{number}") for number in range(job["streams"])]
        publisher = Publisher(streams, job)
        print(json.dumps({"port": server.port}), flush=True)
        for line in sys.stdin:
            order = line.strip()
            if order in {"publish", "rest"}:
                publisher.switch(on=order == "publish")
            stats = server.stats()
            answer = {"published": publisher.published, "away": publisher.away, "slowest_s": publisher.slowest}
            answer |= {"delivered": stats.delivered, "subscribers": stats.subscribers, "gaps": stats.gaps}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
