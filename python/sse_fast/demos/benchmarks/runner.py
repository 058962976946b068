"""The child process: waits for a machine, compiles a submission's kernel, times it, reports each change of status.

Run as ``python -u -m sse_fast.demos.benchmarks.runner SUBMISSION_ID``; its settings come from the environment. It
prints what it likes: only what `emit` prints (marked lines) becomes events, all else is the operator's log.

Must not know: the server. Invariants: a status is reported when it changes and not otherwise; a number that is
reported was measured; heartbeats are not its business, so it may be blocked for as long as it likes.

Submitted code is executed in this process, with this user's rights: the server accepts it only on a loopback address,
from the person who could run it anyway.
"""

from __future__ import annotations

import contextlib
import linecache
import logging
import os
import signal
import statistics
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from sse_fast.runner import emit

from .provisioner import Provisioner
from .settings import Settings
from .store import Row, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger("benchmark-runner")
_FILE = "<kernel>"
_SAMPLES = 12  # Enough for a median and its spread.
_BUDGET = 3.0  # Seconds of sampling, so that a slow kernel is timed less often rather than for minutes.


class KernelError(Exception):
    """The kernel cannot be compiled or run; `status` says which, the text why."""

    def __init__(self, status: str, message: str, **details: object) -> None:
        """Takes what is to be reported."""
        super().__init__(message)
        self.status = status
        self.details = details


def main() -> int:
    """Runs the submission named on the command line; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s - %(levelname)s - %(message)s")
    settings = Settings.from_environment()
    submission = Store(settings.data / "submissions.sqlite").find(sys.argv[1])
    if submission is None:
        _LOG.error("there is no submission %r", sys.argv[1])
        return 2
    provisioner = Provisioner(settings)
    try:
        wait_for_machine(provisioner, submission, settings.poll)
        with time_limit(settings.kernel_timeout):
            benchmark(compiled(submission), submission["size"])
    except KernelError as error:
        _LOG.warning("%s: %s", error.status, error)
        report(error.status, str(error), **error.details)
        return 1
    finally:
        provisioner.release(submission["id"])
    return 0


def report(status: str, message: str, **details: object) -> None:
    """Publishes a status: logged for the operator, marked for the stream."""
    _LOG.info("Sending SSE event: %s - %s", status, message)
    emit(status, {"status": status, "message": message, "at": round(time.time(), 3), **details})


def wait_for_machine(provisioner: Provisioner, submission: Row, poll: float) -> None:
    """Asks the provisioner until a machine is ready; reports only what has changed since the last answer."""
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
    print(f"machine ready ({'warm' if warm else 'cold'})")  # Ordinary output: a log line like any other.


def compiled(submission: Row) -> dict[str, Any]:
    """The kernel's module, as its names and values.

    Raises:
        KernelError: FAILED, when it does not compile or defines no ``kernel``; ERROR, when it raises.
    """
    code = submission["code"]
    report("COMPILING", f"Compiling {submission['kernel'] or 'your kernel'} ({len(code.splitlines())} lines)")
    linecache.cache[_FILE] = (len(code), None, code.splitlines(keepends=True), _FILE)  # Tracebacks show its lines.
    try:
        executable = compile(code, _FILE, "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = "" if line is None else f"line {line}: "
        message = f"The kernel does not compile: {where}{getattr(error, 'msg', error)}"
        raise KernelError("FAILED", message, line=line, text=(getattr(error, "text", None) or "").rstrip()) from error
    names: dict[str, Any] = {"__name__": "kernel"}
    with errors_reported():
        exec(executable, names)  # noqa: S102 - executing submissions is what a benchmark runner is for; see the header
    if not callable(names.get("kernel")):
        raise KernelError("FAILED", "The kernel does not define kernel(n)")
    return names


def benchmark(names: dict[str, Any], size: int) -> None:
    """Times ``kernel(size)`` and reports the median; reports nothing it did not measure."""
    report("BENCHMARKING", f"Timing kernel({size})")
    with errors_reported():
        samples = timed(lambda: names["kernel"](size))
        operations = names["flops"](size) if callable(names.get("flops")) else None
    runtime_ms = round(statistics.median(samples), 4)
    gflops = round(operations / (runtime_ms * 1e6), 4) if operations and runtime_ms else None
    message = f"{runtime_ms:.4g} ms, the median of {len(samples)} runs"
    report("BENCHMARKED", message, runtime_ms=runtime_ms, gflops=gflops, samples=samples, size=size)


def timed(work: Callable[[], object]) -> list[float]:
    """Run times of `work` in milliseconds, after one run that is not counted."""
    work()
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < _SAMPLES and (not samples or time.perf_counter() - began < _BUDGET):
        start = time.perf_counter()
        work()
        samples.append(round((time.perf_counter() - start) * 1000, 4))
        _LOG.info("run %d: %.4g ms", len(samples), samples[-1])
    return samples


@contextlib.contextmanager
def errors_reported() -> Iterator[None]:
    """The kernel's exceptions become ERROR, with its own line; what it prints goes to the log, on lines of its own."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KernelError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
        where = f" in line {lines[-1]}" if lines else ""
        _LOG.exception("the kernel failed")
        message = f"The kernel raised {type(error).__name__}{where}: {error}"
        raise KernelError("ERROR", message, line=lines[-1] if lines else None) from error


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupts what takes longer, where the system can; the server ends the whole run after its own limit."""

    def expired(_signal: int, _frame: object) -> None:
        raise KernelError("TIMEOUT", f"The kernel took longer than {seconds:g} s")

    if not hasattr(signal, "setitimer") or not seconds:
        yield
        return
    signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    try:
        code = main()
    except BrokenPipeError:  # The server is gone, and with it everyone who could want the result.
        os._exit(1)
    sys.exit(code)
