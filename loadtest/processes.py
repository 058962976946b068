"""Child processes of a run, and what /proc says about them.

Owns: starting and ending by process id, a line-based conversation with deadlines, CPU time, memory and open files of a
process tree. Must not know: what the children do. `compare` uses it as well as the harness.

Figures are kept by process, so that a child that ends takes nothing out of a sum.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
_GRACE = 10.0  # Seconds from SIGTERM to SIGKILL.


class ChildError(RuntimeError):
    """A child that ended, or did not answer, when it should have."""


class Child:
    """A process of ours: `python -m loadtest.<module> JSON`, or any command."""

    def __init__(
        self, command: Sequence[str | Path], *, log: IO[bytes] | int = subprocess.DEVNULL, **options: Any
    ) -> None:
        """Starts it in a session of its own, so that a terminal's Ctrl-C reaches the harness alone."""
        options.setdefault("cwd", ROOT)
        options.setdefault("stdin", subprocess.PIPE)
        options.setdefault("stdout", subprocess.PIPE)
        self.name = " ".join(Path(str(word)).name for word in command[:3])
        self.process = subprocess.Popen([str(word) for word in command], stderr=log, start_new_session=True, **options)

    @classmethod
    def module(cls, name: str, job: dict[str, Any], **options: Any) -> Child:
        """A module of this package with its job as JSON."""
        return cls([sys.executable, "-m", f"loadtest.{name}", json.dumps(job)], **options)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def tell(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise ChildError(f"{self.name} no longer takes orders: exit code {self.process.poll()}") from error

    def answer(self) -> dict[str, Any]:
        """Its next line, which is JSON."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ChildError(f"{self.name} ended early: exit code {self.process.wait()}")
        return json.loads(line)

    def check(self) -> None:
        """Raises if it has ended."""
        if (code := self.process.poll()) is not None:
            raise ChildError(f"{self.name} ended early: exit code {code}")

    def end(self) -> None:
        """Ends it, gently first."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # What was not written yet to a process that is gone.
                    pipe.close()
        for stop in (self.process.terminate, self.process.kill):
            if self.process.poll() is None:
                stop()
                try:
                    self.process.wait(_GRACE)
                except subprocess.TimeoutExpired:
                    continue


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all their descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(roots)
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far."""
    return sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid))) / _TICKS


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory, what is shared counted by its share."""
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def open_files(pid: int) -> int:
    """How many file descriptors it has."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: a name may hold blanks and parentheses."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # It has ended by now.
        return ""


def wait_until(condition: Any, deadline: float, what: str) -> None:
    """Looks until it holds; raises `ChildError` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise ChildError(f"after {deadline:g} s still not so: {what}")
        time.sleep(0.05)
