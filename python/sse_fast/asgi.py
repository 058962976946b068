"""A stream on the port of an ASGI application: behind its own authentication, under its own URLs.

    from sse_fast.asgi import EventSourceResponse

    @app.get("/jobs/{name}/events")
    async def events(name: str, user: Annotated[User, Depends(current_user)]) -> EventSourceResponse:
        return EventSourceResponse(server.stream(f"jobs/{user.id}/{name}"))

It resumes, announces gaps, sends heartbeats and answers 204 after the end, as the engine does at its own port. What it
costs beside that port: Python runs once for each event and reader; heartbeats are the event loop's, so that code which
holds it up silences them; these readers are none of ``stream.subscribers``. It can read streams of its own process.

Owns: one response, from its head to its end; whether its reader is still there.
Must not know: the wire (`_bridge`), routing.
Invariants: a response holds no thread, and of its stream no more than one piece; nothing of it is left when it is over,
however it ended. Frameworks are imported only where they are installed and used.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from . import _records
from ._bridge import Body, Reading, Start
from ._core import Stream
from ._request import HeadersGiven
from ._settings import checked_seconds, wrong_type
from ._signals import Waiting

__all__ = ["EventSourceResponse", "django_response"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

if TYPE_CHECKING:
    from starlette.background import BackgroundTask
    from starlette.responses import Response as _Response
else:
    try:  # FastAPI passes on nothing but a Response of Starlette as it is.
        from starlette.responses import Response as _Response
    except ImportError:
        _Response = object

_log = _records.logger("sse_fast")


class EventSourceResponse(_Response):
    """A stream as an ASGI response: what a FastAPI or Starlette endpoint returns, or an ASGI application by itself.

    A reader resumes by its ``Last-Event-ID`` header, or by ``last_event_id`` or ``lastEventId`` in the query. One that
    falls out of the stream's history is told how much it missed. A stream that has ended gives what the reader lacks,
    then the end; a reader that lacks nothing gets 204, which tells a browser not to return. A ``HEAD`` gets the head.

    Under load: a reader never slows a publisher, and costs others the loop's time. One that takes nothing for
    `stall_timeout` is given up. At shutdown responses end as soon as the ASGI server is told to stop (SIGINT or
    SIGTERM, where its loop runs in the main thread), so that it need not wait for them; browsers come back.

    Args:
        stream: the stream.
        start: what a reader that resumes from nowhere gets first; None: as the stream's option ``start`` says.
        last_event_id: an id to go on from in place of the request's.
        heartbeat: seconds of silence before a heartbeat; None sends none. A ``with stream.heartbeat(...)`` block acts
            at the engine's port alone.
        comment: the text of the heartbeat, which no reader sees as an event.
        heartbeat_event: makes heartbeats events of that name.
        retry: seconds that a client waits before it reconnects; None leaves that to it.
        stall_timeout: seconds that the reader may take nothing.
        headers: further headers of the response; the content type is the stream's.
        background: awaited when the response is over, as Starlette's and FastAPI's background tasks are.
        on_close: called when the response is over, however it ended: to stop work that nobody reads.

    Raises:
        ArgumentTypeError: an argument has a type that it cannot have.
        SettingError: a duration is not allowed.
        ResponseError: a header cannot be sent, or is the stream's own.

    >>> import sse_fast
    >>> from sse_fast.asgi import EventSourceResponse
    >>> with sse_fast.serve(0) as server:
    ...     EventSourceResponse(server.stream("jobs/1"), retry=1.0).status_code
    200
    """

    media_type = "text/event-stream"
    status_code = 200
    body = b""

    def __init__(  # noqa: PLR0913 - each is a decision of the caller
        self,
        stream: Stream,
        *,
        start: Start | None = None,
        last_event_id: str | None = None,
        heartbeat: float | None = 15.0,
        comment: str = "heartbeat",
        heartbeat_event: str | None = None,
        retry: float | None = None,
        stall_timeout: float = 30.0,
        headers: HeadersGiven | None = None,
        background: BackgroundTask | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        """Checks the arguments; the reading begins with the response."""
        self._reading = Reading(
            stream, start, last_event_id, heartbeat, comment, heartbeat_event, retry, headers, on_close
        )
        self._stall_timeout = checked_seconds("stall_timeout", stall_timeout, low=0.001)
        self.background = background
        #: Starlette's name and form; middleware may add to them.
        self.raw_headers = [(name.encode(), value.encode()) for name, value in self._reading.pairs]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response; returns when it is over."""
        if scope["type"] != "http":
            raise RuntimeError(f"an event stream answers HTTP requests, not {scope['type']!r}")
        try:
            await self._respond(scope, receive, send)
        finally:
            self._reading.over()
        if self.background is not None:
            await self.background()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._reading.open(_last_event_id(scope), scope.get("query_string", b"").decode("latin-1"))
        headers = list(self.raw_headers)
        if body.finished:
            headers = [(name, value) for name, value in headers if name != b"content-type"]
        head = {"type": "http.response.start", "status": 204 if body.finished else 200, "headers": headers}
        is_empty = body.finished or scope["method"] == "HEAD"
        if is_empty:
            body.close()
        with _ends_with_its_server(body):
            await _Delivery(head, None if is_empty else body, receive, send).run(self._stall_timeout)


def django_response(request: Any, stream: Stream, **options: Any) -> Any:  # noqa: ANN401 - Django's own, and ours
    """The same for a Django view, where Django runs under an ASGI server: its ``StreamingHttpResponse``.

    Django itself notices that a reader has gone. Under a WSGI server use `sse_fast.wsgi.django_response`.

    Args:
        request: the view's request.
        stream: the stream.
        **options: as for `EventSourceResponse`, but for `stall_timeout` and `background`.

    Raises:
        ArgumentTypeError: the request did not come by ASGI.
    """
    if not hasattr(request, "scope"):
        raise wrong_type("request", request, "one that came by ASGI; with WSGI use sse_fast.wsgi.django_response")
    from django import http  # noqa: PLC0415 - only where it is used

    reading = Reading(stream, **options)
    body = reading.open(request.headers.get("last-event-id"), request.META.get("QUERY_STRING", ""))
    if body.finished or request.method == "HEAD":
        body.close()
        reading.over()
        response = http.HttpResponse(status=204 if body.finished else 200)
    else:
        response = http.StreamingHttpResponse(_pieces(reading, body))
    for name, value in reading.pairs:
        response[name] = value
    if body.finished:
        del response["content-type"]
    return response


async def _pieces(reading: Reading, body: Body) -> AsyncIterator[bytes]:
    """The body for who cancels the iteration where its reader has gone."""
    try:
        with _ends_with_its_server(body):
            yield body.first
            async for piece in body:
                yield piece
    finally:
        body.close()
        reading.over()


def _last_event_id(scope: Scope) -> str | None:
    found = (value for name, value in scope["headers"] if name == b"last-event-id")
    return next(found, b"").decode("utf-8", "replace") or None


class _Delivery:
    """A response on its way to a client, and the watch for the client's leaving; without a body it is empty."""

    def __init__(self, head: MutableMapping[str, Any], body: Body | None, receive: Receive, send: Send) -> None:
        self._head = head
        self._body = body
        self._receive = receive
        self._send = send
        self._sending = False
        self._pieces = 0  # Sent so far.

    async def run(self, stall_timeout: float) -> None:
        """Sends it to its end, or until the client has gone or takes nothing for `stall_timeout` seconds."""
        writing = asyncio.ensure_future(self._write())
        leaving = asyncio.ensure_future(self._until_gone())
        try:
            while not (writing.done() or leaving.done()):
                before = self._pieces if self._sending else None
                await asyncio.wait({writing, leaving}, timeout=stall_timeout, return_when=asyncio.FIRST_COMPLETED)
                if self._sending and self._pieces == before:
                    _log.info("a reader took nothing for %s s: its response is over", stall_timeout)
                    break
        finally:
            if self._body is not None:
                self._body.close()
            for task in (writing, leaving):
                task.cancel()
            await asyncio.wait({writing, leaving})
        for task in (writing, leaving):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _write(self) -> None:
        with contextlib.suppress(OSError):  # How a server says that the client has gone.
            await self._message(self._head)
            if self._body is not None:
                await self._piece(self._body.first)
                async for piece in self._body:
                    await self._piece(piece)
            await self._message({"type": "http.response.body", "body": b""})

    async def _piece(self, piece: bytes) -> None:
        await self._message({"type": "http.response.body", "body": piece, "more_body": True})

    async def _message(self, message: MutableMapping[str, Any]) -> None:
        self._sending = True
        await self._send(message)
        self._sending = False
        self._pieces += 1

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


# ---- The end of the ASGI server ------------------------------------------------------------
# Servers wait at their end for every response that is under way, and tell nobody. So who reads is told by the signal.

_bodies: set[Body] = set()  # Under way in the main thread, which alone changes it.
_waiting: list[Waiting] = []


@contextlib.contextmanager
def _ends_with_its_server(body: Body) -> Any:  # noqa: ANN401 - as contextlib has it
    """Closes the body where a signal that the server handles comes inside the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _bodies.add(body)
    if not _waiting:
        _take_signals(asyncio.get_running_loop())
    try:
        yield
    finally:
        _bodies.discard(body)
        if not _bodies:
            for waiting in _waiting:
                waiting.end(consumed=True)  # The server's own handler was called, too.
            _waiting.clear()


def _take_signals(loop: asyncio.AbstractEventLoop) -> None:
    def tell() -> bool:
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(_close_all)
        return True

    # A signal that nobody handles ends the process by itself.
    numbers = tuple(each for each in (signal.SIGINT, signal.SIGTERM) if _is_handled(each))
    if numbers:
        _waiting.append(Waiting(tell, numbers))
        _waiting[0].begin()


def _is_handled(number: signal.Signals) -> bool:
    handler = signal.getsignal(number)
    return callable(handler) and handler is not signal.default_int_handler


def _close_all() -> None:
    for body in list(_bodies):
        body.close()
