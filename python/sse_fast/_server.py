"""`serve` and `Server`: the life of one engine.

Owns: starting, and the names by which a server is used.
Must not know: sockets, HTTP, delivery; a server's threads, which belong to `Callbacks`, `Runs` and `LogThread`; how it
ends (`_lifetime`); what the interpreter's exit and a fork ask for, which `_exit` does.
Invariants: a server lives until `close`, even without a reference to it. Every Python thread that it starts is a
daemon, waits without holding the interpreter and ends with the engine. The engine stops before the interpreter is torn
down.
This file is long because every method of `Server` carries its documentation.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from . import _exit, _public, _run, _settings, _threads
from ._core import KeySource, Stream, use_hub_sleep
from ._core import Server as Engine
from ._event import Event
from ._exceptions import SettingError, StartError
from ._handlers import Callbacks, Exists, Handler, kind_of
from ._hints import Self, Unpack, asyncio
from ._lifetime import Ends, Lifetime
from ._logs import LogThread
from ._presence import PresenceCallbacks
from ._rights import Authorize, Tokens, checked_patterns, checked_reader, rules_of
from ._settings import Encoder, ServeSettings, StreamOptions
from ._stats import ServerStats
from ._watch import Poll, Until, Watch, Watches

Function = TypeVar("Function", bound=Handler)
Check = TypeVar("Check", bound=Authorize)
Joined = TypeVar("Joined", bound=Callable[[Stream, "str | None"], object])

_CHECK = "a callable that is given the request and the names of the streams, or None"
_STATIC = Path(__file__).parent / "static"
_ASSETS = {"/sse-fast.js": "text/javascript; charset=utf-8", "/sse-fast.d.ts": "text/plain; charset=utf-8"}


def serve(  # noqa: PLR0913 - what is no setting, because the environment cannot hold it
    port: int | None = None,
    *,
    host: str | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    json: Encoder | None = None,
    authorize: Authorize | None = None,
    tokens: Tokens | None = None,
    streams: Mapping[str, StreamOptions] | None = None,
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
        json: an encoder of one's own: called with each value that is neither str nor bytes, wherever this server sends
            JSON, and returns it as str or bytes. It runs in the thread that publishes; one that takes more than a
            second for a value may abort a process that ends while a daemon thread is inside it. What it raises becomes
            the cause of an `EventTypeError`. None: the encoder whose table is in ``docs/reference/values.md``.
        authorize: who may read; see `Server.authorize`.
        tokens: the tokens that let readers in; see `Tokens`.
        streams: stream options by patterns of names, such as ``{"users/**": {"private": True, "history": 1000}}``, in
            force for every stream of such a name from the moment it is made, also by a route or a run; of two that
            match the later one counts, and what `Server.stream` is given counts before both. ``*`` is one whole
            segment, a trailing ``/**`` everything below.
        **settings: the server's settings, and the defaults of its streams' options. Each can also be given as
            ``SSE_FAST_<NAME>`` in the environment; a keyword beats the environment.

    Raises:
        SettingError: a setting is unknown or not allowed.
        ArgumentTypeError: `loop` is not an event loop, `json` or `authorize` cannot be called, `tokens` is no `Tokens`,
            or `streams` is no mapping.
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
    if json is not None and not callable(json):
        raise _settings.wrong_type("json", json, "a callable that returns a value as JSON, or None")
    resolved = _settings.serve_settings(given)
    rights = Rights(authorize, tokens, streams)
    if loop is not None and not hasattr(loop, "call_soon_threadsafe"):
        raise _settings.wrong_type("loop", loop, "an event loop of asyncio, or None")
    _raise_open_files_limit()
    return Server(resolved, loop, json, rights)


class Rights(NamedTuple):
    """What `serve` is told of who may read."""

    authorize: Authorize | None = None
    tokens: Tokens | None = None
    streams: Mapping[str, StreamOptions] | None = None


class Server:
    """A running server; made by `serve`. As a context manager, ``with`` or ``async with``, it is closed at the end.

    Every method may be called from any thread. None waits for a subscriber but `close` and `aclose`, and `wait` and
    `wait_async`, which end with them.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None = None,
        json: Encoder | None = None,
        rights: Rights = Rights(),  # noqa: B008 - a value
    ) -> None:
        """Starts the engine; use `serve`."""
        authorize, tokens, streams = rights
        if authorize is not None and not callable(authorize):
            raise _settings.wrong_type("authorize", authorize, _CHECK)
        if tokens is not None and not isinstance(tokens, Tokens):
            raise _settings.wrong_type("tokens", tokens, "a Tokens, or None")
        keys = KeySource() if tokens is not None and tokens.jwks is not None else None
        self._host: str = settings["host"]
        self._metrics = bool(settings["metrics"])
        if _threads.may_have_hubs():
            use_hub_sleep(_threads.hub_sleep)
        threads, generator_threads = settings.pop("handler_threads"), settings.pop("generator_threads")
        check_threads: int = settings.pop("authorize_threads")
        drain: float = settings.pop("drain")
        lame_duck: float = settings.pop("lame_duck")
        stream = {name: value for name, value in settings.items() if _settings.is_stream_option(name)}
        settings = {name: value for name, value in settings.items() if name not in stream}
        settings["tokens"] = rules_of(tokens, keys)
        settings["streams"] = _settings.options_by_pattern(streams)
        self._engine = Engine(settings, stream, json)
        self._callbacks = Callbacks(self._engine, threads, generator_threads, check_threads, loop)
        self._runs = _run.Runs(self._engine)
        self._watches = Watches()
        self._presence = PresenceCallbacks(self._engine.presence())
        self._engine.set_callbacks(self._presence)
        logs = LogThread(self._engine)
        parts: list[Ends] = [self._runs, self._callbacks, self._presence]
        if keys is not None and tokens is not None and tokens.jwks is not None:
            from ._jwks import KeyFetcher  # noqa: PLC0415 - only servers that fetch keys pay for it

            parts.append(KeyFetcher(keys, tokens.jwks))
        self._lifetime = Lifetime(self._engine, drain, lame_duck, parts, logs)
        _exit.opened(self._lifetime, drain, self._engine.held())
        try:
            logs.start()
            self._serve_assets()
            if authorize is not None:
                self.authorize(authorize)
        except BaseException:
            self._engine.close(0.0)
            _exit.closed(self._lifetime)
            raise

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._engine.port

    @property
    def url(self) -> str:
        """Its address for a client on this machine, such as ``http://127.0.0.1:8080``."""
        return _url(self._host, self.port)

    @property
    def metrics_url(self) -> str | None:
        """Where its numbers are for Prometheus on this machine; None where the setting `metrics` is off."""
        address = self._engine.metrics_address()
        if address is not None:
            return f"{_url(*address)}/metrics"
        return f"{self.url}/metrics" if self._metrics else None

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
            TooManyStreams: there is none of that name, and there are ``max_streams`` others.
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
        argv: Iterable[_run.RunArgument],
        *,
        stream: str | Stream,
        cwd: _run.RunArgument | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        marker: str | None = "SSE_EVENT:",
        lines: str | None = None,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        grace: float = 5.0,
        drain: float = 2.0,
        **options: Unpack[StreamOptions],
    ) -> _run.Run:
        r"""Starts a child process whose marked output lines become the events of a stream.

        The engine reads both its pipes whatever Python does; other lines go to the logger ``sse_fast.run``, never to
        the stream, unless `lines` names an event for them. After its exit the stream ends with an ``end`` event.
        `Server.close` terminates it. On Linux it is killed when this process ends without that, killed or not, unless
        it changed its user; elsewhere it lives on. Processes that it starts itself are its own affair. Where it cannot
        be started, a stream that this call made is removed again.

        A stream has one run at a time: a second one is refused, because the end of the first would end it in the middle
        of the second. A `watch` and a program's own `publish` may write beside a run; its end is theirs, too. After its
        end a stream begins anew with `Stream.remove`.

        Args:
            argv: the command and its arguments; no shell is involved.
            stream: the stream, or its name.
            cwd: the working directory.
            env: the whole environment; None passes this process's. ``SSE_FAST_MARKER`` is always added.
            stdin: what the process reads from its standard input, which then ends: bytes, or a str as UTF-8. The engine
                keeps it and writes as fast as the process reads; one that does not read it all is no error, as with
                `subprocess.run`. None is an empty input.
            marker: what a line that is an event starts with; None accepts only the run's own random marker, which
                `sse_fast.runner.emit` uses.
            lines: the name of the event that every other line becomes, of both pipes, such as ``"log"``: for programs
                that print no markers. Its data is the line as it is, what is not UTF-8 replaced. These lines are not
                logged, and do not become the run's `status` or `result`. In place of a line above
                ``max_event_bytes`` comes an ``error`` event. None: other lines are logged.
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
            StreamError: another run writes into the stream; the text names it.
            ServerClosed: the server was closed.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     run = server.run(["sort"], stream="sorted", stdin="pear\nfig\n", lines="log")
        ...     [(event.event, event.data) for event in run.stream.events(timeout=30.0)][:2]
        [('log', 'fig'), ('log', 'pear')]
        """
        if on_event is not None and not callable(on_event):
            raise _settings.wrong_type("on_event", on_event, "a callable that is given an event, or None")
        args = _run.arguments(argv)
        spec = _run.specification(
            args,
            cwd=cwd,
            env=env,
            stdin=stdin,
            marker=marker,
            lines=lines,
            timeout=timeout,
            grace=grace,
            drain=drain,
        )
        options.setdefault("start", "all")
        name = _stream_name(stream)
        if not name and isinstance(stream, Stream):
            checked = _settings.stream_options(options)
            self._runs.check(stream)
            stream._configure(checked)  # noqa: SLF001 - part of this package
            return self._runs.start(args, spec, stream, on_event, new=False)
        present = self._engine.find(name)
        if present is not None:  # Before the options are set: they are those of the run that writes there.
            self._runs.check(present)
        return self._runs.start(args, spec, self.stream(name, **options), on_event, new=present is None)

    def watch(  # noqa: PLR0913 - each is a decision of the caller
        self,
        poll: Poll,
        *,
        stream: str | Stream,
        until: Until,
        every: float = 5.0,
        event: str | None = None,
        max_failures: int = 10,
    ) -> Watch:
        """Polls a callable on a thread of its own and publishes what changes.

        A change is one of the event's bytes: an object that is changed in place and returned again is a new state, and
        an equal one is not. Heartbeats go on while a poll is slow or blocked. The watch ends with the server.

        Several watches may write into a stream where each has an `event` name of its own: the first that comes to its
        last state ends the stream, and with it the others; ``until=()`` never does. A second one with the same `event`,
        given or not, is refused: nobody could tell their events apart. A `run` may write there, too.

        Args:
            poll: returns the present state: a dict with a ``"status"``, a str, or anything JSON-able. An ``async def``
                function is awaited on an event loop that this watch keeps for all its polls, so that what belongs to a
                loop, such as a client's connections, serves the next poll, too.
            stream: the stream, or its name.
            until: which state is the last: a callable that is given it, or the terminal statuses.
            every: seconds from the end of one poll to the next.
            event: the name of every event; by default the state's ``"status"``, else ``"status"``.
            max_failures: after so many failures in a row the stream ends with an ``error`` event; an exception is one,
                and a state that cannot be published. Each is logged, and doubles the wait for the next poll, up to a
                minute. The event's data says what the last one was: ``{"error": "watch_failed", "failures",
                "detail"}``, the detail being the exception with its text. A browser's EventSource hands an event of
                this name to ``onerror`` as well as to its listeners: there an event with ``data`` is this one, and one
                without is a lost connection.

        Raises:
            SettingError: `every` or `max_failures` is not allowed.
            ArgumentTypeError: `poll` cannot be called, or `stream` is neither a stream nor a name.
            StreamError: another watch publishes the same `event` into the stream.
            ServerClosed: the server was closed.

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
        if event is not None and not isinstance(event, str):
            raise _settings.wrong_type("event", event, "a str, or None")
        return self._watches.start(
            poll,
            every=_settings.checked_seconds("every", every, low=0.001),
            stream=stream if isinstance(stream, Stream) else self.stream(_stream_name(stream)),
            until=(until,) if isinstance(until, str) else until,
            event=event,
            max_failures=_settings.checked_whole("max_failures", max_failures, low=1),
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
        unless it yields an event named ``end`` itself, which is the last: it is closed there. What it raises is its
        answer before the first event, and an ``error`` event after that. A browser that comes back within ``linger``
        gets what it lacks, or 204, and nothing is generated again. The stream's id is all that it takes, and cannot be
        guessed. Where the reader had left before the end, the last event is an ``error``. Up to 1,024 such streams,
        with 64 MiB, are kept.

        Under load: while every thread is busy requests wait, and streams do not. ``handler_queue`` may wait, with
        64 MiB of bodies, those included that are still coming; beyond that the answer is 503 with ``Retry-After``, and
        for a GET that names ``text/event-stream`` an empty stream that tells a browser to come back. A request whose
        client has gone before it began is dropped.

        At shutdown requests in flight have the ``drain`` of `Server.close`; what asynchronous handlers left running has
        what remains of it, and is cancelled then, which is logged.

        Args:
            path: the path, or a template such as ``"/jobs/{id}"``; see `route`.
            early_head: sends an event stream's head, and heartbeats, while the function still works, from the first
                interval of its heartbeat on, as `heartbeat`, `heartbeat_comment` and `heartbeat_event` say; it must
                then return a stream. If it fails after that, its error is the stream's last event, and a browser that
                comes back gets 204. A generator always does so.
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

        `reader` is who it is, as ``authorize``, a token or a ticket named it; None is anonymous. Joins and leaves of
        each stream are told in their order, also of nameless ones, one after another on a thread of the server's own,
        never on the engine's. A callback that is slow delays the others and no reader; up to 65,536 joins and leaves
        wait for it, what comes beyond is lost, logged as a WARNING and counted in `stats` as ``presence_missed``. An
        exception is logged. Who is here already is told only when it leaves. At shutdown those who leave are told too,
        within ``drain``.

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

    def authorize(self, check: Check) -> Check:
        """Decorates the function that decides who may read; the same as ``serve(authorize=...)``. Returns it.

        It is called with a `Request` and the tuple of all the names that this asks for, once for each request at
        ``/streams/`` or a route that has no token and no ticket, before anybody looks whether there are such streams;
        also for each poll, and when a reader comes back; never for an event. What a handler returns is the handler's
        own decision. ``True`` lets in (anonymously), so do a str that is not empty (the reader's name) and a `Grant`;
        ``False`` and None are 403. An `HttpError`, raised or returned, is the answer. Anything else that it returns
        is 403, and logged as an ERROR; what it raises is logged as an ERROR, lets nobody in, and is answered 503, or,
        to a GET that names ``text/event-stream``, by an empty stream that tells a browser to come back.

        A function runs on ``authorize_threads`` threads that do nothing else; an ``async def`` function on the event
        loop of the handlers. Under load ``handler_queue`` requests wait; beyond that they are turned away as those are
        for whom it fails. At shutdown those that wait are told to come back.

        Args:
            check: what decides; once for each server.

        Raises:
            ArgumentTypeError: `check` cannot be called, or is a generator.
            SettingError: another function decides already.
            ServerClosed: the server was closed.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...
        ...     @server.authorize
        ...     def check(request, names):
        ...         user = {"secret of ann": "ann"}.get(request.cookies.get("session", ""))
        ...         return user if user and all(name.startswith(f"users/{user}/") for name in names) else False
        """
        if not callable(check):
            raise _settings.wrong_type("authorize", check, _CHECK)
        if not self._callbacks.authorize(check):
            raise SettingError("authorize is given already: one function decides who may read")
        return check

    def ticket(self, subscribe: Iterable[str], *, reader: str | None = None, ttl: float = 3600.0) -> str:
        """A ticket that lets its holder read these streams, for the URL of a page: ``/streams/NAME?ticket=...``.

        For pages whose ``EventSource`` can send no header, above all from another origin. It serves reconnects too,
        until it expires: then the reader gets an ``auth`` event with ``{"reason": "expired"}``, and is disconnected;
        ``sse-fast.js`` takes ``token: async () => ticket`` and renews by itself. It is taken from the URL alone, and
        nothing else is taken from there. The engine logs no ticket; a proxy in front may log URLs. Cheap: it makes a
        signature. It does not know what `subscribe` names, and needs no such stream.

        Without ``ticket_key``, an HS256 key in ``tokens`` and a ``publish_key``, its key is a random one of this
        server: then a restart, or another process on the port, refuses it.

        Args:
            subscribe: names of streams and patterns: ``*`` is one whole segment, a trailing ``/**`` everything below.
                There is no literal ``*``: a text that a user chose must not be one of their segments.
            reader: who reads, as in a `Grant`.
            ttl: seconds until it expires.

        Raises:
            SettingError: a pattern or `ttl` is not allowed, or `subscribe` is empty.
            ArgumentTypeError: `subscribe` is no sequence of str, or `reader` no str.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     server.ticket(["runs/42"], reader="ann", ttl=600.0).startswith("sse1.")
        True
        """
        name = None if reader is None else checked_reader(reader)
        seconds = _settings.checked_seconds("ttl", ttl, low=0.001)
        return self._engine.ticket(checked_patterns(subscribe), name, seconds)

    def disconnect(self, reader: str) -> int:
        """Ends every connection of a reader now; returns how many that were.

        What was published before is still delivered, what is published later is not. Tokens and tickets that were
        issued to this reader until now are refused until they expire; a token that does not say when it was issued
        (``iat``) is taken for one of them, and so is one of the same second, or of a time that has not come. The clock
        of who makes tokens may be ahead by the ``leeway`` of `Tokens`: those of so long after this are refused, too,
        also where the reader has logged in again. Where ``authorize`` named the reader it is asked again when the
        reader comes back. Requests of the reader that wait for a stream, or are being decided, get none: 401. It waits
        for the engine, not for sockets: milliseconds. After shutdown nobody is there.

        The 100,000 readers that were disconnected last are known by their names; of those before, the last one's time
        counts for everybody's tokens.

        Args:
            reader: the name that ``authorize``, a token's ``sub`` or a ticket gave it.

        Raises:
            ArgumentTypeError: `reader` is not a str.
            SettingError: `reader` is empty.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     server.disconnect("ann")
        0
        """
        return self._engine.disconnect(checked_reader(reader))

    def stats(self) -> ServerStats:
        """The server's counters and present numbers; cheap enough to be asked every second.

        >>> import sse_fast
        >>> with sse_fast.serve(0) as server:
        ...     _ = server.stream("example").publish("x")
        ...     server.stats().published
        1
        """
        return self._engine.stats()

    def wait(self, timeout: float | None = None) -> None:
        """Serves until Ctrl-C, SIGTERM, or `close` from another thread; then drains and returns.

        Handlers of these signals that the program installed before are called, too, and are in place again afterwards;
        one that it installs while it waits is called alone. A signal that is ignored stays so. A second signal ends the
        process without draining to the end. Another thread than the main one sees only `close`; but where the server
        was made, or its ``with`` block entered, by an event loop of the main thread, that loop takes the signals:
        ``await asyncio.to_thread(server.wait)`` ends as `wait` does in the main thread (a second Ctrl-C waits for it
        there, as `asyncio.run` waits for its threads). Programs of asyncio need no thread with `wait_async`. SIGTERM
        that comes inside such a block before anybody waits ends a wait that begins within half a second; where none
        does it ends the process then, as it would have at once. After a signal the port stays open for ``lame_duck``
        seconds, in which everything is served and ``/readyz`` says 503.

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
        self._lifetime.wait(timeout)

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
        await self._lifetime.wait_async()

    def close(self, drain: float | None = None) -> None:
        """Stops listening, lets requests be answered, gives subscribers what they lack, ends runs. Idempotent.

        The port is free at once. It returns as soon as everybody has everything, and leaves nothing behind. A second
        call waits for the first. A signal handler that raises leaves the wait; the closing itself goes on, and the
        interpreter's exit does not wait for it again. Called by one of the server's own handlers, or by a task on the
        event loop that the server made for them, it begins the closing and returns: these are what is waited for.
        Handlers that have begun when it is called may take the whole drain; none begins once half of it is over: who
        waits for one is answered 503, and nothing of it was done. The client of a handler that takes longer than the
        drain is answered 503 ``cut_off`` then, an EventSource told to come back, and the handler runs on.

        Args:
            drain: the most seconds that this may take; subscribers and requests that are too slow are cut off, and
                calls of a run's `on_event` that take longer are not waited for. None: the setting ``drain``.

        Raises:
            SettingError: `drain` is not allowed.

        In a process that did not start the server, a child after a fork, it does nothing.
        """
        self._lifetime.close(drain)

    async def aclose(self, drain: float | None = None) -> None:
        """Closes as `close` does, without holding up the event loop.

        Where the task is cancelled the closing goes on.

        Args:
            drain: as for `close`.

        Raises:
            SettingError: `drain` is not allowed.
        """
        await self._lifetime.aclose(drain)

    def __enter__(self) -> Self:
        """The server, which the end of the block closes."""
        self._lifetime.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the server; a closing that an exception has left goes on, and is not waited for again."""
        try:
            if not self._lifetime.left:
                self.close()
        finally:
            self._lifetime.leave()

    async def __aenter__(self) -> Self:
        """The server, which the end of the block closes."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the server; as for `with`."""
        try:
            if not self._lifetime.left:
                await self.aclose()
        finally:
            self._lifetime.leave()

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
                raise StartError(f"the package lacks its file {file}: {_how_to_mend()}") from error
            self._engine.asset(path, content_type, body)


def _url(host: str, port: int) -> str:
    """The address for a client on this machine of what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


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


_public.everything()  # Who imports this file alone, as `sse_fast.testing` does, finds the package whole as well.
