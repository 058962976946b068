"""A program whose system calls are written down, and how many of them were made between two marks.

System calls are counted by strace, which starts the program: the engine makes some
without the C library, which a shim before it would not see, and a process may be
traced by its parent without privileges. A mark is a look for a file that does not
exist: `os.access("/counted/NAME", os.F_OK)` in the program.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from .deadline import until
from .process import Program

#: Becomes strace, which starts the program as its child.
_STRACE = """
import os, sys
log, source = sys.argv[1:]
options = ["-f", "-qq", "-s", "0", "-e", "signal=none", "-o", log]
os.execvp("strace", ["strace", *options, sys.executable, "-u", "-c", source])
"""


class Traced:
    """The program and its trace. Its first line of output must begin with its process id."""

    def __init__(self, program: Program, log: Path) -> None:
        first, _, self.said = program.line().partition(" ")
        self.program = program
        self.pid = int(first)
        self._log = log

    def calls(self, counts: Callable[[str], bool], begin: str, end: str) -> collections.Counter[str]:
        """The calls that threads whose id `counts` began between two marks."""
        counted: collections.Counter[str] = collections.Counter()
        inside = False
        for line in until(lambda: self._lines_to(end), what="the mark in the trace"):
            if f'"/counted/{begin}"' in line:
                inside = True
            found = re.match(r"(\d+) +(\w+)\(", line)
            # What is resumed was counted when it began.
            if inside and found is not None and counts(found[1]):
                counted[found[2]] += 1
        return counted

    def calls_of_marker(self, begin: str, end: str) -> collections.Counter[str]:
        """The calls between two marks of the thread that made the first of them."""
        until(lambda: self._lines_to(end), what="the mark in the trace")
        marker = next(line for line in self._lines_to(end) if f'"/counted/{begin}"' in line).split()[0]
        return self.calls(lambda thread: thread == marker, begin, end)

    def _lines_to(self, mark: str) -> list[str]:
        before, found, _ = self._log.read_text(errors="replace").partition(f'"/counted/{mark}"')
        return before.splitlines() if found else []

    def stopped(self) -> bool:
        """Whether every thread stands still."""
        stats = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] in "tT" for stat in stats)


@contextlib.contextmanager
def traced(source: str, folder: Path) -> Iterator[Traced]:
    """Runs the program under strace until the end of the block."""
    assert shutil.which("strace"), "strace is missing: `make counters` installs it"
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    assert tried.returncode == 0, (
        f"strace cannot trace even its own child here, and system calls cannot be counted without it"
        f" (a sandbox must allow ptrace): {tried.stderr}"
    )
    log = folder / "calls"
    with Program(_STRACE, log, source) as program:
        running = Traced(program, log)
        try:
            yield running
        finally:
            # Ending strace would only let the program go.
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
            program.wait()
