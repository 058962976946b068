"""The connections of a client of asyncio: one for each request that is under way, kept for the next.

Owns: the pairs of asyncio's streams, how long each step may take.
Must not know: what is asked; repeating.
Invariants: nothing here holds up the loop. A connection on which anything went wrong, or a request was cancelled, is
closed.
Changes together with: `pool.py`, which is the same for threads.
"""

from __future__ import annotations

import contextlib
import time

from sse_fast._hints import asyncio, ssl

from .address import Address
from .pool import AttemptError, context_of, no_connection, reason
from .questions import Answer
from .wire import Response, WireError

_PIECE = 1 << 16  # Bytes read at a time.
_MAX_KEPT = 32  # Connections; see `pool`.


class Connection:
    """A pair of asyncio's streams that carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See the class."""
        self.reader = reader
        self.writer = writer
        self.fresh = True

    async def head(self, raw: bytes) -> tuple[Response, bytes]:
        """Sends a request; the head of the answer, and what of its body came with it.

        Raises:
            OSError: the connection failed.
            WireError: it ended, or what came is no answer.
        """
        self.writer.write(raw)
        await self.writer.drain()
        response, first = Response(), b""
        while not response.status:
            data = await self.reader.read(_PIECE)
            if not data:
                response.end()
            first += response.feed(data)
        return response, first

    async def body(self, response: Response, first: bytes) -> bytes:
        """The whole body; raises what `head` raises."""
        pieces = [first]
        while not response.whole:
            data = await self.reader.read(_PIECE)
            if data:
                pieces.append(response.feed(data))
            else:
                response.end()
        return b"".join(pieces)

    def is_idle(self) -> bool:
        """Whether it is open, as far as the loop knows."""
        return not self.writer.is_closing() and not self.reader.at_eof()

    def close(self) -> None:
        """Closes it at once."""
        with contextlib.suppress(RuntimeError):  # The loop was closed.
            self.writer.transport.abort()


class Connections:
    """The connections to one server, those of one event loop."""

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        """Opens nothing yet."""
        self._address = address
        self._context = context_of(address, context)
        self._kept: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    async def exchange(self, raw: bytes, timeout: float) -> Answer:
        """One attempt at a request.

        Raises:
            AttemptError: no answer came within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        connection = self._take() or await self.connect(timeout)
        sent_whole = False
        try:
            response, first = await asyncio.wait_for(connection.head(raw), _left(deadline))
            sent_whole = True
            body = await asyncio.wait_for(connection.body(response, first), _left(deadline))
        except (OSError, WireError, asyncio.TimeoutError) as error:
            late = isinstance(error, (TimeoutError, asyncio.TimeoutError))
            stale = not connection.fresh and not late and not sent_whole
            connection.close()
            if stale:
                self._drop()
            why = "no answer came in time" if late else reason(error)
            # What the loop has taken may be sent at any time: only the answer tells.
            raise AttemptError(why, sent=True, stale=stale) from error
        except BaseException:
            connection.close()
            raise
        connection.fresh = False
        if response.reusable and not self.closed and len(self._kept) < _MAX_KEPT:
            self._kept.append(connection)
        else:
            connection.close()
        return Answer(response.status, response.headers, body)

    async def connect(self, timeout: float) -> Connection:
        """A new connection, which is the caller's.

        Raises:
            AttemptError: there is none.
        """
        address = self._address
        name = address.host if self._context is not None else None
        opening = asyncio.open_connection(address.host, address.port, ssl=self._context, server_hostname=name)
        try:
            return Connection(*await asyncio.wait_for(opening, timeout))
        except asyncio.TimeoutError as error:
            raise AttemptError("no answer came in time", sent=False) from error
        except (OSError, ValueError) as error:
            raise no_connection(error) from error

    def close(self) -> None:
        """Closes what is kept, and keeps nothing more."""
        self.closed = True
        self._drop()

    def _take(self) -> Connection | None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # A program that runs one loop after another: the old one's are of no use.
            self._drop()
            self._loop = loop
        while self._kept:
            connection = self._kept.pop()
            if connection.is_idle():
                return connection
            connection.close()
        return None

    def _drop(self) -> None:
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
