"""`serve` and `Server`: the life of one engine.

Owns: starting and closing, the wait for signals, the hook that closes every server before the interpreter ends.
Must not know: sockets, HTTP, delivery; a server's threads, which belong to `Callbacks`, `Runs` and `LogThread`.
Invariants: a server lives until `close`, even without a reference to it. Every Python thread that it starts is a
daemon, waits without holding the interpreter and ends with the engine. The engine stops before the interpreter is torn
down.
This file is long because every method of `Server` carries its documentation.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import _run, _settings
from ._core import Server as Engine
from ._core import Stream
from ._exceptions import SettingError, StartError
from ._logs import LogThread
from ._request import Callbacks, Exists, Handler
from ._watch import Until, Watch

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType, TracebackType

    from typing_extensions import Self, Unpack

    from ._settings import ServeSettings, StreamOptions
    from ._stream import Event

    Function = TypeVar("Function", bound=Handler)

_STATIC = Path(__file__).parent / "static"
_ASSETS = {"/sse-fast.js": "text/javascript; charset=utf-8", "/sse-fast.d.ts": "text/plain; charset=utf-8"}
_SIGNAL_CHECK = 0.1  # How late, in seconds, `Server.wait` acts on a SIGTERM; Ctrl-C is as fast.
_EXIT_DRAIN = 1.0  # Seconds for subscribers at interpreter exit; a script that has finished should not hang.

_live: set[Server] = set()  # Every server that is not closed; it keeps a server without other references alive.


def serve(port: int | None = None, *, host: str | None = None, **settings: Unpack[ServeSettings]) -> Server:
    """Starts a server; it listens when this returns, and its engine's threads run from here on.

    It serves until `Server.close`, `Server.wait` returns, or the interpreter exits. The soft limit on open files is
    raised to the hard limit, because every subscriber is one; child processes inherit that.

    Args:
        port: where to listen; 0 picks a free port. Default: ``SSE_FAST_PORT``, else 8080.
        host: the address to listen on. Default: ``SSE_FAST_HOST``, else ``127.0.0.1``.
        **settings: the server's settings, and the defaults of its streams' options. Each can also be given as
            ``SSE_FAST_<NAME>`` in the environment; a keyword beats the environment.

    Raises:
        SettingError: a setting is unknown or not allowed.
        AddressInUse: something listens there already.
        PermissionDenied: the port needs privileges.
        StartError: the operating system refused for another reason.

    >>> import sse_fast
    >>> with sse_fast.serve(0, heartbeat=5.0) as server:
    ...     server.stream("runs/42").publish({"status": "COMPILING"}, event="COMPILING").endswith("-1")
    True
    """
    given: dict[str, object] = dict(settings)
    given.update({name: value for name, value in (("port", port), ("host", host)) if value is not None})
    resolved = _settings.serve_settings(given)
    _raise_open_files_limit()
    return Server(resolved)


class Server:
    """A running server; made by `serve`. As a context manager it is closed at the end of the block.

    Every method may be called from any thread. None waits for a subscriber but `close`, and `wait`, which ends with it.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        """Starts the engine; use `serve`."""
        self._host: str = settings["host"]
        threads = settings.pop("handler_threads")
        stream = {name: value for name, value in settings.items() if _settings.is_stream_option(name)}
        self._engine = Engine({name: value for name, value in settings.items() if name not in stream}, stream)
        self._callbacks = Callbacks(self._engine, threads)
        self._runs = _run.Runs(self._engine)
        self._logs = LogThread(self._engine)
        try:
            self._logs.start()
            self._serve_assets()
        except BaseException:
            self._engine.close(0.0)
            raise
        _live.add(self)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._engine.port

    @property
    def url(self) -> str:
        """Its address for a client on this machine, such as ``http://127.0.0.1:8080``."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def closed(self) -> bool:
        """Whether closing has begun."""
        return self._engine.closed

    def stream(self, name: str, **options: Unpack[StreamOptions]) -> Stream:
        """The stream of that name; it is made if there is none. Cheap.

        Args:
            name: any text a URL path can carry; it may hold slashes.
            **options: the options to set on it, whether it is new or not; what is not given stays as it is.

        Raises:
            SettingError: an option is unknown or not allowed, or the name cannot be used.
            ArgumentTypeError: the name is not a str.
            ServerClosed: the server was closed.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     server.stream("runs/42", history=1000, start="all").name
        'runs/42'
        """
        return self._engine.stream(name, _settings.stream_options(options) if options else None)

    def streams(self) -> list[Stream]:
        """Every stream there is now, in no particular order."""
        return self._engine.streams()

    def run(  # noqa: PLR0913 - as Popen's are
        self,
        argv: Iterable[_run.Argument],
        *,
        stream: str | Stream,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        marker: str | None = "SSE_EVENT:",
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        grace: float = 5.0,
        drain: float = 2.0,
        **options: Unpack[StreamOptions],
    ) -> _run.Run:
        """Starts a child process whose marked output lines become the events of a stream.

        The engine reads both its pipes whatever Python does; other lines go to the logger ``sse_fast.run``, never to
        the stream. After its exit the stream ends with an ``end`` event. `Server.close` terminates it. Where the
        process cannot be started, a stream that this call made is removed again.

        Args:
            argv: the command and its arguments; no shell is involved.
            stream: the stream, or its name.
            cwd: the working directory.
            env: the whole environment; None passes this process's. ``SSE_FAST_MARKER`` is always added.
            marker: what a line that is an event starts with; None accepts only the run's own random marker, which
                `sse_fast.runner.emit` uses.
            timeout: seconds after which the process gets SIGTERM.
            on_event: called with every event of the run, the terminal one too, in order, on a thread of the run's own.
                An exception in it is logged and counted, and stops nothing. It must keep up with ``history``: beyond
                it gets a ``gap`` event, as any reader.
            grace: seconds from SIGTERM to SIGKILL.
            drain: seconds a grandchild may keep the pipes open after the process has exited.
            **options: the stream's options; ``start`` is ``"all"`` unless given.

        Raises:
            ArgumentTypeError: an argument has a type that it cannot have, such as one str for `argv`.
            RunArgumentError: an argument cannot be used.
            RunError: the process could not be started.
            StreamEnded: the stream has ended already.
            ServerClosed: the server was closed.
        """
        if on_event is not None and not callable(on_event):
            raise _settings.wrong_type("on_event", on_event, "a callable that is given an event, or None")
        args = _run.arguments(argv)
        spec = _run.specification(args, cwd=cwd, env=env, marker=marker, timeout=timeout, grace=grace, drain=drain)
        options.setdefault("start", "all")
        name = _stream_name(stream)
        new = self._engine.find(name) is None
        return self._runs.start(args, spec, self.stream(name, **options), on_event, new=new)

    def watch(  # noqa: PLR0913 - each is a decision of the caller
        self,
        poll: Callable[[], Any],
        *,
        stream: str | Stream,
        until: Until,
        every: float = 5.0,
        event: str | None = None,
        max_failures: int = 10,
    ) -> Watch:
        """Polls a callable on a thread of its own and publishes what changes.

        Heartbeats go on while a poll is slow or blocked. The watch ends with the server.

        Args:
            poll: returns the present state: a dict with a ``"status"``, a str, or anything JSON-able.
            stream: the stream, or its name.
            until: which state is the last: a callable that is given it, or the terminal statuses.
            every: seconds from the end of one poll to the next.
            event: the name of every event; by default the state's ``"status"``, else ``"status"``.
            max_failures: after so many failures in a row the stream ends with an ``error`` event; an exception is one,
                and a state that cannot be published. Each is logged, and doubles the wait for the next poll, up to a
                minute.

        Raises:
            SettingError: `every` or `max_failures` is not allowed.
            ArgumentTypeError: `poll` cannot be called, or `stream` is neither a stream nor a name.

        >>> import sse_fast
        >>> states = iter(["IN_QUEUE", "IN_QUEUE", "DONE"])
        >>> with sse_fast.serve(0) as server:
        ...     watch = server.watch(lambda: next(states), every=0.01, stream="job", until={"DONE"})
        ...     watch.wait(timeout=5.0)
        ...     watch.value, watch.stream.ended
        ('DONE', True)
        """
        if not callable(poll):
            raise _settings.wrong_type("poll", poll, "a callable that returns the present state")
        if isinstance(max_failures, bool) or not isinstance(max_failures, int) or max_failures < 1:
            raise SettingError(f"max_failures={max_failures!r} is not allowed: it must be a whole number from 1 up")
        return Watch(
            poll,
            every=_settings.checked_seconds("every", every, low=0.001),
            stream=stream if isinstance(stream, Stream) else self.stream(_stream_name(stream)),
            until=(until,) if isinstance(until, str) else until,
            event=event,
            max_failures=max_failures,
        )

    def route(  # noqa: PLR0913 - each is a decision of the caller
        self,
        path: str,
        stream: str,
        *,
        wait: float = 0.0,
        exists: Exists | None = None,
        retry_delay: float = 0.2,
        create: bool = False,
        **options: Unpack[StreamOptions],
    ) -> None:
        """Maps a URL template to a stream's name; the engine answers such requests without Python.

        Args:
            path: the template, such as ``"/api/streams/{id}"``.
            stream: the stream's name, such as ``"workflow/{id}"``; placeholders come from the path or the query string.
            wait: seconds that a request for a stream that does not exist is held before it gets 404.
            exists: called with the stream's name, at most once per `retry_delay` however many requests wait for it;
                once it returns something true the stream is made.
            retry_delay: seconds between two calls of `exists`.
            create: makes the stream at the first request.
            **options: the options of streams the route makes.

        Raises:
            RouteError: the template is malformed, or routed already.
            SettingError: an option is unknown or not allowed.
            ArgumentTypeError: `path` or `stream` is not a str, `exists` cannot be called, or `create` is not a bool.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     server.route("/api/streams/{id}", "workflow/{id}", wait=6.0)
        """
        if exists is not None and not callable(exists):
            raise _settings.wrong_type("exists", exists, "a callable that is given a stream's name, or None")
        if not isinstance(create, bool):
            raise _settings.wrong_type("create", create, "True or False")
        with contextlib.nullcontext() if exists is None else self._callbacks.registered(exists) as key:
            self._engine.route(
                path,
                stream,
                wait=_settings.checked_seconds("wait", wait),
                retry_delay=_settings.checked_seconds("retry_delay", retry_delay, low=0.001),
                exists=key,
                create=create,
                options=_settings.stream_options(options),
            )

    def get(
        self, path: str, *, early_head: bool = False, **options: Unpack[StreamOptions]
    ) -> Callable[[Function], Function]:
        """Decorates a function that answers ``GET path``; see `post`."""
        return self._handler("GET", path, early_head=early_head, options=options)

    def post(
        self, path: str, *, early_head: bool = False, **options: Unpack[StreamOptions]
    ) -> Callable[[Function], Function]:
        """Decorates a function that answers ``POST path``.

        It is called with a `Request`, on one of ``handler_threads`` threads, and returns a `Stream` (the response then
        is that stream), a `Response`, None (204) or anything JSON-able. An ``async def`` function runs on an event loop
        of its own in that thread. `HttpError` becomes that response; any other exception is logged and becomes a 500.
        While every thread is busy requests wait; streams do not.

        Args:
            path: the path, or a template such as ``"/jobs/{id}"``.
            early_head: sends an event stream's head, and heartbeats, while the function still works; it must then
                return a stream.
            **options: the heartbeat while it works.

        Raises:
            RouteError: the path is malformed, or routed already; raised where the function is decorated.
            ArgumentTypeError: `path` is not a str, `early_head` is not a bool, or the decorated object cannot be
            called.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...
        ...     @server.post("/jobs")
        ...     def submit(request):
        ...         return {"id": request.json()["id"]}
        """
        return self._handler("POST", path, early_head=early_head, options=options)

    def stats(self) -> dict[str, Any]:
        """The server's counters and present numbers, as a dict; cheap enough to be asked every second."""
        return self._engine.stats()

    def wait(self) -> None:
        """Serves until Ctrl-C, SIGTERM or `close` from another thread; then drains and returns.

        A second signal ends the process without draining to the end. In a thread other than the main one it sees no
        signal, only `close`. It blocks its thread: in a program of asyncio use ``await asyncio.to_thread(server.wait)``
        inside ``with server:``, or wait for an event of your own.

        Raises:
            ForkError: in a child of the process that started the server.
        """
        terminated = threading.Event()
        in_main_thread = threading.current_thread() is threading.main_thread()
        previous = None

        def terminate(_number: int, _frame: FrameType | None) -> None:
            terminated.set()

        try:
            if in_main_thread:
                previous = signal.signal(signal.SIGTERM, terminate)
            while not terminated.is_set() and not self._engine.wait_stopped(_SIGNAL_CHECK):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            if in_main_thread:  # None means a handler that was not installed from Python; it cannot be restored.
                signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
        self.close()

    def close(self, drain: float = 5.0) -> None:
        """Stops listening, gives subscribers what they lack, ends runs, and stops the engine. Idempotent.

        A second call waits for the first. A signal handler that raises, as Ctrl-C's does, leaves the wait; the closing
        itself goes on, and the interpreter's exit does not wait for it again.

        Args:
            drain: the most seconds that this may take; subscribers that are too slow are cut off, and calls of a run's
                `on_event` that take longer are not waited for.

        Raises:
            SettingError: `drain` is not allowed.

        In a process that did not start the server, a child after a fork, it does nothing.
        """
        seconds = _settings.checked_seconds("drain", drain)
        until = time.monotonic() + seconds
        try:
            self._engine.close(seconds)
        finally:
            _live.discard(self)
        # The terminal events of runs were published: who is told of them hears so before the process may end.
        self._runs.finish(until)
        self._logs.finish()

    def __enter__(self) -> Self:
        """The server, which the end of the block closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the server."""
        self.close()

    def __repr__(self) -> str:
        """Address and state."""
        return f"<sse_fast.Server {'closed' if self.closed else self.url}>"

    def _handler(
        self, method: str, path: str, *, early_head: bool, options: StreamOptions
    ) -> Callable[[Function], Function]:
        if not isinstance(early_head, bool):
            raise _settings.wrong_type("early_head", early_head, "True or False")
        checked = _settings.stream_options(options)

        def decorate(function: Function) -> Function:
            if not callable(function):
                raise _settings.wrong_type(f"the handler of {method} {path}", function, "a callable")
            with self._callbacks.registered(function) as key:
                self._engine.handler(method, path, key, early_head=early_head, options=checked)
            return function

        return decorate

    def _serve_assets(self) -> None:
        for path, content_type in _ASSETS.items():
            file = _STATIC / path.removeprefix("/")
            try:
                body = file.read_bytes()
            except FileNotFoundError as error:
                raise StartError(f"the package lacks its file {file}: {_how_to_mend()}") from error
            self._engine.asset(path, content_type, body)


def _stream_name(stream: object) -> str:
    if isinstance(stream, (str, Stream)):
        return stream if isinstance(stream, str) else stream.name
    raise _settings.wrong_type("stream", stream, "a stream or the name of one")


def _how_to_mend() -> str:
    """What to do about a package that is not whole; a frozen program is mended where it is built."""
    if not getattr(sys, "frozen", False):
        return "install it again"
    return (
        "this program was frozen without the package's data. PyInstaller from 4.0 on takes it along by the hook in the "
        "package; else add --collect-data sse_fast --hidden-import orjson, or what your tool has for that"
    )


def _raise_open_files_limit() -> None:
    """Sets the soft limit on open files to the hard limit, where there is one."""
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            logging.getLogger("sse_fast").debug("the limit on open files stays at %d", soft)


@atexit.register
def _close_all() -> None:
    """Closes every server before the interpreter is torn down."""
    for server in list(_live):
        server.close(drain=_EXIT_DRAIN)
