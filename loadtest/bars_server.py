"""The sse_fast server that `make bars` measures, told what to publish line by line.

    python -m loadtest.bars_server JSON      JSON is {"port", "streams", "bytes", "settings"}

Owns: publishing as a user's plain Python loop would, and what only its own process can tell: how long `publish` took
and the CPU time of the thread that called it. Must not know: who reads, what a bar asks for. `server.py` is the same
for scenarios; this one has paced floods and streams made later, and times nothing where a bar counts CPU.

Orders, one per line: ``p SEQ COUNT FIRST STREAMS BYTES`` publishes, each event into streams FIRST to FIRST+STREAMS;
``b SEQ COUNT BATCH`` publishes into the first stream, so many in a call;
``f SEQ RATE SECONDS STREAM`` publishes at a pace and answers; ``m COUNT`` makes streams up to COUNT; ``s`` answers with
the figures so far, and so also says that all before it is done.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from typing import Any

import sse_fast

from .counted import counted


class Publisher:
    """A server, its streams, and the orders it takes."""

    def __init__(self, server: sse_fast.Server, size: int) -> None:
        """Has no stream yet; events have that size unless an order says otherwise."""
        self._server, self._size = server, size
        self._streams: list[sse_fast.Stream] = []

    def obey(self, order: str, *numbers: float) -> dict[str, Any] | None:
        """Does what a line says; the answer to ``f`` and ``s``."""
        whole = [int(number) for number in numbers]
        match order:
            case "p":
                self._publish(*whole)
            case "b":
                self._batches(*whole)
            case "m":
                made = range(len(self._streams), whole[0])
                self._streams += [self._server.stream(f"load/{number}") for number in made]
            case "f":
                return self._flood(whole[0], numbers[1], numbers[2], whole[3])
            case "s":
                return {"stats": counted(self._server), "thread_s": time.thread_time()}
        return None

    def _publish(self, seq: int, count: int, first: int, streams: int, size: int = 0) -> None:
        for number in range(seq, seq + count):
            for stream in self._streams[first : first + streams]:
                stream.publish(_data(number, size or self._size))

    def _batches(self, seq: int, count: int, batch: int) -> None:
        for number in range(seq, seq + count, batch):
            self._streams[0].publish_many([(_data(each, self._size), None) for each in range(number, number + batch)])

    def _flood(self, seq: int, rate: float, seconds: float, stream: int) -> dict[str, Any]:
        publish = self._streams[stream].publish
        # Made beforehand, so that a list that grows is not taken for memory of the engine.
        took = array("q", bytes(8 * int(rate * seconds + 1)))
        count, thread, began = 0, time.thread_time(), time.perf_counter()
        while count < len(took) - 1 and (elapsed := time.perf_counter() - began) < seconds:
            if (ahead := count / rate - elapsed) > 0:
                time.sleep(ahead)
            data = _data(seq + count, self._size)
            called = time.perf_counter_ns()
            publish(data)
            took[count] = time.perf_counter_ns() - called
            count += 1
        elapsed, thread = time.perf_counter() - began, time.thread_time() - thread
        sorted_ns = sorted(took[:count])
        percentiles = {f"p{p}_us": sorted_ns[int((count - 1) * p / 100)] / 1e3 for p in (50, 99, 100)}
        return {"published": count, "seconds": elapsed, "thread_us": thread / count * 1e6, **percentiles}


def _data(seq: int, size: int) -> bytes:
    head = b'{"seq":%d,"t":%d,"pad":"' % (seq, time.monotonic_ns())
    return head + b"x" * max(0, size - len(head) - 2) + b'"}'


def main() -> None:
    """Serves until standard input ends."""
    job = json.loads(sys.argv[1])
    with sse_fast.serve(job["port"], **job["settings"]) as server:
        publisher = Publisher(server, job["bytes"])
        publisher.obey("m", job["streams"])
        print(json.dumps({"port": server.port}), flush=True)
        for line in sys.stdin:
            order, *numbers = line.split()
            answer = publisher.obey(order, *map(float, numbers))
            if answer is not None:
                print(json.dumps(answer), flush=True)
        server.close(drain=0.0)


if __name__ == "__main__":
    main()
