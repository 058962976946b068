"""For the tests of programs that use sse_fast: a server for each test, what it published, heartbeats without waiting.

In a project's ``conftest.py``:

    pytest_plugins = ["sse_fast.testing"]

Tests then have the fixtures `sse_server` and `sse_serve`. The package registers no plugin by itself: a project that
tests something else would load the engine in every run. Without pytest the functions can be used by themselves.

>>> from sse_fast.testing import events_of, serve
>>> with serve() as server:
...     stream = server.stream("jobs/1")
...     _ = stream.publish({"step": 1}, event="COMPILING")
...     _ = stream.end(event="DONE")
...     [(event.event, event.data) for event in events_of(stream)]
[('COMPILING', '{"step":1}'), ('DONE', 'null')]

Owns: the fixtures, reading a stream up to what a test waits for, the words of the failure when it does not come.
Must not know: the engine.
Invariants: every wait has a limit, and its failure says what there was instead. No event is published by reading.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from . import _server, _settings
from ._core import Stream
from ._event import Event
from ._exceptions import WaitTimeout
from ._hints import Unpack
from ._rights import Authorize, Tokens
from ._server import Server
from ._settings import ServeSettings, StreamOptions

__all__ = ["aevents_of", "events_of", "heartbeats_of", "serve", "token"]

_TIMEOUT = 10.0  # Seconds. Long enough for a busy machine; a test that passes never waits it out.


def serve(
    *,
    heartbeat_pace: int = 1,
    authorize: Authorize | None = None,
    tokens: Tokens | None = None,
    streams: Mapping[str, StreamOptions] | None = None,
    **settings: Unpack[ServeSettings],
) -> Server:
    """A server on a free port of the loopback, for one test; close it, or use it as a context manager.

    Args:
        heartbeat_pace: how many times as fast the time between heartbeats passes: with 100 a heartbeat of 15 seconds,
            from whatever setting, option or ``with stream.heartbeat(...)`` block, comes after 0.15. At most one comes
            in 20 ms. All other times are those of the clock: give them as short settings, such as ``linger=0.05``.
        authorize: as for `sse_fast.serve`.
        tokens: likewise; `token` makes some.
        streams: likewise.
        **settings: as for `sse_fast.serve`; without ``settle`` what is not known is 404 from the first moment on.

    Raises:
        SettingError: a setting is not allowed, or `heartbeat_pace` is not a whole number from 1 up.

    >>> with serve(heartbeat_pace=100, history=10) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """
    pace = _settings.checked_whole("heartbeat_pace", heartbeat_pace, low=1)
    resolved = _settings.serve_settings({"port": 0, "settle": 0.0, **settings})
    rights = _server.Rights(authorize, tokens, streams)
    return _server.Server({**resolved, "heartbeat_pace": pace}, rights=rights)


def events_of(stream: Stream, until: int | str | None = None, *, timeout: float = _TIMEOUT) -> list[Event]:
    """The events of a stream from its first retained one on, as soon as what the test waits for is among them.

    It reads in this process, as `Stream.events` does, a snapshot first where there is one, and waits without holding
    the interpreter; in a coroutine use `aevents_of`.

    Args:
        stream: the stream.
        until: how many events, or the name of the last one; None reads until the stream ends.
        timeout: seconds for all of them.

    Raises:
        AssertionError: they did not come in time, or the stream ended before; the text says which events there were.

    >>> with serve() as server:
    ...     stream = server.stream("jobs/1")
    ...     _ = stream.publish_many([("1", "STEP"), ("2", "STEP"), ("3", "DONE")])
    ...     len(events_of(stream, 2)), events_of(stream, until="DONE")[-1].data
    (2, '3')
    """
    wanted = _Wanted(stream, until, timeout)
    if not wanted.complete:
        with contextlib.suppress(WaitTimeout):
            for event in stream.events(start="all", timeout=timeout):
                if wanted.add(event):
                    break
    return wanted.found()


async def aevents_of(stream: Stream, until: int | str | None = None, *, timeout: float = _TIMEOUT) -> list[Event]:
    """As `events_of`, in a coroutine: what runs on the same event loop goes on, and may be what publishes.

    >>> import asyncio
    >>> async def test() -> list[str]:
    ...     with serve() as server:
    ...         stream = server.stream("jobs/1")
    ...         asyncio.get_running_loop().call_later(0.01, stream.end, "over")
    ...         return [event.data for event in await aevents_of(stream)]
    >>> asyncio.run(test())
    ['over']
    """
    wanted = _Wanted(stream, until, timeout)
    if not wanted.complete:
        with contextlib.suppress(WaitTimeout):
            async for event in stream.events(start="all", timeout=timeout):
                if wanted.add(event):
                    break
    return wanted.found()


def heartbeats_of(
    server: Server, stream: Stream, count: int = 1, *, event: str | None = None, timeout: float = _TIMEOUT
) -> list[str]:
    """Subscribes to a stream over HTTP, as a browser does, and returns the first heartbeats that come.

    With `serve`'s ``heartbeat_pace`` no real seconds pass.

    Args:
        server: the server.
        stream: the stream.
        count: how many.
        event: the stream's ``heartbeat_event``, where it has one.
        timeout: seconds for all of them.

    Returns:
        The text of each: its comment, or the data of the named event.

    Raises:
        AssertionError: they did not come in time, or the stream cannot be read.

    >>> with serve(heartbeat_pace=100) as server:
    ...     with server.stream("completion").heartbeat(every=5.0, comment="computing") as stream:
    ...         heartbeats_of(server, stream, 2)
    ['computing', 'computing']
    """
    found: list[str] = []
    until = time.monotonic() + timeout
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
    what = f"{count} heartbeats of stream {stream.name!r}"
    with contextlib.closing(connection):
        connection.request("GET", f"/streams/{quote(stream.name)}", headers={"Accept": "text/event-stream"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise AssertionError(f"{what} cannot be read: the answer is {response.status} {response.read()!r}")
        with contextlib.suppress(TimeoutError):
            for text in _heartbeats(response, event):
                found.append(text)
                if len(found) == count:
                    return found
                if time.monotonic() > until:
                    break
    raise AssertionError(f"{what} did not come within {timeout} s; those that came: {found}")


def token(
    secret: bytes | str,
    subscribe: Iterable[str] = ("**",),
    *,
    reader: str | None = None,
    ttl: float = 60.0,
    kid: str | None = None,
    **claims: object,
) -> str:
    """A token that a server with ``Tokens(keys=[Key("HS256", secret)])`` takes, for tests of programs that have tokens.

    Args:
        secret: the secret.
        subscribe: the names and patterns of streams that it lets read.
        reader: who reads: its ``sub``.
        ttl: seconds until it expires; what is not above 0 makes one that has expired.
        kid: the ``id`` of the key.
        **claims: further claims, and others in place of those above; None leaves one out.

    >>> from sse_fast import Key, Tokens
    >>> secret = "a secret that is long enough to be one"
    >>> with serve(tokens=Tokens(keys=[Key("HS256", secret)])) as server:
    ...     _ = server.stream("runs/42", start="all").publish("x")
    ...     address = urlsplit(server.url)
    ...     connection = http.client.HTTPConnection(address.hostname, address.port)
    ...     headers = {"Authorization": f"Bearer {token(secret, ['runs/*'])}", "Accept": "application/json"}
    ...     connection.request("GET", "/streams/runs/42", headers=headers)
    ...     with contextlib.closing(connection):
    ...         connection.getresponse().status
    200
    """
    now = time.time()
    head: dict[str, object] = {"alg": "HS256", "typ": "JWT", "kid": kid}
    body = {"iat": now, "exp": now + ttl, "sub": reader, "sse": {"subscribe": list(subscribe)}, **claims}
    parts = [{name: value for name, value in part.items() if value is not None} for part in (head, body)]
    signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{signed}.{_base64(hmac.digest(key, signed.encode(), 'sha256'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _heartbeats(response: http.client.HTTPResponse, event: str | None) -> Iterator[str]:
    """The text of every heartbeat among the lines of a stream."""
    name = None
    while line := response.readline().decode().rstrip("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if event is None and not field:
            yield value
        elif field == "event":
            name = value
        elif field == "data" and name == event:
            yield value


class _Wanted:
    """What a test waits for, and what has come."""

    def __init__(self, stream: Stream, until: int | str | None, timeout: float) -> None:
        self._stream = stream
        self._until = until
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._events: list[Event] = []
        self.complete = until == 0

    def add(self, event: Event) -> bool:
        """Takes an event; True when no more is to be read."""
        self._events.append(event)
        self.complete = self._until in {len(self._events), event.event}
        return self.complete or time.monotonic() > self._deadline

    def found(self) -> list[Event]:
        """The events, once the reading has stopped."""
        if self.complete or (self._until is None and self._stream.ended):
            return self._events
        if self._until is None:
            what = "its end"
        else:
            what = f"an event {self._until!r}" if isinstance(self._until, str) else f"{self._until} events"
        had = ", ".join(f"{event.event} {event.data[:80]!r}" for event in self._events) or "none"
        why = "it has ended" if self._stream.ended else f"{self._timeout} s have passed"
        raise AssertionError(f"stream {self._stream.name!r} did not come to {what}, and {why}; its events: {had}")


try:
    import pytest
except ImportError:  # The functions above need no pytest.
    pass
else:
    __all__ += ["sse_serve", "sse_server"]

    @pytest.fixture
    def sse_serve() -> Iterator[Callable[..., Server]]:
        """A function that starts servers, with the arguments of `serve`; all are closed after the test."""
        with contextlib.ExitStack() as stack:

            def start(**settings: Any) -> Server:  # noqa: ANN401 - those of `serve`
                server = serve(**settings)
                stack.callback(server.close, drain=0.0)
                return server

            yield start

    @pytest.fixture
    def sse_server(sse_serve: Callable[..., Server]) -> Server:
        """A server with default settings, on a free port, closed after the test."""
        return sse_serve()
