"""What an application sends of a stream on a port of its own, for `sse_fast.asgi` and `sse_fast.wsgi`.

Owns: where a reader begins, the bytes of its events and heartbeats, the head of the response.
Must not know: ASGI and WSGI, frameworks, how a server writes.
Invariants: the wire is the engine's: UTF-8, LF, fields in the order `event`, `id`, `retry`, `data`; gaps and heartbeats
carry no id, and no blank line follows a heartbeat, of which clients would make an event. A piece of a body is at most
`PIECE_BYTES` and one event; what is not yet asked for stays in the stream's log.
Changes together with: the engine's `wire.rs`, which is the encoder of everything that the engine sends itself.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

from ._chance import chance
from ._core import Stream
from ._event import Event
from ._exceptions import ServerClosed, WaitTimeout
from ._loops import current
from ._request import HeadersGiven, Response
from ._settings import checked_seconds, wrong_type
from ._stream import Events

if TYPE_CHECKING:
    from collections.abc import Callable

Start = Literal["new", "last", "all"]

#: The head of an event stream, as the engine has it.
HEAD = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)

#: A server writes a piece at a time: as large as what its own buffer takes before it lets us wait.
PIECE_BYTES = 64 * 1024

#: What has a server send the head at once, where there is no event yet: a comment, which no reader sees.
OPENING = b":\n"

_OUTSIDE = {"new", "last", "all", None}


@dataclass(frozen=True)
class Reading:
    """How a stream is read by one response: the arguments of `EventSourceResponse`, checked.

    Attributes:
        stream: the stream.
        start: what comes first for a reader that resumes from nowhere; None is the stream's own.
        last_event_id: an id given by the application in place of the request's.
        heartbeat: seconds of silence before a heartbeat; None sends none.
        comment: the heartbeat's text.
        heartbeat_event: makes heartbeats events of that name.
        retry: seconds that a client waits to reconnect; None says nothing.
        headers: the application's own headers.
        on_close: called once when the response is over.
    """

    stream: Stream
    start: Start | None = None
    last_event_id: str | None = None
    heartbeat: float | None = 15.0
    comment: str = "heartbeat"
    heartbeat_event: str | None = None
    retry: float | None = None
    headers: HeadersGiven | None = None
    on_close: Callable[[], object] | None = None
    pairs: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        """Checks what was given, where the application gave it."""
        if not isinstance(self.stream, Stream):
            raise wrong_type("stream", self.stream, "a stream of sse_fast")
        if self.start not in _OUTSIDE:
            raise wrong_type("start", self.start, "'new', 'last', 'all' or None")
        if self.heartbeat is not None:
            checked_seconds("heartbeat", self.heartbeat, low=0.001)
        if self.retry is not None:
            checked_seconds("retry", self.retry)
        for name, value in (("comment", self.comment), ("heartbeat_event", self.heartbeat_event)):
            if value is not None and (not isinstance(value, str) or any(end in value for end in "\r\n\0")):
                raise wrong_type(name, value, "a str without line ends")
        if self.on_close is not None and not callable(self.on_close):
            raise wrong_type("on_close", self.on_close, "a callable without arguments, or None")
        # A stream's response refuses what belongs to the engine, and what would split the head.
        object.__setattr__(self, "pairs", (*HEAD, *Response(self.stream, headers=self.headers).headers))

    def open(self, header: str | None, query: str) -> Body:
        """Begins to read, from where the client's ``Last-Event-ID`` or query says."""
        return Body(self, self.last_event_id or header or _from_query(query))

    def over(self) -> None:
        """The response has ended, however it did."""
        if self.on_close is not None:
            self.on_close()


def _from_query(query: str) -> str | None:
    """The id that a page or a polyfill put into the URL; what is empty does not count."""
    wanted = ("last_event_id", "lastEventId")
    return next((value for name, value in parse_qsl(query, errors="replace") if name in wanted), None)


class Body:
    """The bytes of one response, a piece at a time: an iterator and an asynchronous iterator.

    A piece is every event that is there already, or a heartbeat after silence. It ends as `Events` does.

    Attributes:
        first: the first piece, which is there before anything is waited for.
        finished: whether the reader lacks nothing of a stream that takes no more; its answer is 204.
    """

    def __init__(self, reading: Reading, last_event_id: str | None) -> None:
        """Begins to read, and takes what is there."""
        self._reading = reading
        self._retry = b"" if reading.retry is None else _retry(reading.retry)
        self._crowded = False
        self.finished = False
        stream = reading.stream
        try:
            start = reading.start if last_event_id is None else None
            self._reader = stream._reader(start, last_event_id)  # noqa: SLF001 - part of this package
        except ServerClosed:
            self._events: Events | None = None
            self.first = _come_back()
            return
        self._events = Events(self._reader, stream.name, reading.heartbeat)
        self.first = self._ready()
        if not self.first and self._over:
            self.finished = stream.ended  # One that was removed or closed may begin anew.
            self.first = b"" if self.finished else _come_back()
        self.first = self.first or OPENING

    @property
    def _over(self) -> bool:
        """Whether there is nothing more to come."""
        return self._events is None or self._events._over  # noqa: SLF001 - part of this package

    def __iter__(self) -> Body:
        """Itself."""
        return self

    def __next__(self) -> bytes:
        """The next piece; waits without holding the interpreter."""
        if self._events is None:
            raise StopIteration
        try:
            return self._piece(next(self._events))
        except WaitTimeout:
            return self._heartbeat()

    def __aiter__(self) -> Body:
        """Itself."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece; costs no thread."""
        if self._events is None:
            raise StopAsyncIteration
        if self._crowded:  # A reader of a long history would keep the loop to itself.
            await current().let_others()
        try:
            return self._piece(await self._events.__anext__())
        except WaitTimeout:
            return self._heartbeat()

    def close(self) -> None:
        """Ends it; one that waits is told at once."""
        if self._events is not None:
            self._events.close()

    def _piece(self, event: Event) -> bytes:
        return self._ready(self._encoded(event))

    def _ready(self, before: bytes = b"") -> bytes:
        """What is there now, behind what was taken already."""
        pieces, length = [before], len(before)
        while length < PIECE_BYTES and (event := self._at_once()) is not None:
            pieces.append(self._encoded(event))
            length += len(pieces[-1])
        self._crowded = length >= PIECE_BYTES
        return b"".join(pieces)

    def _at_once(self) -> Event | None:
        """The next event, where there is one already."""
        if self._events is None or self._over:
            return None
        return self._events._taken(*self._reader.try_next())  # noqa: SLF001 - as above

    def _encoded(self, event: Event) -> bytes:
        block = self._retry + encode(event)
        self._retry = b""
        return block

    def _heartbeat(self) -> bytes:
        name = self._reading.heartbeat_event
        if name is None:
            return f": {self._reading.comment}\n".encode()
        return f'event: {name}\ndata: {{"timestamp":{time.time_ns() // 1_000_000}}}\n\n'.encode()


def encode(event: Event) -> bytes:
    """An event that was read, as it goes over the wire."""
    lines = [] if event.event == "message" else [f"event: {event.event}\n"]
    if event.id is not None:
        lines.append(f"id: {event.id}\n")
    block = "".join(lines).encode()
    if event.retry is not None:
        block += _retry(event.retry)
    return block + b"".join(b"data: %s\n" % line for line in event.data.encode().split(b"\n")) + b"\n"


def _retry(seconds: float) -> bytes:
    return b"retry: %d\n" % math.floor(seconds * 1000 + 0.5)


def _come_back() -> bytes:
    """What a reader of a closed server is told, as by the engine: an error's status would end a browser's reading."""
    return _retry(2.0 + 4.0 * chance())
