"""`AsyncRemoteEvents`: iteration over a stream of another process, in a task of asyncio.

Owns: one connection at a time, waiting for bytes and between connections.
Must not know: what bytes mean (`following`, `wire`).
Invariants: what was taken from a connection is given before anything else happens; neither a `WaitTimeout` nor a
cancelled ``async for`` loses anything.
Changes together with: `reading.py`, which is the same for threads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from sse_fast._chance import chance
from sse_fast._event import Event
from sse_fast._exceptions import WaitTimeout
from sse_fast._hints import Self, asyncio

from .following import Following
from .pool import AttemptError, reason
from .pool_tasks import Connection, Connections
from .questions import Answer, Later, Question
from .wire import Response, WireError

_PIECE = 1 << 16  # Bytes read at a time.


class AsyncRemoteEvents:
    """The events of a stream of another process, for ``async for``; made by `AsyncRemoteStream.events`.

    It ends after the terminal event. `aclose` ends it at once, also from another task; so does leaving ``async with``.

    Args:
        connections: what connects.
        ask: what asks a question over another connection.
        following: the place in the stream.
        timeout: seconds that a request may take until its answer begins.
        silence: seconds without an event after which `WaitTimeout` is raised.
    """

    def __init__(
        self,
        connections: Connections,
        ask: Callable[[Question], Awaitable[Answer]],
        following: Following,
        timeout: float,
        silence: float | None,
    ) -> None:
        """Connects when it is first asked for an event."""
        self._connections = connections
        self._ask = ask
        self._following = following
        self._timeout = timeout
        self._silence = silence
        self._ready: deque[Event] = deque()
        self._connection: Connection | None = None
        self._response: Response | None = None
        self._heard_at = 0.0  # When the last byte came.
        self._next_at = 0.0  # When the next connection may be opened.
        self._over = False
        self._waker: asyncio.Future[None] | None = None  # Settled by `aclose` while a task waits.

    def __aiter__(self) -> AsyncIterator[Event]:
        """Itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event."""
        deadline = None if self._silence is None else time.monotonic() + self._silence
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            await self._step(deadline)
        return self._ready.popleft()

    @property
    def last_id(self) -> str | None:
        """The id that the next connection goes on after: the newest one read, or what was given."""
        return self._following.last_id

    async def aclose(self) -> None:
        """Ends the iteration, and its connection."""
        self._over = True
        self._drop()
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes it."""
        await self.aclose()

    async def _step(self, deadline: float | None) -> None:
        """Connects, or reads once."""
        connection = self._connection
        if connection is None:
            await self._pause(deadline)
            if not self._over:
                await self._open()
            return
        silence = self._following.silence
        dead_at = None if silence is None else self._heard_at + silence
        ends = [end for end in (deadline, dead_at) if end is not None]
        try:
            # A read that is cancelled leaves in the reader what it had not returned.
            reading = connection.reader.read(_PIECE)
            data = await asyncio.wait_for(reading, max(0.0, min(ends) - time.monotonic()) if ends else None)
        except asyncio.TimeoutError:
            if dead_at is not None and time.monotonic() >= dead_at:
                await self._lost(clean=False)
            else:
                self._check(deadline)
        except OSError:
            await self._lost(clean=False)
        else:
            if not self._over:
                await self._received(data)

    async def _received(self, data: bytes) -> None:
        response, self._heard_at = self._response, time.monotonic()
        assert response is not None  # noqa: S101 - there is one while there is a connection
        try:
            if data:
                self._ready += self._following.take(response.feed(data))
            else:
                response.end()
        except WireError:
            await self._lost(clean=False)
        else:
            if response.whole:
                await self._lost(clean=True)

    async def _open(self) -> None:
        """One attempt to connect; sets the connection, or when the next may be."""
        following = self._following
        question = following.question()
        connection: Connection | None = None
        asked = 0.0
        try:
            connection = await self._connections.connect(self._timeout)
            response, first = await asyncio.wait_for(connection.head(question.raw), self._timeout)
            if response.status < 300:  # noqa: PLR2004 - success
                following.opened(response.status)
                self._over = self._over or following.over
                self._connection, self._response = connection, response
                self._heard_at = time.monotonic()
                self._ready += following.take(first)
                if response.whole:
                    await self._lost(clean=True)
                return
            body = await asyncio.wait_for(connection.body(response, first), self._timeout)
            judged = question.judged(Answer(response.status, response.headers, body))
            why, asked = (judged.why, judged.asked) if isinstance(judged, Later) else ("", 0.0)
        except AttemptError as error:
            why = str(error)
            if error.final:
                raise question.given_up(why, published=False) from error
        except asyncio.TimeoutError:
            why = "no answer came in time"
        except (OSError, WireError) as error:
            why = reason(error)
        finally:
            if connection is not None and connection is not self._connection:
                connection.close()
        pause = following.failed(time.monotonic(), chance(), asked=asked)
        if pause is None:
            raise question.given_up(why, published=False)
        self._next_at = time.monotonic() + pause

    async def _lost(self, *, clean: bool) -> None:
        """The connection is at its end; `clean` where the server ended the response."""
        self._drop()
        if self._over:
            return
        self._next_at = time.monotonic() + self._following.closed(chance())
        if clean and (question := self._following.asks_whether_ended()) is not None:
            page = (await self._ask(question)).said()
            self._over = bool(page.get("ended"))

    def _drop(self) -> None:
        connection, self._connection, self._response = self._connection, None, None
        if connection is not None:
            connection.close()

    async def _pause(self, deadline: float | None) -> None:
        """Waits until the next connection may be opened; `aclose` ends it."""
        while not self._over and (left := self._next_at - time.monotonic()) > 0:
            self._check(deadline)
            rest = left if deadline is None else min(left, max(0.001, deadline - time.monotonic()))
            self._waker = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._waker], timeout=rest)

    def _check(self, deadline: float | None) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeout(f"stream {self._following.name!r} was silent for {self._silence} s")
