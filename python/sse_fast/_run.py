"""`Run`: a child process whose marked output lines are a stream; it has the methods of `subprocess.Popen`.

Owns: the checking of `Server.run`'s arguments, the start, waiting, and the threads of a server that call `on_event`.
Must not know: pipes, markers, how output becomes events; the engine does that without Python.
Invariants: nothing here holds up the process, its pipes or its terminal event. One thread calls a run's `on_event`, in
the order of the events, goes on after an exception in it, and is known to the server until it has ended.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

from . import _records, _threads
from ._core import Reader, Stream
from ._core import Run as EngineRun
from ._core import Server as Engine
from ._event import Event
from ._exceptions import ArgumentTypeError, RunArgumentError, ServerClosed, StreamEnded, StreamError, WaitTimeout
from ._settings import checked_seconds, wrong_type

_LOG = _records.logger("sse_fast.run")


class RunSpec(TypedDict):
    """A run as the engine is given it; durations in seconds."""

    argv: list[str]
    cwd: str | None
    env: list[tuple[str, str]]
    stdin: bytes | None
    marker: str | None
    lines: str | None
    timeout: float | None
    grace: float
    drain: float


#: One argument of a command, or its directory, as `subprocess.Popen` takes it.
RunArgument = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class Run:
    r"""A child process; made by `Server.run`.

    The engine reads its output and publishes its events whether or not Python runs. When it has exited and its pipes
    are read to their end, the stream ends with an ``end`` event. `Server.close` ends the process as a timeout would.

    Attributes:
        args: the command.
        stream: where its events are.
        on_event_failures: how often `on_event` raised.

    >>> import sse_fast, sys
    >>> with sse_fast.serve(0) as server:
    ...     run = server.run([sys.executable, "-c", "print('SSE_EVENT:data: {\"n\": 1}')"], stream="example")
    ...     run.wait(timeout=30.0), run.result
    (0, {'n': 1})
    """

    def __init__(self, engine: EngineRun, args: Sequence[str], stream: Stream) -> None:
        """Takes the engine's run, which `Server.run` started."""
        self._engine = engine
        self.args = list(args)
        self.stream = stream
        self.on_event_failures = 0

    @property
    def pid(self) -> int:
        """The process id."""
        return self._engine.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._engine.poll()

    @property
    def status(self) -> str | None:
        """The name of the child's last event, heartbeats aside; None before the first, or where it had none."""
        return self._engine.status

    @property
    def result(self) -> Any:  # noqa: ANN401 - JSON is any of its types
        """The data of the last event that had any: parsed where it is JSON, else as text; None before the first."""
        text = self._engine.result
        if text is None:
            return None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._engine.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Waits until the process has exited and its terminal event is published; Ctrl-C interrupts the wait alone.

        Args:
            timeout: seconds; None waits without limit.

        Returns:
            the exit code, negative for a signal.

        Raises:
            WaitTimeout: it took longer than `timeout`.
            ServerClosed: the server stopped before the process was seen to exit.
        """
        seconds = None if timeout is None else checked_seconds("timeout", timeout)
        if not self._engine.wait_ended(seconds):
            raise WaitTimeout(f"{self.args[0]!r} (pid {self.pid}) was not over within {timeout} s")
        code = self._engine.poll()
        if code is None:
            raise ServerClosed(f"the server stopped before {self.args[0]!r} (pid {self.pid}) was seen to exit")
        return code

    def terminate(self) -> None:
        """Sends SIGTERM; does nothing when it is over."""
        self._engine.terminate()

    def kill(self) -> None:
        """Sends SIGKILL; does nothing when it is over."""
        self._engine.kill()

    def send_signal(self, signal: int) -> None:
        """Sends a signal; does nothing when it is over.

        Raises:
            ArgumentTypeError: it is not a whole number, such as ``signal.SIGTERM``.
            RunError: there is no such signal.
        """
        if not isinstance(signal, int):
            raise wrong_type("signal", signal, "a whole number, such as signal.SIGTERM")
        self._engine.signal(int(signal))

    def __repr__(self) -> str:
        """Command, process id, exit code."""
        code = self.poll()
        return f"<Run {self.args[0]!r} pid {self.pid} {'running' if code is None else f'returncode {code}'}>"


class Runs:
    """What a server knows of its runs in Python: the threads that call their `on_event`."""

    def __init__(self, engine: Engine) -> None:
        """Takes the engine that starts the processes."""
        self._engine = engine
        # Protects `_threads`; held while one starts, never while it calls. A signal handler may come in between.
        self._lock = threading.RLock()
        self._threads: set[threading.Thread] = set()  # Those that have not ended.

    def start(
        self,
        args: Sequence[str],
        spec: RunSpec,
        stream: Stream,
        on_event: Callable[[Event], object] | None,
        *,
        new: bool,
    ) -> Run:
        """Starts a process whose events go to `stream`, and the thread that calls `on_event` with each.

        Where the process cannot be started a `new` stream, one that was made for it, is removed again.

        Raises:
            StreamEnded: the stream has ended already.
            StreamError: another run writes into it.
        """
        self.check(stream)
        last_id = stream.last_id
        # Before the start, so that not even the first event is missed.
        reader = stream._reader("all" if last_id is None else None, last_id) if on_event is not None else None  # noqa: SLF001
        try:
            engine = self._engine.run(stream, spec)
        except BaseException:
            # Nothing would end a stream without its run. One that has events has another publisher, and stays; so does
            # one whose run began in the meantime, which may be why this one could not.
            if new and stream.last_id is None and not self._has_run(stream):
                stream.remove()
            raise
        run = Run(engine, args, stream)
        if reader is not None and on_event is not None:
            name = f"sse_fast on_event {stream.name}"
            thread = threading.Thread(target=self._call, args=(run, reader, on_event), name=name, daemon=True)
            with self._lock:  # It cannot leave before it is here.
                thread.start()
                self._threads.add(thread)
        return run

    def check(self, stream: Stream) -> None:
        """Raises where no run may write into the stream; the engine asks once more when it starts one."""
        if stream.ended:  # First: for a moment after its end a run still has its place.
            wrong = (
                f"stream {stream.name!r} has ended: call its remove() first to begin anew, or give the run another one"
            )
            raise StreamEnded(wrong)
        self._engine.check_no_run(stream)

    def _has_run(self, stream: Stream) -> bool:
        try:
            self._engine.check_no_run(stream)
        except StreamError:
            return True
        return False

    def finish(self, until: float) -> None:
        """Waits until every `on_event` was called for the last time, or until that moment of `time.monotonic`."""
        # Not without a limit: after a fork the one that holds it may not be in this process.
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            return
        threads = list(self._threads)
        self._lock.release()
        for thread in threads:
            if thread is not threading.current_thread():  # An `on_event` may close the server.
                thread.join(max(0.0, until - time.monotonic()))

    def _call(self, run: Run, reader: Reader, on_event: Callable[[Event], object]) -> None:
        try:
            # A greenlet must leave its hub to others; a thread gets no signals.
            read = reader.next_parked if _threads.patched() is None else reader.next
            while (row := read()[0]) is not None:
                data, name, id_, retry = row
                _call_on_event(run, on_event, Event(data, name if name is not None else "message", id_, retry))
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())


def _call_on_event(run: Run, on_event: Callable[[Event], object], event: Event) -> None:
    try:
        on_event(event)
    except BaseException:  # SystemExit too: it would end only this thread, and later events would be missed.
        run.on_event_failures += 1
        _LOG.exception("on_event of %r failed", run.stream.name)


def arguments(argv: Iterable[RunArgument]) -> list[str]:
    """The command as a list of text, which the operating system accepts.

    Raises:
        ArgumentTypeError: `argv` is one str or not a sequence, or an item of it is not a str, bytes or a path.
        RunArgumentError: an item of it cannot be given to a process.
    """
    if isinstance(argv, (str, bytes, os.PathLike)) or not isinstance(argv, Iterable):
        raise wrong_type("argv", argv, 'a sequence such as ["python", "job.py"]; no shell splits it')
    return [_os_text(f"argv[{place}]", argument) for place, argument in enumerate(argv)]


def _os_text(name: str, value: object) -> str:
    """`value` as text for the operating system; `name` is its argument, for messages."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise wrong_type(name, value, "a str, bytes or a path")
    return _expressed(name, os.fsdecode(value))


def _expressed(name: str, text: str) -> str:
    """`text`, if the file system's encoding has it. It is not shown: it may be a secret."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise RunArgumentError(
            f"{name} cannot be given to a process: at position {error.start} is a character that the file system's "
            f"encoding, {error.encoding}, does not have"
        ) from error
    return text


def _variable(name: object, value: object) -> tuple[str, str]:
    if not isinstance(value, (str, bytes, os.PathLike)):  # Not shown: it may be a secret.
        raise ArgumentTypeError(f"env[{name!r}] must be a str, not {type(value).__name__}")
    return _os_text("a name in env", name), _expressed(f"env[{name!r}]", os.fsdecode(value))


def _input(stdin: object) -> bytes | None:
    """What the process reads, as bytes; text as UTF-8."""
    if stdin is None:
        return None
    if isinstance(stdin, str):
        try:
            return stdin.encode()
        except UnicodeEncodeError as error:
            wrong = f"cannot start a run: stdin has a lone surrogate at position {error.start}, which has no UTF-8"
            raise RunArgumentError(wrong) from error
    if isinstance(stdin, (bytes, bytearray, memoryview)):
        return bytes(stdin)
    raise ArgumentTypeError(f"stdin must be bytes, a str or None, not {type(stdin).__name__}")


def _word(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise wrong_type(name, value, "a str, or None")
    return None if value is None else _expressed(name, value)


def specification(  # noqa: PLR0913 - the arguments of Server.run
    args: Sequence[str],
    *,
    cwd: object,
    env: object,
    stdin: object,
    marker: object,
    lines: object,
    timeout: float | None,
    grace: float,
    drain: float,
) -> RunSpec:
    """The engine's specification of a run, types and durations checked; the engine checks the rest.

    The environment is always given, from Python's copy, because another thread may change the process's own at any
    time.
    """
    environment = os.environ if env is None else env
    if not isinstance(environment, Mapping):
        raise ArgumentTypeError(f"env must be a mapping of str to str, or None, not {type(env).__name__}")
    return RunSpec(
        argv=list(args),
        cwd=None if cwd is None else _os_text("cwd", cwd),
        env=[_variable(name, value) for name, value in environment.items()],
        stdin=_input(stdin),
        marker=_word("marker", marker),
        lines=_word("lines", lines),
        timeout=None if timeout is None else checked_seconds("timeout", timeout, low=0.001),
        grace=checked_seconds("grace", grace),
        drain=checked_seconds("drain", drain),
    )
