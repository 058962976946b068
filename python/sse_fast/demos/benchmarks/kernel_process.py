"""The process a submitted kernel is executed in: compiles it, times it, and says how that went.

Started by `timing.py` as ``python kernel_process.py FD``; the code and its size come as JSON on standard input. What
happened goes to the file descriptor FD, one JSON object a line: ``{"compiled": true}``, then ``{"samples": […],
"operations": n}`` or ``{"error": {…}}``. Must not know: statuses, streams, markers.

Invariant: whatever the kernel prints goes to this process's own standard output and error, which are nobody's events.
This file imports nothing of the package, so that it starts quickly and the kernel finds only what any program finds.
"""

from __future__ import annotations

import json
import linecache
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = "<kernel>"
_SAMPLES = 12  # Enough for a median and its spread.
_BUDGET = 3.0  # Seconds of sampling, so that a slow kernel is timed less often rather than for minutes.
_LONGEST = 2000  # Characters of a kernel's own words that are passed on.

_Kernel = dict[str, Any]  # The names that the kernel's module defines.


class KernelError(Exception):
    """The kernel cannot be compiled or run; `status` says which."""

    def __init__(self, status: str, message: str, **details: object) -> None:
        """Takes what is to be told."""
        super().__init__(message)
        self.report = {"status": status, "message": _presentable(message), **details}


def main() -> None:
    """Compiles, times, tells."""
    del sys.path[0]  # This file's folder: a kernel has no business with its neighbours.
    channel = int(sys.argv[1])
    os.set_inheritable(channel, False)
    submission = json.load(sys.stdin)
    try:
        kernel = compiled(submission["code"])
        tell(channel, {"compiled": True})
        tell(channel, measured(kernel, submission["size"]))
    except KernelError as error:
        tell(channel, {"error": error.report})


def tell(channel: int, what: dict[str, Any]) -> None:
    """Writes one line to the process that started this one."""
    rest = json.dumps(what).encode() + b"\n"
    while rest:
        rest = rest[os.write(channel, rest) :]


def compiled(code: str) -> _Kernel:
    """The kernel's module, as its names and values.

    Raises:
        KernelError: FAILED, when it does not compile or defines no ``kernel``; ERROR, when it raises.
    """
    linecache.cache[_FILE] = (len(code), None, code.splitlines(keepends=True), _FILE)  # Tracebacks show its lines.
    try:
        executable = compile(code, _FILE, "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = "" if line is None else f"line {line}: "
        message = f"The kernel does not compile: {where}{getattr(error, 'msg', error)}"
        text = _presentable((getattr(error, "text", None) or "").rstrip())
        raise KernelError("FAILED", message, line=line, text=text) from error
    names: _Kernel = {"__name__": "kernel"}
    called(lambda: exec(executable, names))  # noqa: S102 - executing submissions is what this process is for
    if not callable(names.get("kernel")):
        raise KernelError("FAILED", "The kernel does not define kernel(n)")
    return names


def measured(kernel: _Kernel, size: int) -> dict[str, Any]:
    """Run times of ``kernel(size)`` in milliseconds, and how many operations one run is, where the kernel says so."""
    samples = called(lambda: timed(lambda: kernel["kernel"](size)))
    operations = called(lambda: kernel["flops"](size)) if callable(kernel.get("flops")) else None
    return {"samples": samples, "operations": operations if isinstance(operations, (int, float)) else None}


def timed(work: Callable[[], object]) -> list[float]:
    """Run times of `work` in milliseconds, after one run that is not counted."""
    work()
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < _SAMPLES and (not samples or time.perf_counter() - began < _BUDGET):
        start = time.perf_counter()
        work()
        samples.append(round((time.perf_counter() - start) * 1000, 4))
        print(f"run {len(samples)}: {samples[-1]:.4g} ms")
    return samples


def called(work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the kernel returns
    """What `work` returns; the kernel's exception becomes ERROR, with its own line."""
    try:
        return work()
    except Exception as error:
        traceback.print_exc()
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
        where = f" in line {lines[-1]}" if lines else ""
        message = f"The kernel raised {type(error).__name__}{where}: {error}"
        raise KernelError("ERROR", message, line=lines[-1] if lines else None) from error


def _presentable(text: str) -> str:
    """A kernel's own words, short, and such that every encoding and database takes them."""
    return text[:_LONGEST].encode("utf-8", "replace").decode()


if __name__ == "__main__":
    main()
