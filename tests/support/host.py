"""Programs of other packages that hold a server of ours: gunicorn, uvicorn, Celery and others, as a user starts them.

A `Host` is a command in a session of its own, with everything that its processes print in one file. It is ended as a
service manager ends it; `assert_gone` then sees that nobody of it is left, and that its ports are free.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from .deadline import until
from .ports import accepts, is_free

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "hosts.md"

#: Seconds. Some hosts import much before they serve, several processes of them at a time.
STARTING = 60.0


def documented(title: str, folder: Path, ports: Mapping[str, int]) -> Path:
    """The file that `docs/hosts.md` shows under that title, in `folder`, with other ports than it has there."""
    found = re.search(
        rf'^```python title="{re.escape(title)}"\n(.*?)^```', DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    assert found, f"docs/hosts.md shows no {title}"
    text = found[1]
    for written, port in ports.items():
        assert written in text, f"{title} names no port {written}"
        text = text.replace(written, str(port))
    file = folder / title.rpartition("/")[2]
    file.write_text(text)
    return file


class Host:
    """A running command, its group of processes and what they print."""

    def __init__(
        self,
        *command: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-u"),
    ) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [*program, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(cwd), "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )

    def __enter__(self) -> Host:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.output[-6000:])
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._output.close()

    @property
    def output(self) -> str:
        """Everything that any of its processes has printed."""
        return os.pread(self._output.fileno(), 1 << 24, 0).decode(errors="replace")

    def processes(self) -> list[int]:
        """Who is alive in its session (Linux): itself, its workers, their children; zombies do not count."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _parent, _group, session = status.read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(status.parent.name))
        return found

    def says(self, text: str, deadline: float = STARTING) -> None:
        """Waits until it has printed `text`."""
        until(lambda: text in self.output or self.process.poll() is not None, deadline, what=f"it says {text!r}")
        assert text in self.output, (
            f"it ended with {self.process.returncode} and never said {text!r}: {self.output[-3000:]}"
        )

    def listens(self, *ports: int, deadline: float = STARTING) -> None:
        """Waits until every port takes connections."""
        for port in ports:
            until(lambda port=port: self._accepts(port), deadline, what=f"port {port} being served")  # type: ignore[misc]

    def serves_or_ends(self, port: int) -> bool:
        """Waits for either; whether it serves."""
        until(lambda: self.process.poll() is not None or accepts(port), STARTING, what=f"port {port} or the end")
        return self.process.poll() is None

    def _accepts(self, port: int) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.output[-3000:]}"
        return accepts(port)

    def frees(self, port: int) -> None:
        """Waits until nobody listens there."""
        until(lambda: is_free(port), what=f"port {port} being free")

    def ends(self, deadline: float = STARTING) -> int:
        """Waits for its end; the exit code."""
        until(lambda: self.process.poll() is not None, deadline, what="the program's end")
        return self.process.returncode

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it as a service manager does, or as Ctrl-C; the exit code."""
        self.process.send_signal(number)
        return self.ends()

    def assert_gone(self, *ports: int) -> None:
        """Nobody of it is left, its ports are free, and it neither aborted nor left a traceback of ours."""
        until(lambda: not self.processes(), what="the end of all its processes")
        for port in ports:
            self.frees(port)
        for wrong in ("fatal runtime error", "panicked at", "FATAL: exception not rethrown", "Fatal Python error"):
            assert wrong not in self.output, self.output[-6000:]
