"""The engine of `durable`: a server with a store, into which events come over HTTP.

    python -m loadtest.durable_engine JSON

Owns: the server. Must not know: who publishes, who reads, when it will be killed. The first line says that it serves;
each line that is read is answered by what the engine counts.
"""

from __future__ import annotations

import json
import sys

import sse_fast


def main() -> None:
    """Serves until its input ends."""
    job = json.loads(sys.argv[1])
    with sse_fast.serve(
        job["port"],
        host=job["host"],
        store=job["store"],
        durable=job["durable"],
        publish_key=job["key"],
        start="all",
        history=job["history"],
        history_bytes=1 << 26,
        heartbeat=60.0,
    ) as server:
        for number in range(job["streams"]):
            server.stream(f"load/{number}")
        print(json.dumps({"port": server.port}), flush=True)
        for _ in sys.stdin:
            stats = server.stats()
            print(json.dumps({"store_bytes": stats.store_bytes, "store_syncs": stats.store_syncs}), flush=True)


if __name__ == "__main__":
    main()
