"""The sse_fast server whose publishers `make waiting` times, told what to publish line by line.

    python -m loadtest.waiting_server JSON      JSON is {"port", "streams", "settings"}

Owns: publishing threads that keep a pace or go flat out, and the time of every single call. Must not know: who reads,
what is allowed. An order is a line of JSON, {"pace": {"threads", "rate", "seconds"}} or {"loop": {"count", "stream"}};
a line answers it.

Law of the pace: what a long call took is never made up for, so that a publisher that waits publishes less. What the
machine's scheduler or the interpreter took is made up for.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import threading
import time
from typing import Any

import sse_fast

from .counted import counted

_LONG_NS = 1_000_000  # A call above this has waited: an ordinary one takes some microseconds.
_TICK_NS = 1_000_000  # Publishers sleep to the next tick of this length, or to that of `_AT_ONCE` events.
_AT_ONCE = 10  # Fewer events for each awakening would make 64 sleeping threads the load.
_WAITS = ("publish_waits", "publish_wait_timeouts", "publish_wait_s", "publish_socket_wait_s")
_STATS = (*_WAITS, "gaps", "skipped")


@dataclasses.dataclass
class Calls:
    """What calls of `publish` took, in one thread or in several."""

    count: int = 0
    longest_ns: int = 0
    long: int = 0
    held_ns: int = 0  # In long calls, all threads together.

    def add(self, took: int) -> bool:
        """Counts one; returns whether it was a long one."""
        self.count += 1
        self.longest_ns = max(self.longest_ns, took)
        if took < _LONG_NS:
            return False
        self.long += 1
        self.held_ns += took
        return True

    def merge(self, other: Calls) -> None:
        """Adds those of another thread."""
        self.count += other.count
        self.longest_ns = max(self.longest_ns, other.longest_ns)
        self.long += other.long
        self.held_ns += other.held_ns

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        seconds = {"held_s": round(self.held_ns / 1e9, 4), "longest_ms": round(self.longest_ns / 1e6, 3)}
        return {"published": self.count, "long_calls": self.long, **seconds}


class Publishers:
    """A server, its streams, and the orders it takes."""

    def __init__(self, server: sse_fast.Server, streams: int) -> None:
        """Makes the streams."""
        self._server = server
        self._streams = [server.stream(f"load/{number}") for number in range(streams)]

    def obey(self, order: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Does what a line says; its answer, with what the server counted during it."""
        (what, how), before = next(iter(order.items())), counted(self._server)
        answer = {"pace": self._pace, "loop": self._loop}[what](**how)
        after = counted(self._server)
        answer["stats"] = {name: after[name] - before[name] for name in _STATS if name in after}
        answer["newest"] = [_number(stream) for stream in self._streams]
        return answer

    def _pace(self, threads: int, rate: float, seconds: float) -> dict[str, Any]:
        """Every thread publishes its share of the rate into all streams in turn, each beginning at another."""
        started, calls = threading.Barrier(threads + 1), [Calls() for _ in range(threads)]

        def publish(number: int) -> None:
            at = number % len(self._streams)
            turn = [stream.publish for stream in self._streams[at:] + self._streams[:at]]
            started.wait()
            keep_pace(turn, int(1e9 * threads / rate), number / threads, seconds, calls[number])

        running = [threading.Thread(target=publish, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        started.wait()
        began = time.monotonic()
        for thread in running:
            thread.join()
        whole = Calls()
        for each in calls:
            whole.merge(each)
        return {**whole.to_dict(), "seconds": round(time.monotonic() - began, 3)}

    def _loop(self, count: int, stream: int) -> dict[str, Any]:
        """A plain loop, as fast as it goes."""
        publish, clock, calls = self._streams[stream].publish, time.monotonic_ns, Calls()
        began = called = clock()
        for number in range(1, count + 1):
            publish(b'{"seq":%d}' % number)
            now = clock()
            calls.add(now - called)
            called = now
        return {**calls.to_dict(), "seconds": round((clock() - began) / 1e9, 4)}


def keep_pace(turn: list, interval: int, phase: float, seconds: float, calls: Calls) -> None:
    """Publishes by each of `turn` in turn, an event every `interval` nanoseconds, until the time is over."""
    targets, clock = itertools.cycle(turn), time.monotonic_ns
    tick = max(_TICK_NS, interval * _AT_ONCE)
    start = clock()
    due = grid = start + int(phase * tick)  # Threads wake at different moments.
    end = start + int(seconds * 1e9)
    while (now := clock()) < end:
        while due <= now < end:
            publish, called = next(targets), clock()
            publish(b'{"t":%d}' % called)
            now = clock()
            due += interval
            if calls.add(now - called):
                due += now - called
        time.sleep((tick - (now - grid) % tick) / 1e9)


def _number(stream: sse_fast.Stream) -> int:
    """How many events it has had, as its newest id says."""
    return int(stream.last_id.rpartition("-")[2]) if stream.last_id else 0


def main() -> None:
    """Serves until standard input ends."""
    job = json.loads(sys.argv[1])
    with sse_fast.serve(job["port"], **job["settings"]) as server:
        publishers = Publishers(server, job["streams"])
        print(json.dumps({"port": server.port}), flush=True)
        for line in sys.stdin:
            print(json.dumps(publishers.obey(json.loads(line))), flush=True)
        server.close(drain=0.0)


if __name__ == "__main__":
    main()
