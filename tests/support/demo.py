"""The demo server in a process of its own, as `sse-fast demo` starts it, its simulated world sped up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .deadline import until
from .process import Program
from .reader import Reader, fetch

#: A cold machine takes a little over a second; heartbeats are frequent, so that every test sees some.
FAST = {
    "SSE_FAST_DEMO_QUEUE": "0.4",
    "SSE_FAST_DEMO_PROVISIONING": "0.8",
    "SSE_FAST_DEMO_POLL": "0.1",
    "SSE_FAST_DEMO_HEARTBEAT": "0.15",
}
START = "import runpy; runpy.run_module('sse_fast', run_name='__main__', alter_sys=True)"
JSON = [("Content-Type", "application/json")]


class Demo:
    """A running demo: where it listens and what it keeps."""

    def __init__(self, program: Program, data: Path) -> None:
        self.program = program
        self.data = data
        self.url = program.line_with("sse_fast demos:").split()[0].rstrip("/")
        self.port = int(self.url.rpartition(":")[2])

    def submit(self, **body: Any) -> Reader:
        """Posts a submission; the response is its stream."""
        whole = {"gpu": "MI300X", "kernel": "saxpy", "size": 200, **body}
        whole = {name: value for name, value in whole.items() if value is not None}
        return Reader(
            self.port, "/api/submissions/benchmark", method="POST", body=json.dumps(whole).encode(), headers=JSON
        )

    def row(self, submission_id: str) -> dict[str, Any]:
        head, body = fetch(self.port, f"/api/submissions/{submission_id}")
        assert head.status == 200, body
        row: dict[str, Any] = json.loads(body)
        return row

    def finished_row(self, submission_id: str) -> dict[str, Any]:
        return until(lambda: (row := self.row(submission_id))["finished_at"] and row, what="the finished row")


@contextmanager
def running_demo(
    data: Path, env: Mapping[str, str] | None = None, port: int = 0, words: Sequence[object] = (), **options: Any
) -> Iterator[Demo]:
    """A demo until the end of the block; `env` changes its simulated world, `words` are more of its arguments."""
    given = ("demo", "--port", port, "--data", data, *words)
    with Program(START, *given, env={**FAST, **(env or {})}, **options) as program:
        yield Demo(program, data)
