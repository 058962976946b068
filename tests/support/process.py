"""Python programs in processes of their own, read line by line with deadlines.

A `Program` is started from source text, speaks through its standard output and
is ended by the test that started it, by its process id. Its standard error is
kept for the assertion that reports a failure.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from .deadline import DEADLINE

SUPPORT = Path(__file__).resolve().parent


class Program:
    """A running Python program."""

    def __init__(
        self,
        source: str | Path,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = ("-u",),
        cwd: Path | None = None,
    ) -> None:
        code = [str(source)] if isinstance(source, Path) else ["-c", textwrap.dedent(source)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, *options, *code, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.decode(errors="replace").rstrip("\n"))
        self._queue.put(None)

    def __enter__(self) -> Program:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._thread.join(DEADLINE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._stderr.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def line(self, deadline: float = DEADLINE) -> str:
        """The next line of standard output."""
        try:
            line = self._queue.get(timeout=deadline)
        except queue.Empty:
            raise AssertionError(f"no line within {deadline} s; {self._report()}") from None
        assert line is not None, f"the program ended early; {self._report()}"
        self.lines.append(line)
        return line

    def line_with(self, start: str, deadline: float = DEADLINE) -> str:
        """Skip to the next line that starts so; what follows the start."""
        end = time.monotonic() + deadline
        while True:
            line = self.line(max(end - time.monotonic(), 0.001))
            if line.startswith(start):
                return line[len(start) :].strip()

    def read_to_end(self) -> list[str]:
        """Every line of a program that has ended, or is about to."""
        while (line := self._queue.get(timeout=DEADLINE)) is not None:
            self.lines.append(line)
        return self.lines

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def catches(self, number: signal.Signals) -> bool:
        """Whether the program has a handler of its own for the signal, as the kernel knows (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)

    def wait(self, deadline: float = DEADLINE) -> int:
        """The exit code."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the program did not end within {deadline} s; {self._report()}") from None

    def _report(self) -> str:
        return f"exit code {self.process.poll()}, lines {self.lines[-20:]!r}, standard error: {self.stderr[-3000:]}"


def run_program(source: str | Path, *arguments: object, deadline: float = DEADLINE, **options: object) -> Program:
    """Run to the end and insist on exit code 0; the lines are in `.lines`."""
    with Program(source, *arguments, **options) as program:  # type: ignore[arg-type]
        code = program.wait(deadline)
        program.read_to_end()
        assert code == 0, program._report()
        return program
