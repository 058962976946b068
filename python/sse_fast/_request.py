"""Requests that Python answers: what a handler gets, what it may return, and the threads that run it.

Owns: `Request`, `Response`, and `Callbacks`, the table of handlers and `exists` checks with its threads.
Must not know: routes and URLs (the engine matches them), sockets.
Invariants: every call is answered exactly once, whatever the callable does; the engine answers 500 for one that is
dropped. An error inside a handler reaches the log, never the client. A handler thread does not hold the interpreter
while it waits. At shutdown idle threads end by themselves; one that is inside a handler is a daemon and delays nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._core import Stream, json_dumps
from ._exceptions import ArgumentTypeError, HttpError, ResponseError, checked_status

if TYPE_CHECKING:
    from ._core import Call
    from ._core import Server as Engine

_LOG = logging.getLogger("sse_fast.handler")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # A header's name (RFC 9110, 5.6.2).
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # Not in a header's value: a line end would split the response.
#: Headers that describe the connection, which the engine keeps; a handler's could contradict what it does.
_ENGINE_HEADERS = frozenset(
    {
        *("connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)

#: What `Server.route` asks whether a stream is to exist, by its name: a function, or an ``async def`` function.
Exists = Callable[[str], object]


class Headers(Mapping[str, str]):
    """A request's headers; names in any case. Several of one name are joined with a comma, as HTTP allows."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        """Takes the pairs in the order of the request."""
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        """The value of the header `name`."""
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        """The names, in lower case."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many names there are."""
        return len(self._values)

    def __repr__(self) -> str:
        """The names only: values may be secrets."""
        return f"<Headers {', '.join(self._values)}>"


class Request:
    """What a handler is called with.

    Attributes:
        method: the method, such as ``"POST"``.
        path: the path, decoded.
        params: the values of the path's placeholders.
        query: the query string's parameters; the first value of each name, all of them in `query_list`.
        headers: the headers; names in any case.
        body: the body as bytes; at most ``max_body_bytes`` long.
        client: the address and port of the other end, or None.
    """

    __slots__ = ("body", "client", "headers", "method", "params", "path", "query", "query_list")

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a request, in the order of the wire
        self,
        method: str,
        path: str,
        params: list[tuple[str, str]],
        query: list[tuple[str, str]],
        headers: list[tuple[str, str]],
        body: bytes,
        client: tuple[str, int] | None,
    ) -> None:
        """Takes what the engine parsed."""
        self.method = method
        self.path = path
        self.params: dict[str, str] = dict(params)
        self.query_list: list[tuple[str, str]] = query
        self.query: dict[str, str] = dict(reversed(query))
        self.headers = Headers(headers)
        self.body = body
        self.client = client

    def json(self) -> Any:  # noqa: ANN401 - JSON is any of its types
        """The body, parsed as JSON.

        Raises:
            HttpError: 400 ``bad_json``, when the body is not JSON; a handler need not catch it.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise HttpError(400, f"the body is not JSON: {error}", error="bad_json") from error

    def __repr__(self) -> str:
        """Method and path; no query, which may hold a secret."""
        return f"<Request {self.method} {self.path}>"


#: What answers requests: a function, or an ``async def`` function, that is given a `Request`; see `Server.post`.
Handler = Callable[[Request], object]


class Response:
    """A whole response, for handlers that need more than a JSON body with status 200.

    Args:
        body: bytes as they are, str as UTF-8, anything else as JSON.
        status: the HTTP status.
        headers: further headers, names in any case. Those of the connection belong to the engine: ``Connection``,
            ``Content-Length``, ``Date``, ``Keep-Alive``, ``Proxy-Connection``, ``TE``, ``Trailer``,
            ``Transfer-Encoding`` and ``Upgrade`` are refused.
        content_type: overrides the one in `headers`; by default it follows from the body's type:
            ``application/octet-stream``, ``text/plain; charset=utf-8`` or ``application/json``.

    Raises:
        EventTypeError: the body is not JSON-able.
        ResponseError: the status is not from 200 to 599, or a header cannot be sent: its name is not a token, its value
            has a line end or another control character, or it is one of the engine's.
        ArgumentTypeError: the status is not a whole number, or a header's name is not a str.

    >>> Response({"id": 7}, status=201).body
    b'{"id":7}'
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: object = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> None:
        """Encodes the body and checks status and headers."""
        self.status = checked_status("a Response", status, 200)
        self.body, by_type = _encode_body(body)
        given = dict(_checked_header(name, value) for name, value in (headers or {}).items())
        if content_type is not None:
            given.update([_checked_header("content-type", content_type)])
        self.headers = {"content-type": by_type, **given}


def _checked_header(name: object, value: object) -> tuple[str, str]:
    """A header as it is sent, its name in lower case.

    Checked where the handler makes the response: the engine would find a header that cannot be written only later.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"the name of a header must be a str, not {type(name).__name__}: {name!r}")
    if not _TOKEN.fullmatch(name):
        raise ResponseError(f"the header {name!r} cannot be sent: its name must be letters, digits and !#$%&'*+-.^_`|~")
    lower, text = name.lower(), str(value)
    if lower in _ENGINE_HEADERS:
        raise ResponseError(
            f"the header {name!r} belongs to the engine, which frames the response itself: leave it out"
        )
    if found := _CONTROL.search(text):
        raise ResponseError(
            f"the header {name!r} cannot be sent: {found[0]!r} at position {found.start()} of its value"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        reason = f"a lone surrogate at position {error.start} of its value, which UTF-8 cannot express"
        raise ResponseError(f"the header {name!r} cannot be sent: {reason}") from error
    return lower, text


def _encode_body(body: object) -> tuple[bytes, str]:
    """The body's bytes, and the content type for its Python type."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body), "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json_dumps(body), "application/json"


def _json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON whatever its type; a str is a JSON string."""
    return Response(json_dumps(value), status, headers, "application/json")


# Written as bytes, because importing the package must not import the JSON encoder.
_INTERNAL_ERROR = Response(
    b'{"error":"internal","detail":"the handler failed; see the server\'s log"}', 500, None, "application/json"
)


class Callbacks:
    """The callables that the engine may ask for, by key, and the threads that call them.

    The threads start with the first callable, so that a server without handlers has none.
    """

    def __init__(self, engine: Engine, threads: int) -> None:
        """Takes the engine whose calls are answered and how many threads may do so."""
        self._engine = engine
        self._threads = threads
        self._keys = itertools.count(1)
        self._callables: dict[int, Callable[[Any], Any]] = {}
        self._starting = threading.Lock()  # Protects `_started`; no callable runs under it.
        self._started = False

    @contextlib.contextmanager
    def registered(self, function: Callable[[Any], Any]) -> Iterator[int]:
        """A key for `function`, kept if the block, which tells the engine about it, succeeds."""
        key = next(self._keys)
        self._callables[key] = function
        try:
            yield key
        except BaseException:
            del self._callables[key]
            raise
        with self._starting:
            if not self._started:
                for number in range(self._threads):
                    name = f"sse_fast handler {number + 1}"
                    threading.Thread(target=self._serve, name=name, daemon=True).start()
                self._started = True

    def _serve(self) -> None:
        """One handler thread: waits, answers, until the engine stops."""
        while (call := self._engine.next_call()) is not None:
            try:
                self._answer(call)
            except BaseException:  # The engine refused the answer, or logging raised; this thread goes on.
                _answer_failure(call)
            del call  # Dropped before the wait, because a call without an answer becomes a 500 when it is dropped.

    def _answer(self, call: Call) -> None:
        function = self._callables[call.key]
        parts = call.request()
        if parts is None:
            call.answer_exists(_call_exists(function, call.stream or ""))
            return
        answer = _call_handler(function, Request(*parts), self._engine.json)
        if isinstance(answer, Stream):
            call.answer_stream(answer)
        else:
            call.answer_response(answer.status, list(answer.headers.items()), answer.body)


def _answer_failure(call: Call) -> None:
    """Answers 500 for a call whose answer failed; called while that exception is handled."""
    with contextlib.suppress(BaseException):  # A logging handler of the application may raise.
        _LOG.exception("answering a request failed")
    with contextlib.suppress(BaseException):  # It may have been answered already, or be an `exists` check.
        call.answer_response(500, list(_INTERNAL_ERROR.headers.items()), _INTERNAL_ERROR.body)


def _call_handler(function: Handler, request: Request, dumps: Callable[[object], bytes]) -> Stream | Response:
    """The handler's result or exception as an answer; `dumps` encodes what is neither."""
    try:
        value = _result_of(function(request))
        if isinstance(value, (Stream, Response)):
            return value
        return Response(status=204) if value is None else Response(dumps(value), content_type="application/json")
    except HttpError as error:
        return _json_response({"error": error.error, "detail": error.detail}, error.status, error.headers)
    except BaseException:  # SystemExit too: here it could end only this thread of the server.
        _LOG.exception("the handler of %s %s failed", request.method, request.path)
        return _INTERNAL_ERROR


def _call_exists(function: Exists, stream: str) -> bool:
    """Whether the stream is to exist. A check that raises counts as False, and the engine asks again."""
    try:
        return bool(_result_of(function(stream)))
    except BaseException:  # As in `_call_handler`.
        _LOG.exception("the exists check for stream %r failed", stream)
        return False


def _result_of(value: object) -> object:
    """The result of a callable; a coroutine is run on an event loop of its own."""
    if not inspect.isawaitable(value):
        return value
    import asyncio  # noqa: PLC0415 - only programs that use it pay for it

    async def awaited() -> object:
        return await value

    return asyncio.run(awaited())
