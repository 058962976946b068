"""A submitted kernel, timed in a process of its own: nothing it prints can be taken for an event.

Owns: that process, its pipes and its time limit; what the process tells is checked here before anyone believes it. Must
not know: statuses' order, streams. Changes together with `kernel_process.py`, the other end of the pipes.

Invariants: the process does not have the runner's standard output or error, but one pipe for both, whose lines become
log records; it has no marker in its environment. It stays in the runner's process group, so that whatever ends the
runner ends it too. What this cannot prevent, and needs a container to prevent: the kernel has this user's rights.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger("kernel")
_PROGRAM = Path(__file__).with_name("kernel_process.py")
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_MAX_LINE = 8192  # Bytes of a line that one log record shows; the rest goes into further records.
_MAX_TOLD = 1 << 20  # Bytes the process may tell: far more than a few samples need.
_LOOK = 0.1  # Seconds between two looks whether the process has ended without closing its pipe.
_LAST_WORDS = 2.0  # Seconds that what it printed last may take to arrive.
_STATUSES = frozenset({"FAILED", "ERROR"})  # What a kernel may say of itself.


class KernelError(Exception):
    """The kernel came to no result; `status` says how, the text why."""

    def __init__(self, status: str, message: str, **details: object) -> None:
        """Takes what is to be reported."""
        super().__init__(message)
        self.status = status
        self.details = details


class KernelVanishedError(Exception):
    """The kernel's process succeeded without a result, or a signal ended it; `returncode` as `subprocess` has it."""

    def __init__(self, returncode: int) -> None:
        """Takes 0, or the signal as a negative number."""
        super().__init__(f"the kernel's process ended with {returncode}, without a result")
        self.returncode = returncode


def time_kernel(
    code: str, size: int, limit: float, on_compiled: Callable[[], None]
) -> tuple[list[float], float | None]:
    """Executes a kernel; returns its run times in milliseconds, and how many operations one run is.

    Args:
        code: its source.
        size: what it is called with.
        limit: seconds it may take altogether; 0 is no limit.
        on_compiled: called once, between compiling and timing.

    Raises:
        KernelError: it is wrong, raised, or took too long.
        KernelVanishedError: its process succeeded without a result, or a signal ended it.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as channel:
        process = _started(writing)
        log = threading.Thread(target=_log_output, args=(process.stdout,), daemon=True)
        log.start()
        try:
            _give(process, {"code": code, "size": size})
            return _outcome(_told(channel.fileno(), process, limit), on_compiled, process)
        finally:
            process.kill()
            process.wait()
            log.join(_LAST_WORDS)


def _started(channel: int) -> subprocess.Popen[bytes]:
    """The process, with `channel` as its way to tell; the runner's own end of it is closed."""
    environment = {name: value for name, value in os.environ.items() if name != "SSE_FAST_MARKER"}
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, on this package's own file
            [sys.executable, "-u", str(_PROGRAM), str(channel)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(channel,),
            env=environment,
        )
    finally:
        os.close(channel)


def _give(process: subprocess.Popen[bytes], submission: dict[str, Any]) -> None:
    assert process.stdin is not None  # noqa: S101 - for the type checker: it was asked for
    try:
        with process.stdin as given:
            given.write(json.dumps(submission).encode())
    except BrokenPipeError:
        _LOG.warning("the process ended before it had read its kernel")


def _outcome(
    told: Iterator[dict[str, Any]], on_compiled: Callable[[], None], process: subprocess.Popen[bytes]
) -> tuple[list[float], float | None]:
    """The result in what was told, which is believed only in its proper order."""
    compiled = False
    for report in told:
        if "error" in report:
            raise _refusal(report["error"])
        if not compiled and report.get("compiled") is True:
            compiled = True
            on_compiled()
        elif compiled and "samples" in report:
            return _numbers(report)
        else:
            raise KernelError("ERROR", "The kernel's process told what makes no sense")
    returncode = process.wait()
    if returncode > 0:
        raise KernelError("ERROR", f"The kernel ended its process with exit code {returncode} before it had a result")
    raise KernelVanishedError(returncode)


def _told(channel: int, process: subprocess.Popen[bytes], limit: float) -> Iterator[dict[str, Any]]:
    """The JSON objects the process tells, until it has ended or its time is over."""
    deadline = time.monotonic() + limit if limit else math.inf
    channels, pending = [channel], b""
    while time.monotonic() <= deadline:
        ended = process.poll() is not None  # Asked first: what it told before it ended is in the pipe by now.
        if not select.select(channels, [], [], 0 if ended else _LOOK)[0]:
            if ended:  # A child of its own may still hold the pipe.
                return
            continue
        chunk = os.read(channel, 65536)
        if not chunk:
            channels = []  # It can tell nothing any more; how it ends is still of interest.
        *lines, pending = (pending + chunk).split(b"\n")
        if len(pending) > _MAX_TOLD:
            raise KernelError("ERROR", "The kernel's process told too much")
        yield from map(_parsed, lines)
    raise KernelError("TIMEOUT", f"The kernel took longer than {limit:g} s")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        report = None
    return report if isinstance(report, dict) else {}


def _refusal(error: object) -> KernelError:
    """What the process says went wrong."""
    if not isinstance(error, dict) or error.get("status") not in _STATUSES:
        return KernelError("ERROR", "The kernel's process told what makes no sense")
    line = error.get("line")
    details: dict[str, object] = {"line": line if isinstance(line, int) else None}
    if isinstance(error.get("text"), str):
        details["text"] = error["text"]
    return KernelError(error["status"], str(error.get("message")), **details)


def _numbers(report: dict[str, Any]) -> tuple[list[float], float | None]:
    samples, operations = report["samples"], report.get("operations")
    if not isinstance(samples, list) or not samples or not all(map(_is_amount, samples)):
        raise KernelError("ERROR", "The kernel's process told no run times")
    return samples, operations if _is_amount(operations) else None


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _log_output(output: IO[bytes]) -> None:
    """Logs what the kernel prints, line by line; a line is whatever any reader might take for one."""
    pending = b""
    with output:
        while chunk := os.read(output.fileno(), 65536):
            *lines, pending = _LINE_ENDS.split(pending + chunk)
            if len(pending) > _MAX_LINE:
                lines, pending = [*lines, pending], b""
            for line in lines:
                _log_line(line)
    _log_line(pending)


def _log_line(line: bytes) -> None:
    for start in range(0, len(line), _MAX_LINE):
        _LOG.info("%s", line[start : start + _MAX_LINE].decode(errors="replace"))


def die_as(returncode: int) -> int:
    """Ends this process by the signal that ended another, as a shell's `exec` would show it; else its exit code."""
    if returncode >= 0:
        return returncode
    with contextlib.suppress(OSError):  # SIGKILL cannot be handled, nor given back.
        signal.signal(-returncode, signal.SIG_DFL)
    os.kill(os.getpid(), -returncode)
    return 128 - returncode  # A signal that does not end a process.
