"""The sse_fast server of `make several`: many streams, published into at an even pace by one thread.

    python -m loadtest.several_server JSON      JSON is {"streams", "rate", "bytes", "settings"}

Owns: the streams and the pace. Must not know: who reads, and how. The first line says the port; each line that is read
is an order, `publish SECONDS` or `stats`, and is answered by a line of JSON. Events of a stream are numbered from 1.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import sse_fast

_TURN = 0.01  # Seconds between two turns of publishing; each takes its share of the rate.


def publish(streams: list[sse_fast.Stream], rate: float, size: int, seconds: float, sent: list[int]) -> dict[str, Any]:
    """Publishes round robin for so long; what the publishing thread itself took, and what it did."""
    began, used, done = time.monotonic(), time.thread_time(), 0
    filling = "x" * size
    while (passed := time.monotonic() - began) < seconds:
        for number in range(done, int(passed * rate)):
            at = number % len(streams)
            sent[at] += 1
            streams[at].publish(f"{sent[at]} {filling}")
        done = max(done, int(passed * rate))
        time.sleep(_TURN)
    return {"published": done, "thread_s": time.thread_time() - used}


def main() -> None:
    """Serves until its input ends."""
    job = json.loads(sys.argv[1])
    with sse_fast.serve(0, **job["settings"]) as server:
        streams = [server.stream(f"load/{number}", start="all") for number in range(job["streams"])]
        sent = [0] * len(streams)
        print(json.dumps({"port": server.port}), flush=True)
        for line in sys.stdin:
            order, _, seconds = line.strip().partition(" ")
            if order == "publish":
                answer = publish(streams, job["rate"], job["bytes"], float(seconds), sent) | {"sent": sent}
            else:
                stats = server.stats()
                answer = {"delivered": stats.delivered, "writes": stats.writes, "subscribers": stats.subscribers}
                answer |= {"gaps": stats.gaps, "bytes": stats.bytes}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
