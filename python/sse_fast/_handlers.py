"""Handlers and `exists` checks: which callable a call means, and who calls it.

Owns: `Callbacks`, the table of callables with the kind of each, and the threads that take calls: for handlers,
generators, and checks of rights, none of which waits for another kind.
Must not know: routes and URLs (the engine matches them), what an answer looks like (`_answers`), sockets.
Invariants: every call is answered exactly once, whatever the callable does; the engine answers 500 for one that is
dropped. A thread that waits does not hold the interpreter; none is held by a coroutine that waits. What is needed for a
kind of callable starts with the first of that kind. At shutdown idle threads end by themselves; one that is inside a
handler is a daemon and delays nothing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

from . import _records, _threads
from ._answers import LOG, answer, refuse
from ._authorize import decide, failed
from ._calling import serving
from ._generators import Feed, GeneratorThreads, pump, pump_async
from ._request import Request
from ._settings import wrong_type

if TYPE_CHECKING:
    import asyncio

    from ._core import Call
    from ._core import Server as Engine
    from ._handler_loop import HandlerLoop

#: What answers requests: a function, a coroutine function or a generator, given a `Request`; see `Server.post`.
Handler = Callable[[Request], Any]

#: What `Server.route` asks whether a stream is to exist, by its name: a function, or an ``async def`` function.
Exists = Callable[[str], object]

#: What a handler is, which decides who calls it.
Kind = Literal["function", "coroutine", "generator", "async generator"]


def kind_of(function: Callable[..., object]) -> Kind:
    """What calling `function` gives, as far as can be told without calling it."""
    is_plain = inspect.isroutine(function) or isinstance(function, (functools.partial, type))
    called = function if is_plain else type(function).__call__
    if inspect.isasyncgenfunction(called):
        return "async generator"
    if inspect.isgeneratorfunction(called):
        return "generator"
    return "coroutine" if inspect.iscoroutinefunction(called) else "function"


class Callbacks:
    """The callables that the engine may ask for, by key, and the threads that call them.

    Args:
        engine: whose calls are answered.
        threads: how many threads call functions.
        check_threads: how many threads call a function that checks rights, and nothing else.
        generator_threads: how many generators run at a time.
        loop: the caller's event loop for what is asynchronous; None makes one when it is needed.
    """

    def __init__(
        self,
        engine: Engine,
        threads: int,
        generator_threads: int,
        check_threads: int,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Starts nothing."""
        self._engine = engine
        self._threads = threads
        self._check_threads = check_threads
        self._given_loop = loop
        self._process = os.getpid()
        self._keys = itertools.count(1)
        self._callables: dict[int, Callable[..., Any]] = {}
        self._options: dict[int, dict[str, Any]] = {}  # Of the streams that generators fill.
        self._starting = threading.Lock()  # Protects what follows; no callable runs under it.
        self._function_threads: list[_threads.Started] = []
        self._started_threads = 0  # Of those, the ones that call handlers.
        self._loop: HandlerLoop | None = None
        self._finished = False
        self._generators = GeneratorThreads(engine, generator_threads, self._run_generator)

    @contextlib.contextmanager
    def registered(
        self, function: Callable[[Any], Any], kind: Kind, options: dict[str, Any] | None = None
    ) -> Iterator[int]:
        """A key for `function`, kept if the block, which tells the engine about it, succeeds."""
        key = next(self._keys)
        self._callables[key] = function
        self._options[key] = options or {}
        try:
            yield key
        except BaseException:
            del self._callables[key], self._options[key]
            raise
        if kind == "function":
            self._start_threads()
        elif kind == "generator":
            self._generators.start()
        else:
            self._handler_loop()

    def authorize(self, check: Callable[..., Any]) -> bool:
        """From now on `check` decides who may read; False where another does already."""
        kind = kind_of(check)
        if kind.endswith("generator"):
            raise wrong_type("authorize", check, "a function or an async def function, not a generator")
        key = next(self._keys)
        self._callables[key] = check
        if not self._engine.authorize(key, kind):
            del self._callables[key]
            return False
        if kind == "function":
            with self._starting:
                for number in range(self._check_threads):
                    serve = functools.partial(self._serve, "checks")
                    self._function_threads.append(_threads.start(serve, f"sse_fast authorize {number + 1}"))
        else:
            self._handler_loop()
        return True

    def finish(self, until: float) -> None:
        """Waits for what still runs, until that time by `time.monotonic`; called once the engine has stopped.

        A child after a fork does nothing: the event loop is the parent's.
        """
        if os.getpid() != self._process:
            return
        with self._starting:
            self._finished = True
        if self._loop is not None:
            self._loop.finish(until)
        _threads.join_those_that_leave([*self._function_threads, *self._generators.threads()])

    def _start_threads(self) -> None:
        with self._starting:
            while self._started_threads < self._threads:
                self._started_threads += 1
                serve = functools.partial(self._serve, "threads")
                self._function_threads.append(_threads.start(serve, f"sse_fast handler {self._started_threads}"))

    def _handler_loop(self) -> HandlerLoop:
        """The event loop of everything asynchronous."""
        from ._handler_loop import HandlerLoop  # noqa: PLC0415 - only programs that use it pay for asyncio

        with self._starting:
            if self._loop is None:
                if self._finished:  # Nobody would end it.
                    raise RuntimeError("the server is closed: nothing asynchronous begins any more")
                self._loop = HandlerLoop(self._engine, self._serve_async, self._given_loop)
            return self._loop

    def _serve(self, lane: str) -> None:
        """One thread for functions: waits, answers, until the engine stops."""
        while (call := self._engine.next_call(lane)) is not None:
            if isinstance(call, int):  # The loop's lane alone has numbers.
                continue
            try:
                with serving(self._engine):
                    if call.names is not None:
                        self._call_check(call, call.names)
                    elif call.stream is None:
                        self._call_handler(call)
                    else:
                        self._call_exists(call, call.stream)
            except BaseException:  # Logging raised, or there is no thread or loop; this thread goes on.
                with contextlib.suppress(BaseException):
                    LOG.exception("answering a request failed")
            del call  # Dropped before the wait, because a call without an answer becomes a 500 when it is dropped.

    def _call_handler(self, call: Call) -> None:
        request = request_of(call)
        try:
            value = self._callables[call.key](request)
        except BaseException as error:  # SystemExit too: here it could end only this thread of the server.
            refuse(call, request, error, self._engine.json)
            return
        if inspect.isawaitable(value):
            self._handler_loop().start(self._marked(self._answer_awaited(call, request, value)))
        elif inspect.isasyncgen(value):
            self._handler_loop().start(self._marked(self._generate_async(call, request, value)))
        elif inspect.isgenerator(value):
            self._generators.run(call, request, value)
        else:
            answer(call, request, value, self._engine.json)

    def _call_check(self, call: Call, names: tuple[str, ...]) -> None:
        """Decides whether a request may read."""
        request = request_of(call)
        try:
            value = self._callables[call.key](request, names)
        except BaseException as error:  # As in `_call_handler`.
            failed(call, request, error, self._engine.json)
            return
        if inspect.isawaitable(value):
            self._handler_loop().start(self._marked(self._decide_awaited(call, request, value)))
        else:
            decide(call, request, value, self._engine.json)

    async def _decide_awaited(self, call: Call, request: Request, value: object) -> None:
        """Decides by what the awaitable brings that a check returned; or by that value itself."""
        _name_task(self._callables[call.key])
        try:
            outcome = await value if inspect.isawaitable(value) else value
        except BaseException as error:  # CancelledError too: nobody has decided.
            failed(call, request, error, self._engine.json)
            return
        decide(call, request, outcome, self._engine.json)

    async def _check_async(self, call: Call, names: tuple[str, ...]) -> None:
        request = request_of(call)
        try:
            value = self._callables[call.key](request, names)
        except BaseException as error:  # As above.
            failed(call, request, error, self._engine.json)
            return
        await self._decide_awaited(call, request, value)

    def _call_exists(self, call: Call, stream: str) -> None:
        """Answers whether a stream is to exist. A check that raises counts as no, and the engine asks again."""
        try:
            value = self._callables[call.key](stream)
        except BaseException:  # As in `_call_handler`.
            _log_exists(stream)
            value = False
        if inspect.isawaitable(value):
            self._handler_loop().start(self._marked(_answer_exists(call, stream, value)))
        else:
            call.answer_exists(_is_true(stream, value))

    async def _marked(self, coroutine: Coroutine[Any, Any, None]) -> None:
        with serving(self._engine):
            await coroutine

    async def _serve_async(self, call: Call) -> None:
        """Answers one call of an asynchronous handler; the task of that call, on the loop."""
        with serving(self._engine):
            if call.names is None:
                await self._call_async(call)
            else:
                await self._check_async(call, call.names)

    async def _call_async(self, call: Call) -> None:
        request, function = request_of(call), self._callables[call.key]
        _name_task(function)
        try:
            value = function(request)
            if inspect.isawaitable(value):
                value = await value
        except BaseException as error:  # CancelledError too: the client is told that there is no answer.
            refuse(call, request, error, self._engine.json)
            return
        if inspect.isasyncgen(value):
            with self._handler_loop().generating(call):
                await self._generate_async(call, request, value)
        elif inspect.isgenerator(value):
            self._generators.run(call, request, value)
        else:
            answer(call, request, value, self._engine.json)

    async def _answer_awaited(self, call: Call, request: Request, value: Awaitable[object]) -> None:
        """Answers with what the awaitable brings that a function returned."""
        _name_task(self._callables[call.key])
        try:
            outcome = await value
        except BaseException as error:  # As in `_serve_async`.
            refuse(call, request, error, self._engine.json)
            return
        answer(call, request, outcome, self._engine.json)

    async def _generate_async(self, call: Call, request: Request, generator: AsyncGenerator[object, Any]) -> None:
        await pump_async(Feed(self._engine, call, request, self._options[call.key]), generator)

    def _run_generator(
        self, call: Call, request: Request | None, generator: Generator[object, Any, Any] | None
    ) -> None:
        """Runs a generator on its thread; without one, the call's handler makes it."""
        request = request or request_of(call)
        if generator is None:
            try:
                value = self._callables[call.key](request)
            except BaseException as error:  # As in `_call_handler`.
                refuse(call, request, error, self._engine.json)
                return
            generator = cast("Generator[object, Any, Any]", value)
        pump(Feed(self._engine, call, request, self._options[call.key]), generator)


def request_of(call: Call) -> Request:
    """The request that a handler is called with."""
    parts = call.request()
    if parts is None:
        raise TypeError("an exists check has no request")
    return Request(*parts)


async def _answer_exists(call: Call, stream: str, value: Awaitable[object]) -> None:
    try:
        outcome = await value
    except BaseException:  # As in `Callbacks._call_handler`.
        _log_exists(stream)
        outcome = False
    call.answer_exists(_is_true(stream, outcome))


def _is_true(stream: str, value: object) -> bool:
    try:
        return bool(value)
    except BaseException:  # It may be anything.
        _log_exists(stream)
        return False


def _log_exists(stream: str) -> None:
    """Logs the exception that is handled now."""
    with contextlib.suppress(BaseException):  # A logging handler of the application may raise.
        LOG.exception("the exists check for stream %r failed", _records.shown(stream))


def _name_task(function: Callable[..., object]) -> None:
    """Names the running task after the handler that it serves."""
    import asyncio  # noqa: PLC0415 - only programs that use it pay for it

    from ._handler_loop import SERVING  # noqa: PLC0415 - as above

    task = asyncio.current_task()
    if task is not None:
        task.set_name(SERVING + getattr(function, "__qualname__", repr(function)))
