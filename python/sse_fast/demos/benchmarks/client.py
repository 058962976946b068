"""A client of the benchmark runner for the terminal: submits one kernel and reads the run's stream.

Owns: reading an event stream with the standard library, and printing it. Must not know: the server, but for its URL.
It reads the response of the POST itself; a client that may lose its connection resumes with ``Last-Event-ID`` at
``/api/submissions/{id}/stream``, as the page does.
"""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEARTBEAT = "heartbeat"
_TIMEOUT = 60.0  # Seconds of silence; heartbeats come far more often, so this much means a dead connection.


def submit_and_print(url: str, *, kernel: str = "matmul", gpu: str = "MI300X") -> dict[str, Any]:
    """Submits a built-in kernel to the server at `url`, prints its events as they arrive; returns its row at the end.

    Raises:
        OSError: the server cannot be reached, refuses, or falls silent.
    """
    submission_id = f"cli-{secrets.token_hex(4)}"
    body = {"submission_id": submission_id, "gpu": gpu, "kernel": kernel}
    print(f"POST {url}/api/submissions/benchmark  {submission_id}: {kernel} on {gpu}", flush=True)
    began = time.monotonic()
    for event, data in submit(url, body):
        words = data.get("message") or f"exit code {data.get('exit_code')}, {data.get('duration_s')} s"
        print(f"{time.monotonic() - began:8.2f} s  {event:<14}{words}", flush=True)
    return finished_row(url, submission_id)


def submit(url: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Submits, and yields each event's name and data; heartbeats keep the connection alive and are no events."""
    request = urllib.request.Request(  # noqa: S310 - the URL is our own server's
        f"{url}/api/submissions/benchmark", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310 - as above
        for event, data in events(line.decode().rstrip("\n") for line in response):
            if event != HEARTBEAT:
                yield event, json.loads(data)


def events(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """An event stream's lines as names and data; enough for a server that ends its lines with LF."""
    event, data = "message", []
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif not line and data:
            yield event, "\n".join(data)
            event, data = "message", []


def finished_row(url: str, submission_id: str, timeout: float = 5.0) -> dict[str, Any]:
    """The row, once it is finished: it is written right after the terminal event is sent."""
    deadline = time.monotonic() + timeout
    while True:
        with urllib.request.urlopen(f"{url}/api/submissions/{submission_id}", timeout=_TIMEOUT) as response:  # noqa: S310
            row: dict[str, Any] = json.load(response)
        if row["finished_at"] is not None or time.monotonic() > deadline:
            return row
        time.sleep(0.05)
