"""What a handler is called with, and what it may return.

Owns: `Request` with its headers and cookies, and `Response`.
Must not know: routes and URLs (the engine matches them), how a handler is called (`_handlers`), sockets.
Invariants: a `Response` that was made can be sent: status and headers are checked where the handler makes it. What a
client sent is read-only but for the containers that hold it, and shows up in no `repr` that a log might keep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._core import Stream, json_dumps
from ._exceptions import ArgumentTypeError, HttpError, ResponseError, checked_status

#: Headers as they may be given: a mapping, or pairs where a name comes several times, as `Set-Cookie` does.
HeadersGiven = Mapping[str, str] | Iterable[tuple[str, str]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # A header's name (RFC 9110, 5.6.2).
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # Not in a header's value: a line end would split the response.
#: Headers that describe the connection, which the engine keeps; a handler's could contradict what it does.
_ENGINE_HEADERS = frozenset(
    {
        *("connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
#: Headers of an event stream, likewise.
_STREAM_HEADERS = frozenset({"content-type", "cache-control", "x-accel-buffering"})


class Headers(Mapping[str, str]):
    """A request's headers; names in any case. Several of one name are joined with a comma, cookies with a semicolon."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        """Takes the pairs in the order of the request."""
        self._values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            between = "; " if key == "cookie" else ", "
            self._values[key] = f"{self._values[key]}{between}{value}" if key in self._values else value

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


class Cookies(Mapping[str, str]):
    """A request's cookies, read as RFC 6265 says; read-only.

    The first of several with one name counts: browsers send the one of the longest path first. Quotes around a value
    are taken off, and nothing else is decoded; what has no ``=`` is left out.
    """

    def __init__(self, header: str) -> None:
        """Takes the value of the header ``Cookie``."""
        self._values: dict[str, str] = {}
        for pair in header.split(";"):
            name, equals, value = pair.partition("=")
            name, value = name.strip(" \t"), value.strip(" \t")
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if equals and name:
                self._values.setdefault(name, value)

    def __getitem__(self, name: str) -> str:
        """The value of the cookie `name`."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the request."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._values)

    def __repr__(self) -> str:
        """The names only: values may be secrets."""
        return f"<Cookies {', '.join(map(repr, self._values))}>"


class Request:
    """What a handler is called with.

    Attributes:
        method: the method, such as ``"POST"``.
        path: the path, decoded.
        params: the values of the path's placeholders.
        query: the query string's parameters; the first value of each name, all of them in `query_list`.
        headers: the headers; names in any case.
        cookies: the cookies by name, as a read-only mapping; of several with one name the first.
        body: the body as bytes; at most ``max_body_bytes`` long.
        client: the address and port of the other end, or None.
    """

    __slots__ = ("_cookies", "body", "client", "headers", "method", "params", "path", "query", "query_list")

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
        self._cookies: Cookies | None = None

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies by name; parsed when they are first asked for.

        >>> Request("GET", "/", [], [], [("cookie", 'session="a b"; session=old; theme=dark')], b"", None).cookies[
        ...     "session"
        ... ]
        'a b'
        """
        if self._cookies is None:
            self._cookies = Cookies(self.headers.get("cookie", ""))
        return self._cookies

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
        return f"<Request {self.method} {self.path!r}>"


class Response:
    """A whole response, for handlers that need more than a JSON body with status 200.

    Args:
        body: bytes as they are, str as UTF-8, anything else as JSON. A `Stream` is answered as that stream, with the
            headers given; its status is 200 and its content type the engine's.
        status: the HTTP status.
        headers: further headers, as a mapping or as pairs where a name comes several times; names in any case. Those of
            the connection belong to the engine: ``Connection``, ``Content-Length``, ``Date``, ``Keep-Alive``,
            ``Proxy-Connection``, ``TE``, ``Trailer``, ``Transfer-Encoding`` and ``Upgrade`` are refused; with a stream
            also ``Content-Type``, ``Cache-Control`` and ``X-Accel-Buffering``. Where an early head went out before the
            handler answered, its stream's headers are left out, and a line in the log says so.
        content_type: overrides the one in `headers`; by default it follows from the body's type:
            ``application/octet-stream``, ``text/plain; charset=utf-8`` or ``application/json``.

    Raises:
        EventTypeError: the body is not JSON-able.
        ResponseError: the status is not from 200 to 599, or a header cannot be sent: its name is not a token, its value
            has a line end or another control character, or it is one of the engine's.
        ArgumentTypeError: the status is not a whole number, a header's name is not a str, or `headers` holds no pairs.

    Attributes:
        body: the body as bytes; empty for a stream.
        headers: every header as a pair, names in lower case.
        status: the HTTP status.
        stream: the stream, or None.

    >>> Response({"id": 7}, status=201).body
    b'{"id":7}'
    >>> Response(b"", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]).headers[1:]
    (('set-cookie', 'a=1'), ('set-cookie', 'b=2'))
    """

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self,
        body: object = b"",
        status: int = 200,
        headers: HeadersGiven | None = None,
        content_type: str | None = None,
    ) -> None:
        """Encodes the body and checks status and headers."""
        self.status = checked_status("a Response", status, 200)
        given = [_checked_header(name, value) for name, value in header_pairs(headers)]
        self.stream = body if isinstance(body, Stream) else None
        self.headers: tuple[tuple[str, str], ...]
        if self.stream is not None:
            self.body = b""
            self.headers = _stream_headers(given, self.status, content_type)
            return
        self.body, by_type = _encode_body(body)
        if content_type is not None:
            given = [(name, value) for name, value in given if name != "content-type"]
            given.append(_checked_header("content-type", content_type))
        if all(name != "content-type" for name, _ in given):
            given.insert(0, ("content-type", by_type))
        self.headers = tuple(given)


def header_pairs(headers: object) -> list[tuple[str, str]]:
    """Headers as pairs, however they were given."""
    if headers is None:
        return []
    if isinstance(headers, Mapping):
        return list(headers.items())
    allowed = "headers must be a mapping, or an iterable of (name, value) pairs"
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
        raise ArgumentTypeError(f"{allowed}, not {type(headers).__name__}")
    pairs: list[tuple[str, str]] = []
    for pair in headers:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise ArgumentTypeError(f"{allowed}: there is {type(pair).__name__} among them")
        pairs.append((pair[0], pair[1]))
    return pairs


def _stream_headers(given: list[tuple[str, str]], status: int, content_type: str | None) -> tuple[tuple[str, str], ...]:
    """The headers that a stream is answered with, besides its own."""
    if status != 200:  # noqa: PLR2004 - what a stream is
        raise ResponseError(f"the status of a stream is 200, not {status}")
    if content_type is not None:
        raise ResponseError("the content type of a stream is text/event-stream: leave content_type out")
    for name, _ in given:
        if name in _STREAM_HEADERS:
            raise ResponseError(f"the header {name!r} of a stream belongs to the engine: leave it out")
    return tuple(given)


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


def json_response(value: object, status: int = 200, headers: HeadersGiven | None = None) -> Response:
    """`value` as JSON whatever its type; a str is a JSON string."""
    return Response(json_dumps(value), status, headers, "application/json")
