"""A locust worker: one process with one user, which holds a share of the clients.

    python -m loadtest.reader JSON      started by the harness

Owns: the conversation with the harness over locust's own messages, and the way of every figure: a metric is fired as a
locust request, and the recorder that listens to requests keeps it second by second. Must not know: how events are
published, what the limits are.

The conversation: users start -> "joined"; "begin" -> the plan runs; "finish" -> "account".
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import gevent
import locust.runners
from gevent.event import AsyncResult
from locust import User, task
from locust.env import Environment

from . import plan, scenario
from .crowd import Crowd
from .histogram import Series
from .probe import Probes

if TYPE_CHECKING:
    from locust.runners import WorkerRunner

SETTLE = 60.0  # Seconds after publishing in which everyone must have everything.
_PROGRESS = 1.0  # Seconds between two reports to the harness.
_LOOK = 0.1  # Seconds between two looks at whether everyone is there: a look walks over all members.


class Recorder:
    """Keeps what locust hears of, second by second of the run."""

    def __init__(self, origin: float) -> None:
        """Seconds count from `origin`, a reading of the monotonic clock."""
        self.series = Series()
        self.faults: dict[str, int] = {}
        self._origin = origin

    def request(
        self, request_type: str, name: str, response_time: float, exception: Exception | None, **_: Any
    ) -> None:
        """Listens to locust's request event."""
        if exception is None:
            self.series.record(f"{request_type} {name}", int(time.monotonic() - self._origin), response_time)
        else:
            key = f"{request_type} {name}: {exception}"
            self.faults[key] = self.faults.get(key, 0) + 1


class Readers(User):
    """The one user of this process: a crowd, or the probes."""

    job: dict[str, Any]
    recorder: Recorder
    begin: AsyncResult
    finish: AsyncResult

    @task
    def hold(self) -> None:
        """Plays the share's parts from the first connection to the account."""
        job, asked = self.job, scenario.from_dict(self.job["scenario"])
        share, mass = plan.Share(**job["share"]), job["mass"]
        parts, target = plan.parts(asked, share, mass=mass), (job["host"], job["port"])
        kind = Crowd if mass else Probes
        readers = kind(asked, parts, target, job["network"], self._fire)
        self.environment.events.report_to_master.add_listener(lambda data, **_: data.update(counts=readers.counts))
        if isinstance(readers, Crowd):
            readers.join(asked.clients.ramp / asked.clients.processes)
        else:
            readers.join(asked.clients.count / asked.clients.ramp)
        self._step_until(readers, lambda: readers.joined)
        self._tell("joined", {})
        self._step_until(readers, self.begin.ready)
        readers.begin(self.begin.get())
        self._step_until(readers, self.finish.ready)
        if isinstance(readers, Crowd):
            readers.wake_all()
        published = self.finish.get()
        deadline = time.monotonic() + SETTLE
        self._step_until(readers, lambda: readers.finished(published) or time.monotonic() > deadline)
        self._tell("account", self._account(readers, published))
        gevent.sleep(SETTLE)  # The harness ends this process.

    def _step_until(self, readers: Crowd | Probes, condition: Any) -> None:
        looked = 0.0
        while True:
            if isinstance(readers, Crowd):
                readers.turn()
            else:
                gevent.sleep(_LOOK / 10)
            if time.monotonic() - looked >= _LOOK:
                if condition():
                    return
                looked = time.monotonic()

    def _account(self, readers: Crowd | Probes, published: int) -> dict[str, Any]:
        totals = readers.totals(published)
        for name in ("missing", "repeats", "unknown", "incomplete"):
            if count := getattr(totals, name):
                self._fire(name, 0.0, f"{count} in all")
        return {
            "mass": isinstance(readers, Crowd),
            "totals": totals.to_dict(),
            "counts": readers.counts,
            "without_end": readers.without_end,
            "rounds": list(readers.rounds.items()) if isinstance(readers, Crowd) else [],
            "series": self.recorder.series.to_dict(),
            "faults": self.recorder.faults,
            "cpu_warning": self.environment.runner.worker_cpu_warning_emitted,
        }

    def _fire(self, name: str, milliseconds: float, fault: str | None = None) -> None:
        self.environment.events.request.fire(
            request_type="crowd" if self.job["mass"] else "probe",
            name=name,
            response_time=milliseconds,
            response_length=0,
            exception=RuntimeError(fault) if fault else None,
            context={},
        )

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        # As text: the transport's own encoding refuses the integer keys and large numbers that accounts have.
        self.environment.runner.send_message(kind, json.dumps({"index": self.job["index"], **data}))


def main() -> None:
    """Connects to the harness and does what it says until it ends."""
    job = json.loads(sys.argv[1])
    locust.runners.WORKER_REPORT_INTERVAL = _PROGRESS
    Readers.job, Readers.recorder = job, Recorder(job["origin"])
    Readers.begin, Readers.finish = AsyncResult(), AsyncResult()
    environment = Environment(user_classes=[Readers], catch_exceptions=True)
    environment.events.request.add_listener(Readers.recorder.request)
    runner: WorkerRunner = environment.create_worker_runner("127.0.0.1", job["harness"])
    runner.register_message("begin", lambda msg, **_: Readers.begin.set(msg.data))
    runner.register_message("finish", lambda msg, **_: Readers.finish.set(msg.data))

    def failed(exception: Exception, **_: Any) -> None:
        runner.send_message("failed", json.dumps({"index": job["index"], "error": repr(exception)}))

    environment.events.user_error.add_listener(failed)
    runner.greenlet.join()


if __name__ == "__main__":
    main()
