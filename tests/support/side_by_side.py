"""Programs that end by themselves, run a few at a time while tests wait for their own.

A test asks for the outcome of its case; the cases of all tests that are going to run start in
that order, so that a file of a hundred short programs takes as long as the machine needs for
them, and not as long as they take one after another.
"""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Case = TypeVar("Case", bound=Hashable)
Result = TypeVar("Result")

#: More than there are cores: most of these programs wait for something most of the time.
AT_A_TIME = 2 * (os.cpu_count() or 1)


@dataclass(frozen=True)
class Ended:
    """How a program ended. `code` is negative for a signal, as Popen's is."""

    code: int
    lines: list[str]
    stderr: str


def ended(source: str, *arguments: object, deadline: float, options: Iterable[str] = ("-u",)) -> Ended:
    """Runs a Python program to its end, which must come within `deadline` seconds."""
    command = [sys.executable, *options, "-c", textwrap.dedent(source), *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"no end within {deadline} s; it wrote {out[-2000:]!r} and {err[-3000:]!r}") from None
    return Ended(process.returncode, out.splitlines(), err)


class SideBySide(Generic[Case, Result]):
    """Runs `work` for each of the cases, a few at a time, in their order."""

    def __init__(self, work: Callable[[Case], Result], cases: Iterable[Case]) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(AT_A_TIME)
        self._futures = {case: self._pool.submit(work, case) for case in cases}

    def __enter__(self) -> SideBySide[Case, Result]:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def outcome(self, case: Case) -> Result:
        """What `work` returned for the case, or its exception."""
        return self._futures[case].result()
