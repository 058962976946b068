"""The routes: submit a kernel, follow it, list what ran.

Owns: what a request does, and what an event means for a row. Must not know: how long anything takes; no line here waits
for the runner, and none sends a heartbeat: the engine does both, whatever Python is doing.

    POST /api/submissions/benchmark              answered by the run's own event stream
    GET  /api/submissions/{submission_id}/stream the same stream, for second readers and for resuming
    GET  /api/submissions/{submission_id}        the row, its code and its timeline
    GET  /api/submissions                        the newest rows
    GET  /streams/benchmarks/log                 what the runners print
    GET  /streams/benchmarks/machines            which machines are warm; the server asks, pages are told of changes
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import sse_fast

from . import kernels
from .operator_log import OperatorLog
from .provisioner import Provisioner
from .store import DuplicateError, Row, Store
from .submission import GPUS, Submission

if TYPE_CHECKING:
    from .settings import Settings

STATUSES = ("IN_QUEUE", "PROVISIONING", "COMPILING", "BENCHMARKING", "BENCHMARKED", "FAILED", "ERROR", "TIMEOUT")
LISTED = 50  # Rows in the list: as many as a page shows without much scrolling.


def install(server: sse_fast.Server, settings: Settings, *, own_code: bool) -> None:
    """Adds the benchmark runner to `server`.

    Args:
        server: where its routes go.
        settings: its settings.
        own_code: whether submitters may write their own kernels, which are executed on this computer.
    """
    Benchmarks(server, settings, own_code=own_code)


class Benchmarks:
    """The application: a server, a store and a runner process for each submission."""

    def __init__(self, server: sse_fast.Server, settings: Settings, *, own_code: bool) -> None:
        """See `install`."""
        self._server = server
        self._settings = settings
        self._own_code = own_code
        self._store = Store(settings.data / "submissions.sqlite")
        self._finish_interrupted()
        self._add_operator_streams()
        self._add_routes()

    def _add_operator_streams(self) -> None:
        """What the runners print, and which machines are warm: asked here once, however many pages want to know."""
        OperatorLog(self._server.stream("benchmarks/log", start="all")).attach()
        self._server.watch(
            Provisioner(self._settings).warm_machines,
            stream=self._server.stream("benchmarks/machines", start="last"),
            event="machines",
            every=self._settings.poll,
            until=lambda _machines: False,
        )

    def _add_routes(self) -> None:
        server = self._server
        server.get("/api/kernels")(self.catalogue)
        server.post("/api/submissions/benchmark")(self.submit)
        server.get("/api/submissions")(self.newest)
        server.get("/api/submissions/{submission_id}")(self.find)
        server.route("/api/submissions/{submission_id}/stream", "submissions/{submission_id}", **self._stream_options())

    def submit(self, request: sse_fast.Request) -> sse_fast.Stream:
        """Starts a run; the response is its stream, from the first event."""
        submission = Submission.parse(request.json(), own_code=self._own_code)
        try:
            self._store.add(
                {
                    "id": submission.id,
                    "gpu": submission.gpu,
                    "kernel": submission.kernel,
                    "size": submission.size,
                    "code": submission.code,
                }
            )
        except DuplicateError as error:
            detail = f"submission_id: {submission.id} was submitted before; its stream can be read again"
            raise sse_fast.HttpError(409, detail, error="duplicate") from error
        try:
            return self._run(submission.id).stream
        except sse_fast.SseFastError as error:
            self._store.finish(submission.id, "FAILED", f"The runner could not be started: {error}", None)
            raise

    def newest(self, _request: sse_fast.Request) -> list[Row]:
        """The newest rows."""
        return self._store.newest(LISTED)

    def find(self, request: sse_fast.Request) -> Row:
        """One row, with its code and its timeline."""
        row = self._store.find(request.params["submission_id"])
        if row is None:
            raise sse_fast.HttpError(404, f"there is no submission {request.params['submission_id']!r}")
        return row

    def catalogue(self, _request: sse_fast.Request) -> dict[str, Any]:
        """What the page offers: GPUs, built-in kernels, whether own code is allowed."""
        built_in = [
            {"name": name, "title": kernel.title, "size": kernel.size, "code": kernels.source(name)}
            for name, kernel in kernels.BUILT_IN.items()
        ]
        return {"gpus": GPUS, "kernels": built_in, "own_code": self._own_code}

    def _run(self, submission_id: str) -> sse_fast.Run:
        return self._server.run(
            [sys.executable, "-u", "-m", "sse_fast.demos.benchmarks.runner", submission_id],
            stream=f"submissions/{submission_id}",
            env={**os.environ, **self._settings.environment()},
            timeout=self._settings.run_timeout or None,
            on_event=lambda event: self._record(submission_id, event),
            **self._stream_options(),
        )

    def _stream_options(self) -> dict[str, Any]:
        """Every reader gets the whole run; one that lost it comes back after a second."""
        return {"start": "all", "retry": 1.0, "heartbeat": self._settings.heartbeat, "heartbeat_event": "heartbeat"}

    def _record(self, submission_id: str, event: sse_fast.Event) -> None:
        """Brings the row up to date with an event. Called in the order of events, on the run's own thread."""
        if event.event == "end":
            self._store.finish(submission_id, *verdict(event.json()))
        elif event.event in STATUSES:
            self._store.update(submission_id, event.id, event.event, event.json())

    def _finish_interrupted(self) -> None:
        """Runs that an earlier server left unfinished: their rows and their streams say so.

        A server with a store has their streams as they were, ended by the engine. Without one their statuses are
        published again under their old ids. Either way a page that was following resumes after the last one it saw and
        is told only what is new.
        """
        for submission_id in self._store.abandoned():
            stream = self._server.stream(f"submissions/{submission_id}", **self._stream_options())
            if stream.ended:
                known = {event_id for event_id, _status, _data in self._store.statuses(submission_id)}
                for event in stream.events(start="all"):
                    if event.id not in known:
                        self._record(submission_id, event)
                continue
            message = "The server restarted; this run was interrupted"
            self._store.finish(submission_id, "INTERRUPTED", message, None)
            for event_id, status, data in self._store.statuses(submission_id):
                stream.publish(data, event=status, id=event_id)
            stream.publish({"status": "INTERRUPTED", "message": message}, event="INTERRUPTED")
            stream.end({"exit_code": None, "signal": None, "status": "INTERRUPTED", "result": None})


def verdict(end: dict[str, Any]) -> tuple[str, str | None, int | None]:
    """A row's last status, message and exit code, from a run's terminal event. No message: the last status said it.

    >>> verdict({"exit_code": 0, "signal": None, "status": "BENCHMARKING", "result": {}})[0]
    'NO_OUTPUT'
    """
    exit_code, result = end["exit_code"], end["result"]
    if end.get("shutdown") or end.get("error"):
        why = f"This run was cut off: {end['error']}" if end.get("error") else None
        return "INTERRUPTED", why or "The server was shut down; this run was interrupted", exit_code
    if end.get("timeout"):
        return "FAILED", f"The run took longer than {end['timeout_s']:g} s and was ended", exit_code
    if exit_code == 0 and isinstance(result, dict) and result.get("runtime_ms") is not None:
        return "ACCEPTED", None, exit_code
    if exit_code == 0:
        return "NO_OUTPUT", "The runner succeeded but reported no result: the runtime is unknown", exit_code
    if end["status"] in {"FAILED", "ERROR", "TIMEOUT"}:
        return "FAILED", None, exit_code
    how = f"by signal {end['signal']}" if end["signal"] is not None else f"with exit code {exit_code}"
    return "FAILED", f"The runner ended {how} before it had a result", exit_code
