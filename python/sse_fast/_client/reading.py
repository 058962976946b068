"""`RemoteEvents`: iteration over a stream of another process, in a thread.

Owns: one connection at a time, waiting for bytes and between connections.
Must not know: what bytes mean (`following`, `wire`).
Invariants: what was taken from a connection is given before anything else happens; a `WaitTimeout` loses nothing.
Changes together with: `reading_tasks.py`, which is the same for asyncio.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator

from sse_fast._chance import chance
from sse_fast._event import Event
from sse_fast._exceptions import WaitTimeout
from sse_fast._hints import Self

from .following import Following
from .pool import AttemptError, Connection, Pool
from .questions import Answer, Later, Question
from .wire import Response, WireError

_PIECE = 1 << 16  # Bytes read at a time.


class RemoteEvents:
    """The events of a stream of another process, one after another; made by `RemoteStream.events`.

    It ends after the terminal event. `close` ends it at once, also from another thread; so does the end of ``with``.

    Args:
        pool: what connects.
        ask: what asks a question over another connection.
        following: the place in the stream.
        timeout: seconds that a request may take until its answer begins.
        silence: seconds without an event after which `WaitTimeout` is raised.
    """

    def __init__(
        self,
        pool: Pool,
        ask: Callable[[Question], Answer],
        following: Following,
        timeout: float,
        silence: float | None,
    ) -> None:
        """Connects when it is first asked for an event."""
        self._pool = pool
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

    def __iter__(self) -> Iterator[Event]:
        """Itself."""
        return self

    def __next__(self) -> Event:
        """The next event."""
        deadline = None if self._silence is None else time.monotonic() + self._silence
        while not self._ready:
            if self._over:
                self._drop()  # `close` may have come before there was a connection to end.
                raise StopIteration
            self._step(deadline)
        return self._ready.popleft()

    @property
    def last_id(self) -> str | None:
        """The id that the next connection goes on after: the newest one read, or what was given."""
        return self._following.last_id

    def close(self) -> None:
        """Ends the iteration, and its connection."""
        self._over = True
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)  # Wakes the thread that reads; it closes.

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes it."""
        self.close()
        self._drop()

    def __del__(self) -> None:
        """Closes its connection: a loop may be left by a ``break``."""
        if self.__dict__.get("_connection") is not None:
            self._drop()

    def _step(self, deadline: float | None) -> None:
        """Connects, or reads once."""
        if self._response is None:
            self._wait(self._next_at, deadline)
            if not self._over:
                self._open()
            return
        assert self._connection is not None  # noqa: S101 - set together
        now = time.monotonic()
        silence = self._following.silence
        dead_at = None if silence is None else self._heard_at + silence
        ends = [end for end in (deadline, dead_at) if end is not None]
        try:
            self._connection.sock.settimeout(max(0.001, min(ends) - now) if ends else None)
            data = self._connection.sock.recv(_PIECE)
        except TimeoutError:
            if dead_at is not None and time.monotonic() >= dead_at:
                self._lost(clean=False)
            else:
                self._check(deadline)
        except OSError:
            self._lost(clean=False)
        else:
            self._received(data)

    def _received(self, data: bytes) -> None:
        response, self._heard_at = self._response, time.monotonic()
        assert response is not None  # noqa: S101 - there is one while there is a connection
        try:
            if data:
                self._ready += self._following.take(response.feed(data))
            else:
                response.end()
        except WireError:
            self._lost(clean=False)
        else:
            if response.whole:
                self._lost(clean=True)

    def _open(self) -> None:
        """One attempt to connect; sets the connection, or when the next may be."""
        following = self._following
        question = following.question()
        until = time.monotonic() + self._timeout
        connection: Connection | None = None
        asked = 0.0
        try:
            connection = self._pool.connect(until)
            connection.send(question.raw, until)
            response, first = connection.head(until)
            if response.status < 300:  # noqa: PLR2004 - success
                following.opened(response.status)
                self._over = self._over or following.over
                self._connection, self._response = connection, response
                self._heard_at = time.monotonic()
                self._ready += following.take(first)
                if response.whole:
                    self._lost(clean=True)
                return
            body = connection.body(response, first, until)
            judged = question.judged(Answer(response.status, response.headers, body))
            why, asked = (judged.why, judged.asked) if isinstance(judged, Later) else ("", 0.0)
        except AttemptError as error:
            why = str(error)
            if error.final:
                raise question.given_up(why, published=False) from error
        finally:
            if connection is not None and connection is not self._connection:
                connection.close()
        pause = following.failed(time.monotonic(), chance(), asked=asked)
        if pause is None:
            raise question.given_up(why, published=False)
        self._next_at = time.monotonic() + pause

    def _lost(self, *, clean: bool) -> None:
        """The connection is at its end; `clean` where the server ended the response."""
        self._drop()
        if self._over:
            return
        if clean and (question := self._following.asks_whether_ended()) is not None:
            page = self._ask(question).said()
            self._over = bool(page.get("ended"))
        self._next_at = time.monotonic() + self._following.closed(chance())

    def _drop(self) -> None:
        connection, self._connection, self._response = self._connection, None, None
        if connection is not None:
            connection.close()

    def _wait(self, until: float, deadline: float | None) -> None:
        """Waits in short steps, so that `close` ends it."""
        while not self._over and (left := until - time.monotonic()) > 0:
            self._check(deadline)
            rest = left if deadline is None else min(left, max(0.001, deadline - time.monotonic()))
            time.sleep(min(rest, 0.1))

    def _check(self, deadline: float | None) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeout(f"stream {self._following.name!r} was silent for {self._silence} s")
