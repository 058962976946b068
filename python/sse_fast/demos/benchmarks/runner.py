"""The child process: waits for a machine, has a submission's kernel timed, reports each change of status.

Run as ``python -u -m sse_fast.demos.benchmarks.runner SUBMISSION_ID``; its settings come from the environment. It
prints what it likes: only marked lines become events, all else is the operator's log. `send_event` shows how little a
program needs for that, in any language; one in Python may call `sse_fast.runner.emit` instead.

Must not know: the server. Invariants: a status is reported when it changes and not otherwise; a number that is
reported was measured; no line of a log begins with a marker, whatever the log holds; heartbeats are not its business,
so it may be blocked for as long as it likes.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time

from .provisioner import Provisioner
from .settings import Settings
from .store import Row, Store
from .timing import KernelError, KernelVanishedError, die_as, time_kernel

_LOG = logging.getLogger("benchmark-runner")


class OneLineStart(logging.Formatter):
    """Indents every line of a record but its first: whatever a text holds, none of its lines begins with a marker."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return "\n    ".join(super().format(record).splitlines())


def main() -> int:
    """Runs the submission named on the command line; returns the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineStart("%(name)s - %(levelname)s - %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    settings = Settings.from_environment()
    submission = Store(settings.data / "submissions.sqlite").find(sys.argv[1])
    if submission is None:
        _LOG.error("there is no submission %r", sys.argv[1])
        return 2
    provisioner = Provisioner(settings)
    try:
        wait_for_machine(provisioner, submission, settings.poll)
        benchmark(submission, settings.kernel_timeout)
    except KernelError as error:
        _LOG.warning("%s: %s", error.status, error)
        report(error.status, str(error), **error.details)
        return 1
    except KernelVanishedError as error:
        _LOG.warning("%s", error)
        returncode = error.returncode
    else:
        returncode = 0
    finally:
        provisioner.release(submission["id"])
    return die_as(returncode)


def report(status: str, message: str, **details: object) -> None:
    """Publishes a status: logged for the operator, marked for the stream."""
    data = {"status": status, "message": message, "at": round(time.time(), 3), **details}
    _LOG.info("Sending SSE event: %s - %s", status, message)
    send_event(status, data)


def send_event(event: str, data: dict[str, object]) -> None:
    """Prints an event: marked lines, an empty one at the end. JSON has no line ends, so `data` is one line."""
    print(f"SSE_EVENT:event: {event}\nSSE_EVENT:data: {json.dumps(data)}\nSSE_EVENT:", flush=True)


def wait_for_machine(provisioner: Provisioner, submission: Row, poll: float) -> None:
    """Asks the provisioner until a machine is ready; reports only what has changed since the last answer.

    A machine that was provisioned between two answers was provisioned all the same, and that is reported.
    """
    gpu = submission["gpu"]
    warm = provisioner.request(submission["id"], gpu)
    messages = {
        "IN_QUEUE": f"A warm {gpu} is ready" if warm else f"Waiting for a machine with {gpu}",
        "PROVISIONING": f"Provisioning a machine with {gpu}; this takes a while",
    }
    report("IN_QUEUE", messages["IN_QUEUE"])
    reported = "IN_QUEUE"
    while (status := provisioner.status(submission["id"])) != "RUNNING":
        if status != reported:
            report(status, messages[status])
            reported = status
        _LOG.info("provisioner says %s; asking again in %g s", status, poll)
        time.sleep(poll)
    if not warm and reported == "IN_QUEUE":
        report("PROVISIONING", messages["PROVISIONING"])
    print(f"machine ready ({'warm' if warm else 'cold'})")  # Ordinary output: a log line like any other.


def benchmark(submission: Row, limit: float) -> None:
    """Has the kernel compiled and timed, and reports the median; reports nothing that was not measured."""
    code, size = submission["code"], submission["size"]
    report("COMPILING", f"Compiling {submission['kernel'] or 'your kernel'} ({len(code.splitlines())} lines)")
    samples, operations = time_kernel(
        code, size, limit, on_compiled=lambda: report("BENCHMARKING", f"Timing kernel({size})")
    )
    runtime_ms = round(statistics.median(samples), 4)
    gflops = round(operations / (runtime_ms * 1e6), 4) if operations and runtime_ms else None
    message = f"{runtime_ms:.4g} ms, the median of {len(samples)} runs"
    report("BENCHMARKED", message, runtime_ms=runtime_ms, gflops=gflops, samples=samples, size=size)


if __name__ == "__main__":
    try:
        code = main()
    except BrokenPipeError:  # The server is gone, and with it everyone who could want the result.
        os._exit(1)
    sys.exit(code)
