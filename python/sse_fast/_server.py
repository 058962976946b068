"""`serve` and `Server`: the life of one engine.

Owns: starting and closing, the wait for the end.
Must not know: sockets, HTTP, delivery; a server's threads, which belong to `Callbacks`, `Runs` and `LogThread`; how
signals are taken over (`_signals`); what the interpreter's exit and a fork ask for, which `_exit` does.
Invariants: a server lives until `close`, even without a reference to it. Every Python thread that it starts is a
daemon, waits without holding the interpreter and ends with the engine. The engine stops before the interpreter is torn
down.
This file is long because every method of `Server` carries its documentation.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import _exit, _run, _settings, _threads
from ._core import Server as Engine
from ._core import Stream, use_hub_sleep
from ._exceptions import SettingError, StartError, WaitTimeout
from ._fork import Held
from ._handlers import Callbacks, Exists, Handler, kind_of
from ._logs import LogThread
from ._presence import PresenceCallbacks
from ._signals import Waiting
from ._watch import Until, Watch

if TYPE_CHECKING:
    import asyncio
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._settings import ServeSettings, StreamOptions
    from ._stream import Event

    Function = TypeVar("Function", bound=Handler)
    Joined = TypeVar("Joined", bound=Callable[[Stream, str | None], object])

_STATIC = Path(__file__).parent / "static"
_ASSETS = {"/sse-fast.js": "text/javascript; charset=utf-8", "/sse-fast.d.ts": "text/plain; charset=utf-8"}
_SIGNAL_CHECK = 0.1  # How late, in seconds, `Server.wait` acts on a signal.


def serve(
    port: int | None = None,
    *,
    host: str | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    **settings: Unpack[ServeSettings],
) -> Server:
    """Starts a server; it listens when this returns, and its engine's threads run from here on.

    It serves until `Server.close`, `Server.wait` returns, or the interpreter exits. The soft limit on open files is
    raised to the hard limit, because every subscriber is one; child processes inherit that.

    Args:
        port: where to listen; 0 picks a free port. Default: ``SSE_FAST_PORT``, else 8080.
        host: the address to listen on. Default: ``SSE_FAST_HOST``, else ``127.0.0.1``.
        loop: the event loop that asynchronous handlers run on. It must run as long as they are to be answered; it is
            neither started nor closed, and at `Server.close` only the tasks of handlers are cancelled on it. None has
            the server make one, on a thread of its own, by the program's event loop policy, and end it at its close.
        **settings: the server's settings, and the defaults of its streams' options. Each can also be given as
            ``SSE_FAST_<NAME>`` in the environment; a keyword beats the environment.

    Raises:
        SettingError: a setting is unknown or not allowed.
        ArgumentTypeError: `loop` is not an event loop.
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
    if loop is not None and not hasattr(loop, "call_soon_threadsafe"):
        raise _settings.wrong_type("loop", loop, "an event loop of asyncio, or None")
    _raise_open_files_limit()
    return Server(resolved, loop)


class Server:
    """A running server; made by `serve`. As a context manager, ``with`` or ``async with``, it is closed at the end.

    Every method may be called from any thread. None waits for a subscriber but `close` and `aclose`, and `wait` and
    `wait_async`, which end with them.
    """

    def __init__(self, settings: dict[str, Any], loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Starts the engine; use `serve`."""
        self._host: str = settings["host"]
        if _threads.may_have_hubs():
            use_hub_sleep(_threads.hub_sleep)
        threads, generator_threads = settings.pop("handler_threads"), settings.pop("generator_threads")
        self._drain: float = settings.pop("drain")
        self._left = False  # Whether an exception has left the closing, which goes on.
        self._loop = _loop_of_the_main_thread()
        stream = {name: value for name, value in settings.items() if _settings.is_stream_option(name)}
        self._engine = Engine({name: value for name, value in settings.items() if name not in stream}, stream)
        _exit.opened(self, self._drain, Held(*self._engine.held()))
        self._callbacks = Callbacks(self._engine, threads, generator_threads, loop)
        self._runs = _run.Runs(self._engine)
        self._presence = PresenceCallbacks(self._engine.presence())
        self._engine.set_callbacks(self._presence)
        self._logs = LogThread(self._engine)
        try:
            self._logs.start()
            self._serve_assets()
        except BaseException:
            self._engine.close(0.0)
            _exit.closed(self)
            raise

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

    def stream(self, name: str | None, **options: Unpack[StreamOptions]) -> Stream:
        """The stream of that name; it is made if there is none. Cheap.

        Args:
            name: any text a URL path can carry; it may hold slashes. None makes a nameless stream, which only a handler
                can hand out: no URL leads to it, it is in no list, and it is gone once nobody holds or reads it.
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
        if name is None:
            return self._engine.nameless_stream(_settings.stream_options(options))
        return self._engine.stream(name, _settings.stream_options(options) if options else None)

    def streams(self) -> list[Stream]:
        """Every stream there is now, in no particular order; those without a name are not among them."""
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
        the stream. After its exit the stream ends with an ``end`` event. `Server.close` terminates it. On Linux it is
        killed when this process ends without that, killed or not, unless it changed its user; elsewhere it lives on.
        Processes that it starts itself are its own affair. Where it cannot be started, a stream that this call made is
        removed again.

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
        if not name and isinstance(stream, Stream):
            stream._configure(_settings.stream_options(options))  # noqa: SLF001 - part of this package
            return self._runs.start(args, spec, stream, on_event, new=False)
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
                ``{name}`` is one segment: not empty, without ``/``. ``{*rest}``, at its end, is everything that
                follows, at least one character; it cannot stand where another template has a ``{name}``. What means
                something in another framework (``{id:int}``, ``<id>``, ``*``, ``:id``) is refused. Paths are compared
                decoded; exact ones win over templates, templates over ``/streams/``.
            stream: the stream's name, such as ``"workflow/{id}"``; placeholders come from the path or the query string.
                A value from the query is one segment, too, unless the name says ``{*rest}``; else the answer is 404.
            wait: seconds that a request for a stream that does not exist is held before it gets 404.
            exists: called with the stream's name, at most once per `retry_delay` however many requests wait for it;
                once it returns something true the stream is made. It may be ``async def``.
            retry_delay: seconds between two calls of `exists`.
            create: makes the stream at the first request, so that there is nothing to wait for: not together with
                `wait` or `exists`.
            **options: the options of streams the route makes.

        Raises:
            RouteError: the template is malformed, or routed already.
            SettingError: an option is unknown or not allowed, or `create` is given together with `wait` or `exists`.
            ArgumentTypeError: `path` or `stream` is not a str, `exists` cannot be called, or `create` is not a bool.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     server.route("/api/streams/{id}", "workflow/{id}", wait=6.0)
        """
        if exists is not None and not callable(exists):
            raise _settings.wrong_type("exists", exists, "a callable that is given a stream's name, or None")
        if not isinstance(create, bool):
            raise _settings.wrong_type("create", create, "True or False")
        seconds = _settings.checked_seconds("wait", wait)
        useless = [name for name, given in (("exists", exists is not None), ("wait", seconds > 0)) if given]
        if create and useless:
            both = " and ".join(useless)
            raise SettingError(f"create=True is not allowed together with {both}: the first request makes the stream")
        with contextlib.nullcontext() if exists is None else self._callbacks.registered(exists, "function") as key:
            self._engine.route(
                path,
                stream,
                wait=seconds,
                retry_delay=_settings.checked_seconds("retry_delay", retry_delay, low=0.001),
                exists=key,
                create=create,
                options=_settings.stream_options(options),
            )

    def get(
        self, path: str, *, early_head: bool = False, **options: Unpack[StreamOptions]
    ) -> Callable[[Function], Function]:
        """Decorates a function that answers ``GET path``, and ``HEAD path`` without the body; see `post`."""
        return self._handler("GET", path, early_head=early_head, options=options)

    def post(
        self, path: str, *, early_head: bool = False, **options: Unpack[StreamOptions]
    ) -> Callable[[Function], Function]:
        """Decorates a function that answers ``POST path``.

        It is called with a `Request` and returns a `Stream` (the response then is that stream), a `Response`, None
        (204) or anything JSON-able. `HttpError` becomes that response; any other exception is logged and becomes a
        500.

        A function runs on one of ``handler_threads`` threads. An ``async def`` function runs on the server's one event
        loop, which lives as long as the server: tasks, locks and clients that one request made serve the next. It must
        not block; calls that wait for it hold no thread.

        A generator, synchronous or asynchronous, yields events: an `Event`, a ``(data, event)`` tuple, or any data that
        `Stream.publish` takes. The response is a stream of its own, without a name, with one reader. The generator is
        closed as soon as that reader has gone: a synchronous one, which runs on a thread of its own
        (``generator_threads``), at its next ``yield``; of an asynchronous one the pending step is cancelled. One that
        is faster than its reader waits for it, and nothing is skipped. Its end is an ``end`` event with ``null``,
        unless an event named ``end`` was the last that it yielded; what it raises is its answer before the first event,
        and an ``error`` event after that. A browser that comes back within ``linger`` gets what it lacks, or 204, and
        nothing is generated again. The stream's id is all that it takes, and cannot be guessed. Where the reader had
        left before the end, the last event is an ``error``. Up to 1,024 such streams, with 64 MiB, are kept.

        Under load: while every thread is busy requests wait, and streams do not. ``handler_queue`` may wait, with
        64 MiB of bodies; beyond that the answer is 503 with ``Retry-After``, and for a GET that names
        ``text/event-stream`` an empty stream that tells a browser to come back. A request whose client has gone before
        it began is dropped.

        At shutdown requests in flight have the ``drain`` of `Server.close`; what asynchronous handlers left running has
        what remains of it, and is cancelled then, which is logged.

        Args:
            path: the path, or a template such as ``"/jobs/{id}"``; see `route`.
            early_head: sends an event stream's head, and heartbeats, while the function still works, from the first
                interval of its heartbeat on; it must then return a stream. If it fails after that, its error is the
                stream's last event, and a browser that comes back gets 204. A generator always does so.
            **options: the heartbeat while it works, and the options of a generator's stream.

        Raises:
            RouteError: the path is malformed, or routed already; raised where the function is decorated.
            ArgumentTypeError: `path` is not a str, `early_head` is not a bool, or the decorated object cannot be
            called.
            ServerClosed: the server was closed.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...
        ...     @server.post("/jobs")
        ...     def submit(request):
        ...         return {"id": request.json()["id"]}
        ...
        ...     @server.post("/count")
        ...     def count(request):
        ...         for number in range(3):
        ...             yield {"number": number}
        """
        return self._handler("POST", path, early_head=early_head, options=options)

    def put(
        self, path: str, *, early_head: bool = False, **options: Unpack[StreamOptions]
    ) -> Callable[[Function], Function]:
        """Decorates a function that answers ``PUT path``; see `post`."""
        return self._handler("PUT", path, early_head=early_head, options=options)

    def patch(
        self, path: str, *, early_head: bool = False, **options: Unpack[StreamOptions]
    ) -> Callable[[Function], Function]:
        """Decorates a function that answers ``PATCH path``; see `post`."""
        return self._handler("PATCH", path, early_head=early_head, options=options)

    def delete(
        self, path: str, *, early_head: bool = False, **options: Unpack[StreamOptions]
    ) -> Callable[[Function], Function]:
        """Decorates a function that answers ``DELETE path``; see `post`."""
        return self._handler("DELETE", path, early_head=early_head, options=options)

    def on_join(self, callback: Joined) -> Joined:
        """Calls `callback` with ``(stream, reader)`` for each subscriber that comes; returns the callback.

        `reader` is who it is: None for everybody, until readers have names. Joins and leaves of each stream are told in
        their order, also of nameless ones, one after another on a thread of the server's own, never on the engine's. A
        callback that is slow delays the others and no reader; up to 65,536 joins and leaves wait for it, what comes
        beyond is lost, logged as a WARNING and counted in `stats` as ``presence_missed``. An exception is logged. Who
        is here already is told only when it leaves. At shutdown those who leave are told too, within ``drain``.

        Args:
            callback: what is called; it is kept as long as the server.

        Raises:
            ArgumentTypeError: `callback` cannot be called, or is an ``async def`` function.
            ServerClosed: the server was closed.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...
        ...     @server.on_join
        ...     def joined(stream, reader):
        ...         stream.publish({"present": stream.subscribers}, event="presence")
        """
        return self._presence.on_join(callback)

    def on_leave(self, callback: Joined) -> Joined:
        """The same for each subscriber that leaves; see `on_join`."""
        return self._presence.on_leave(callback)

    def stats(self) -> dict[str, Any]:
        """The server's counters and present numbers, as a dict; cheap enough to be asked every second."""
        return self._engine.stats()

    def wait(self, timeout: float | None = None) -> None:
        """Serves until Ctrl-C, SIGTERM, or `close` from another thread; then drains and returns.

        Handlers of these signals that the program installed before are called, too, and are in place again afterwards;
        one that it installs while it waits is called alone. A signal that is ignored stays so. A second signal ends the
        process without draining to the end. Another thread than the main one sees only `close`; but where the server
        was made, or its ``with`` block entered, by an event loop of the main thread, that loop takes the signals:
        ``await asyncio.to_thread(server.wait)`` ends as `wait` does in the main thread (a second Ctrl-C waits for it
        there, as `asyncio.run` waits for its threads). Programs of asyncio need no thread with `wait_async`.

        Args:
            timeout: seconds after which to stop waiting; None waits without limit.

        Raises:
            WaitTimeout: `timeout` has passed. The server goes on.
            SettingError: `timeout` is not allowed.
            ForkError: in a child of the process that started the server.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     server.wait(timeout=0.01)
        Traceback (most recent call last):
        sse_fast.WaitTimeout: the server was not closed within 0.01 s
        """
        seconds = None if timeout is None else _settings.checked_seconds("timeout", timeout)
        until = None if seconds is None else time.monotonic() + seconds
        told = threading.Event()

        def tell() -> bool:
            told.set()
            return True

        with self._told_by_signals(tell) as waiting, contextlib.suppress(KeyboardInterrupt):
            over = False
            while not over and (until is None or time.monotonic() < until):
                left = _SIGNAL_CHECK if until is None else min(_SIGNAL_CHECK, max(0.0, until - time.monotonic()))
                over = self._engine.wait_stopped(left) or told.is_set()
            # Once more: a signal may have come in the last moment, and then this is no timeout.
            if not over and not self._engine.wait_stopped(0.0) and not told.is_set():
                raise WaitTimeout(f"the server was not closed within {seconds} s")
            waiting.consumed = True
        self.close()

    async def wait_async(self) -> None:
        """Serves until SIGINT, SIGTERM, or `close`, without holding up the event loop; then drains and returns.

        Signals are as for `wait`; they are seen where the loop runs in the main thread. Where the task is cancelled
        the server goes on; ``async with`` closes it then, too.

        Raises:
            ForkError: in a child of the process that started the server.

        >>> import asyncio, sse_fast
        >>> async def main():
        ...     async with sse_fast.serve(0) as server:
        ...         asyncio.get_running_loop().call_later(0.01, lambda: asyncio.ensure_future(server.aclose()))
        ...         await server.wait_async()
        ...         return server.closed
        >>> asyncio.run(main())
        True
        """
        import asyncio  # noqa: PLC0415 - only programs that use it pay for it

        from ._wakeups import settle  # noqa: PLC0415 - as above

        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()

        def tell() -> bool:
            try:
                loop.call_soon_threadsafe(settle, told)
            except RuntimeError:  # The loop was closed: nobody waits.
                return False
            return True

        with self._told_by_signals(tell) as waiting, self._logs.tells_of_the_end(tell):
            if not self._engine.wait_stopped(0.0):
                await told
            waiting.consumed = True
        await self.aclose()

    def close(self, drain: float | None = None) -> None:
        """Stops listening, lets requests be answered, gives subscribers what they lack, ends runs. Idempotent.

        The port is free at once. It returns as soon as everybody has everything, and leaves nothing behind. A second
        call waits for the first. A signal handler that raises leaves the wait; the closing itself goes on, and the
        interpreter's exit does not wait for it again.

        Args:
            drain: the most seconds that this may take; subscribers and requests that are too slow are cut off, and
                calls of a run's `on_event` that take longer are not waited for. None: the setting ``drain``.

        Raises:
            SettingError: `drain` is not allowed.

        In a process that did not start the server, a child after a fork, it does nothing.
        """
        seconds = self._drain if drain is None else _settings.checked_seconds("drain", drain)
        until = time.monotonic() + seconds
        try:
            self._engine.close(seconds)
        except BaseException:
            self._left = True
            raise
        finally:
            if self._engine.closed:  # Not where the stack was too full to begin with it.
                _exit.closed(self)
        # The terminal events of runs were published: who is told of them hears so before the process may end.
        self._runs.finish(until)
        self._callbacks.finish(until)
        self._presence.finish(until)
        self._logs.finish()

    async def aclose(self, drain: float | None = None) -> None:
        """Closes as `close` does, without holding up the event loop.

        Where the task is cancelled the closing goes on.

        Args:
            drain: as for `close`.

        Raises:
            SettingError: `drain` is not allowed.
        """
        import asyncio  # noqa: PLC0415 - as above

        from ._wakeups import settle  # noqa: PLC0415 - as above

        seconds = self._drain if drain is None else _settings.checked_seconds("drain", drain)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(error: BaseException | None) -> None:
            if error is not None and not done.done():
                done.set_exception(error)
            settle(done)

        def close() -> None:
            failed: BaseException | None = None
            try:
                self.close(seconds)
            except BaseException as error:  # It is the caller's, who waits in the loop.
                failed = error
            with contextlib.suppress(RuntimeError):  # As above.
                loop.call_soon_threadsafe(finish, failed)

        # Not a thread of the loop's own: those are waited for at its end, and are few.
        threading.Thread(target=close, name="sse_fast close", daemon=True).start()
        try:
            await done
        except BaseException:
            self._left = True
            _exit.closed(self)
            raise

    def __enter__(self) -> Self:
        """The server, which the end of the block closes."""
        self._loop = _loop_of_the_main_thread() or self._loop
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the server; a closing that an exception has left goes on, and is not waited for again."""
        if not self._left:
            self.close()

    async def __aenter__(self) -> Self:
        """The server, which the end of the block closes."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the server; as for `with`."""
        if not self._left:
            await self.aclose()

    def __repr__(self) -> str:
        """Address and state."""
        return f"<sse_fast.Server {'closed' if self.closed else self.url}>"

    @contextlib.contextmanager
    def _told_by_signals(self, tell: Callable[[], bool]) -> Iterator[_Told]:
        """Inside the block SIGINT and SIGTERM call `tell`, where the main thread can be had."""
        waiting, outcome = Waiting(tell), _Told()
        elsewhere = threading.current_thread() is not threading.main_thread()
        loop = self._loop() if elsewhere and self._loop is not None else None
        with contextlib.suppress(RuntimeError):  # A loop that was closed takes no signals.
            waiting.begin() if loop is None else loop.call_soon_threadsafe(waiting.begin)
        try:
            yield outcome
        finally:
            waiting.end(consumed=outcome.consumed)
            with contextlib.suppress(RuntimeError):
                if loop is not None:
                    loop.call_soon_threadsafe(functools.partial(waiting.end, consumed=outcome.consumed))

    def _handler(
        self, method: str, path: str, *, early_head: bool, options: StreamOptions
    ) -> Callable[[Function], Function]:
        if not isinstance(early_head, bool):
            raise _settings.wrong_type("early_head", early_head, "True or False")
        checked = _settings.stream_options(options)

        def decorate(function: Function) -> Function:
            if not callable(function):
                raise _settings.wrong_type(f"the handler of {method} {path}", function, "a callable")
            kind = kind_of(function)
            early = early_head or kind.endswith("generator")
            with self._callbacks.registered(function, kind, checked) as key:
                self._engine.handler(method, path, key, kind=kind, early_head=early, options=checked)
            return function

        return decorate

    def _serve_assets(self) -> None:
        for path, content_type in _ASSETS.items():
            file = _STATIC / path.removeprefix("/")
            try:
                body = file.read_bytes()
            except FileNotFoundError as error:
                raise StartError(f"the package lacks its file {file}: install it again") from error
            self._engine.asset(path, content_type, body)


def _stream_name(stream: object) -> str:
    if isinstance(stream, (str, Stream)):
        return stream if isinstance(stream, str) else stream.name
    raise _settings.wrong_type("stream", stream, "a stream or the name of one")


class _Told:
    """Whether what ended the waiting, perhaps a signal, was acted upon."""

    consumed = False


def _loop_of_the_main_thread() -> weakref.ref[asyncio.AbstractEventLoop] | None:
    """The event loop that runs in this thread, if this is the main one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or threading.current_thread() is not threading.main_thread():
        return None
    loop = asyncio._get_running_loop()  # noqa: SLF001 - unlike get_running_loop it does not raise; documented in asyncio
    return None if loop is None else weakref.ref(loop)


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
