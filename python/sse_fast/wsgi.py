"""A stream on the port of a WSGI application: behind its own authentication, under its own URLs.

    from sse_fast.wsgi import EventSourceResponse

    @app.get("/jobs/<name>/events")
    @login_required
    def events(name: str) -> EventSourceResponse:
        return EventSourceResponse(server.stream(f"jobs/{name}"))

It resumes, announces gaps, sends heartbeats and answers 204 after the end, as the engine does at its own port. What it
costs beside that port: each reader holds a thread of the WSGI server (with gevent a greenlet) for as long as it reads;
Python runs once for each event and reader; that a reader has gone is noticed when its system refuses what is written,
so at the second heartbeat after that; and these readers are none of ``stream.subscribers``. It can read streams of its
own process.

Owns: one response, from its head to its end.
Must not know: the wire (`_bridge`), routing.
Invariants: a response holds of its stream no more than one piece; nothing of it is left when it is over, however it
ended. Frameworks are imported only where they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ._bridge import Body, Reading, Start
from ._core import Stream
from ._request import HeadersGiven
from ._settings import wrong_type

__all__ = ["EventSourceResponse", "django_response"]


class EventSourceResponse:
    """A stream as a WSGI response: what a Flask view returns, or a WSGI application by itself.

    A reader resumes by its ``Last-Event-ID`` header, or by ``last_event_id`` or ``lastEventId`` in the query. One that
    falls out of the stream's history is told how much it missed. A stream that has ended gives what the reader lacks,
    then the end; a reader that lacks nothing gets 204, which tells a browser not to return. A ``HEAD`` gets the head.

    Under load: a reader never slows a publisher. It holds the thread that it runs in: a server with sixteen threads has
    sixteen readers, and then answers nothing else. A reader that takes nothing holds it until the WSGI server or the
    system gives the connection up. When the sse_fast server closes, responses end; the WSGI server's own end waits
    for them as long as it waits for any request (gunicorn: ``graceful_timeout``).

    Args:
        stream: the stream.
        start: what a reader that resumes from nowhere gets first; None: as the stream's option ``start`` says.
        last_event_id: an id to go on from in place of the request's.
        heartbeat: seconds of silence before a heartbeat; None sends none, and leaves unnoticed that a reader has gone.
            A ``with stream.heartbeat(...)`` block acts at the engine's port alone.
        comment: the text of the heartbeat, which no reader sees as an event.
        heartbeat_event: makes heartbeats events of that name.
        retry: seconds that a client waits before it reconnects; None leaves that to it.
        headers: further headers of the response; the content type is the stream's.
        on_close: called when the response is over, however it ended: to stop work that nobody reads.

    Raises:
        ArgumentTypeError: an argument has a type that it cannot have.
        SettingError: a duration is not allowed.
        ResponseError: a header cannot be sent, or is the stream's own.

    >>> import sse_fast
    >>> from sse_fast.wsgi import EventSourceResponse
    >>> with sse_fast.serve(0) as server:
    ...     stream = server.stream("jobs/1", start="all")
    ...     _ = stream.end({"status": "DONE"})
    ...     response = EventSourceResponse(stream)
    ...     head = []
    ...     body = b"".join(response({"REQUEST_METHOD": "GET"}, lambda status, headers: head.append(status)))
    >>> head, body.splitlines()[-2]
    (['200 OK'], b'data: {"status":"DONE"}')
    """

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
        headers: HeadersGiven | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        """Checks the arguments; the reading begins with the response."""
        self._reading = Reading(
            stream, start, last_event_id, heartbeat, comment, heartbeat_event, retry, headers, on_close
        )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Begins the response; the server iterates over the rest."""

        def begin(finished: bool, pairs: list[tuple[str, str]]) -> None:
            # Strings of WSGI are bytes in disguise (PEP 3333).
            headers = [(name, value.encode().decode("latin-1")) for name, value in pairs]
            start_response("204 No Content" if finished else "200 OK", headers)

        return _begin(self._reading, environ, begin)


def django_response(request: Any, stream: Stream, **options: Any) -> Any:  # noqa: ANN401 - Django's own, and ours
    """The same for a Django view, where Django runs under a WSGI server: its ``StreamingHttpResponse``.

    Under an ASGI server use `sse_fast.asgi.django_response`: Django would read this one to its end before it sends it.

    Args:
        request: the view's request.
        stream: the stream.
        **options: as for `EventSourceResponse`.

    Raises:
        ArgumentTypeError: the request came by ASGI.
    """
    if hasattr(request, "scope"):
        raise wrong_type("request", request, "one that came by WSGI; with ASGI use sse_fast.asgi.django_response")
    from django import http  # noqa: PLC0415 - only where it is used

    head: list[tuple[bool, list[tuple[str, str]]]] = []
    pieces = _begin(Reading(stream, **options), request.META, lambda *begun: head.append(begun))
    finished, pairs = head[0]
    response = http.HttpResponse(status=204) if finished else http.StreamingHttpResponse(pieces)
    for name, value in pairs:
        response[name] = value
    if finished:
        del response["content-type"]
    return response


def _begin(
    reading: Reading, environ: dict[str, Any], begin: Callable[[bool, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Opens the stream for a request; `begin` is told whether its reader has everything, and the headers."""
    header = environ.get("HTTP_LAST_EVENT_ID", "").encode("latin-1", "replace").decode("utf-8", "replace")
    body = reading.open(header or None, environ.get("QUERY_STRING", ""))
    without = {"content-type"} if body.finished else set()
    begin(body.finished, [(name, value) for name, value in reading.pairs if name not in without])
    pieces = _Pieces(reading, body)
    if body.finished or environ["REQUEST_METHOD"] == "HEAD":
        pieces.close()
        return ()
    return pieces


class _Pieces:
    """What the server iterates over, and closes when the client has gone."""

    def __init__(self, reading: Reading, body: Body) -> None:
        self._reading = reading
        self._body = body
        self._first: bytes | None = body.first
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        return first if first is not None else next(self._body)

    def close(self) -> None:
        """The response is over."""
        if not self._closed:
            self._closed = True
            self._body.close()
            self._reading.over()
