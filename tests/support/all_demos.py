"""One stream of each demo, as a client reads it: from where, with what, until when, and what makes its events come.

Each is quick and has heartbeats between its events, and text that is not ASCII in its data. (What the benchmark's
runner reports is escaped by its own `json.dumps`; the log of its runs has the text as it is.)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import sse_fast
from sse_fast import testing
from sse_fast.demos import approvals, benchmarks
from sse_fast.demos.benchmarks.settings import Settings
from sse_fast.demos.workflow import Workflow

from .deadline import until
from .demo import JSON
from .prefill import Prefill, running_prefill
from .questions import Caller
from .reader import Reader
from .tap import Tap
from .workflow import enqueue

TEXT = "größe ✓ 🚀 東京 e\u0301 \u2028\u0085\u00a0"
#: A heartbeat of 15 s comes after 30 ms, one of 30 s after 60.
PACE = 500
_NUMBERS = count(1)


@dataclass(frozen=True)
class Reading:
    """What a client is to read.

    Attributes:
        port: where the server is.
        path: the stream.
        names: what its events may be called.
        last: text in the data of the event after which the client stops; None where the stream ends by itself, and
            tells an EventSource that comes back to stay away.
        post: the body of a request that is no GET.
        drive: what makes events come once the client reads.
    """

    port: int
    path: str
    names: list[str]
    last: str | None = None
    post: dict[str, Any] | None = None
    drive: Callable[[Tap], None] = field(default=lambda _tap: None)


class Demos:
    """All of them, running."""

    def __init__(self, server: sse_fast.Server, prefill: Prefill) -> None:
        self._server, self.prefill = server, prefill

    def reading(self, stream: str) -> Reading:
        """One of those below, by name."""
        reading: Reading = getattr(self, stream)()
        return reading

    def benchmarks(self) -> Reading:
        """A kernel that fails with a text, after a machine was waited for."""
        name = self._submit()
        names = ["IN_QUEUE", "PROVISIONING", "COMPILING", "BENCHMARKING", "ERROR", "end", "heartbeat", "gap", "message"]
        return Reading(self._server.port, f"/api/submissions/{name}/stream", names)

    def benchmarks_log(self) -> Reading:
        """What runners print, up to the last line of one of them."""
        name = self._submit()
        last = f"ValueError: {name}"
        return Reading(self._server.port, "/streams/benchmarks/log", ["log", "gap", "message"], last)

    def workflow(self) -> Reading:
        """A question, whose stream is asked for before there is one."""
        decision_set = enqueue(self._server, f"How does a reader resume? {TEXT}", row_delay=0.1, fail="verify")
        names = ["plan", "node-start", "node-end", "node-error", "end", "gap", "message"]
        return Reading(self._server.port, f"/api/streams/{decision_set}", names)

    def approvals(self) -> Reading:
        """A queue that has a question already, gets another, and is answered."""
        session = f"s{next(_NUMBERS)}"
        path = f"/api/clarify/stream?session_id={session}"
        with Caller(self._server.port) as caller:
            details: dict[str, Any] = {"detail": 'two\nlines: "quoted"', "choices": ["größe", "✓"]}
            first = caller.submit(f"Which? {TEXT}", session, **details)

        def drive(tap: Tap) -> None:
            with Caller(self._server.port) as later:
                beats(tap)
                second = later.submit(TEXT, session)
                beats(tap)
                assert later.resolve(first, TEXT, session) == 200
                beats(tap)
                assert later.resolve(second, TEXT, session) == 200

        names = ["initial", "clarify", "gap", "message"]
        return Reading(self._server.port, path, names, '"pending":null', drive=drive)

    def completion(self) -> Reading:
        """Tokens of what was learned from a prompt, after a prefill in which a chunk holds the interpreter."""
        body = {
            "model": "m",
            "prompt": TEXT * 6,  # What is learned from it is what is said.
            "stream": True,
            "max_tokens": 8,
            "return_progress": True,
            "faults": {"stall": "cold_prefix", "seconds": 0.3, "hold": True},
        }
        return Reading(self.prefill.port, "/v1/completions", ["message", "gap"], "[DONE]", body)

    def _submit(self) -> str:
        name = f"b{next(_NUMBERS)}"
        code = f"def kernel(n):\n    print({TEXT!r})\n    raise ValueError({name!r} + {TEXT!r})\n"
        body = json.dumps({"submission_id": name, "gpu": "H100", "code": code}).encode()
        with Reader(
            self._server.port, "/api/submissions/benchmark", method="POST", headers=JSON, body=body
        ) as submitted:
            submitted.open()  # The run goes on without this reader.
        return name


@contextlib.contextmanager
def running_demos(folder: Path) -> Iterator[Demos]:
    """The demos until the end of the block; `folder` keeps their rows."""
    settings = Settings(folder, queue=0.2, provisioning=0.2, poll=0.1, warm=0.0)
    with (
        testing.serve(heartbeat_pace=PACE, drain=0.5) as server,
        running_prefill(chunk=0.05, token=0.08, beat=0.05, idle=0.03) as prefill,
    ):
        benchmarks.install(server, settings, own_code=True)
        Workflow(server, folder / "workflow.sqlite", pace=0.08)
        approvals.install(server, folder)
        yield Demos(server, prefill)


def beats(tap: Tap) -> None:
    """Waits until the client has had two more heartbeats."""
    had = tap.body.count(b": heartbeat\n")
    until(lambda: tap.body.count(b": heartbeat\n") >= had + 2, what="heartbeats")
