"""A process that opens one connection after another and times each head, while others read the server's events.

    python -m loadtest.bars_probe JSON      JSON is {"port", "path", "seconds", "pause"}

Owns: what a newcomer waits for: from connect to the first bytes of the response. Must not know: how many others there
are. It is a process of its own, so that it never waits for the harness or for who counts events.
"""

from __future__ import annotations

import json
import socket
import sys
import time

_PERCENTS = (50, 90, 99)


def head(port: int, request: bytes) -> float:
    """Milliseconds from connect to the head's first bytes."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 10.0) as connection:
        connection.sendall(request)
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise SystemExit("a newcomer was refused")
        return (time.perf_counter() - began) * 1e3


def main() -> None:
    """Prints the percentiles of all heads."""
    job = json.loads(sys.argv[1])
    request = f"GET {job['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
    took, end = [], time.monotonic() + job["seconds"]
    while time.monotonic() < end:
        took.append(head(job["port"], request))
        time.sleep(job["pause"])
    took.sort()
    percentiles = {f"p{percent}_ms": round(took[(len(took) - 1) * percent // 100], 3) for percent in _PERCENTS}
    print(json.dumps({"heads": len(took), **percentiles}), flush=True)


if __name__ == "__main__":
    main()
