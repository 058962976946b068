"""One sse_fast server under test, in a process of its own, told what to publish line by line.

    python -m loadtest.server JSON      started by the harness; JSON is {"port", "scenario", "shared"}

Owns: the public API of sse_fast as a user would call it, the events' data, and the time stamp, which is read right
before `publish`. Must not know: who reads, the pace (each line is an order to publish now), locust.

Orders, one per line: ``p SEQ BURST FIRST COUNT`` publishes into streams FIRST to FIRST+COUNT, ``e SEQ`` ends all
streams, ``r RUN`` starts a run, ``s`` answers with the figures so far, and so also says that all before it is done.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import sse_fast

from .counted import counted
from .histogram import Histogram
from .scenario import Scenario, from_dict

_CHILD = Path(__file__).with_name("child.py")


class Publisher:
    """A server, its streams, and the orders it takes."""

    def __init__(self, scenario: Scenario, server: sse_fast.Server, *, shared: bool) -> None:
        """Makes the streams; with `shared` other processes publish the same events under the same ids."""
        self._scenario, self._server, self._shared = scenario, server, shared
        options = dict(scenario.streams.options)
        if scenario.runs.count:
            options.setdefault("start", "all")
        streams = scenario.runs.count or scenario.streams.count
        self._streams = [server.stream(f"load/{number}", **options) for number in range(streams)]
        self._took = Histogram()
        self._runs: list[sse_fast.Run] = []

    def obey(self, order: str, *numbers: int) -> dict[str, Any] | None:
        """Does what a line says; the answer to ``s``."""
        match order:
            case "p":
                self._publish(*numbers)
            case "e":
                for stream in self._streams:
                    stream.end(_data(numbers[0], 0), **self._id(numbers[0]))
            case "r":
                command = [sys.executable, "-I", "-S", _CHILD, str(self._scenario.runs.silence)]
                self._runs.append(self._server.run(command, stream=self._streams[numbers[0]]))
            case "s":
                return {"publish": self._took.to_dict(), "stats": counted(self._server)}
        return None

    def _publish(self, seq: int, burst: int, first: int, count: int) -> None:
        size = self._scenario.events.bytes
        for number in range(seq, seq + burst):
            for stream in self._streams[first : first + count]:
                data = _data(number, size)
                began = time.perf_counter_ns()
                stream.publish(data, **self._id(number))
                self._took.record((time.perf_counter_ns() - began) / 1e6)

    def _id(self, number: int) -> dict[str, str]:
        # An id the engine gives names a stream's life in its process; where the next connection may meet another
        # process, the application's own ids let it resume there.
        return {"id": f"load-{number}"} if self._shared else {}


def _data(seq: int, size: int) -> bytes:
    head = b'{"seq":%d,"t":%d,"pad":"' % (seq, time.monotonic_ns())
    return head + b"x" * max(0, size - len(head) - 2) + b'"}'


def main() -> None:
    """Serves until standard input ends."""
    job = json.loads(sys.argv[1])
    scenario = from_dict(job["scenario"])
    settings = dict(scenario.server.settings)
    if job["shared"]:
        settings["reuse_port"] = True
    if scenario.server.scrape:
        settings["metrics"] = True
    with sse_fast.serve(job["port"], **settings) as server:
        publisher = Publisher(scenario, server, shared=job["shared"])
        print(json.dumps({"port": server.port}), flush=True)
        for line in sys.stdin:
            order, *numbers = line.split()
            answer = publisher.obey(order, *map(int, numbers))
            if answer is not None:
                print(json.dumps(answer), flush=True)
        server.close(drain=0.0)


if __name__ == "__main__":
    main()
