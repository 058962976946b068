"""`AsyncClient`: a server of another process, for programs of asyncio.

Owns: the public classes, waiting between attempts.
Must not know: what an answer means (`questions`), when to repeat (`attempts`, `following`), connections (`pool_tasks`).
Invariants: nothing here holds up the loop. asyncio is imported when a client is first used.
Changes together with: `threads.py`, which is the same for threads and has the words of every method.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterable
from typing import Any

from sse_fast._chance import chance
from sse_fast._exceptions import RequestError, SseFastError, UnknownStream
from sse_fast._hints import Self, Unpack, asyncio, settings, ssl

from . import batches, encoding
from .address import address_of, checked_name
from .attempts import Attempts
from .following import Following
from .options import Options
from .pool import AttemptError
from .pool_tasks import Connections
from .questions import Answer, Asking, Question, checked_key, credential_of, key_of_part
from .reading_tasks import AsyncRemoteEvents
from .times import RETRY_FOR, TIMEOUT, checked_retry_for, checked_timeout


class AsyncClient:
    """A server of another process, for programs of asyncio: `Client`, whose calls are awaited.

    Any number of tasks of one event loop may use it; each that asks has a connection for so long. Used from another
    loop it begins anew there: what the old one's end left open is closed when it is collected. A task that is cancelled
    may have published: its request was on its way. With ``async with`` it is closed at the end.

    Args:
        url: as for `Client`.
        key: likewise.
        token: likewise.
        retry_for: likewise.
        timeout: likewise.
        tls: likewise.

    Raises:
        SettingError: an argument is not allowed.
        ArgumentTypeError: an argument has a type that it cannot have.

    >>> import sse_fast
    >>> client = sse_fast.AsyncClient("http://127.0.0.1:8080")
    >>> client.stream("runs/42")  # await client.stream("runs/42").publish({"status": "COMPILING"})
    <sse_fast.AsyncRemoteStream 'runs/42' of http://127.0.0.1:8080>
    """

    def __init__(  # noqa: PLR0913 - what there is to say of a server
        self,
        url: str,
        *,
        key: str | None = None,
        token: str | None = None,
        retry_for: float = RETRY_FOR,
        timeout: float = TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Checks the arguments; opens nothing."""
        self._address = address_of(url)
        self._asking = Asking(self._address, credential_of(key, token))
        self._retry_for = checked_retry_for(retry_for)
        self._timeout = checked_timeout(timeout)
        self._connections = Connections(self._address, tls)
        self._reading: weakref.WeakSet[AsyncRemoteEvents] = weakref.WeakSet()

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._address.url

    def stream(
        self,
        name: str,
        *,
        retry_for: float | None = None,
        timeout: float | None = None,
        **options: Unpack[settings.StreamOptions],
    ) -> AsyncRemoteStream:
        """The stream of that name; see `Client.stream`.

        Args:
            name: as for `Client.stream`.
            retry_for: likewise.
            timeout: likewise.
            **options: likewise.

        Raises:
            SettingError: the name, an option or an argument cannot be used.
            ArgumentTypeError: an argument has a type that it cannot have.
        """
        return AsyncRemoteStream(
            self,
            checked_name(name),
            self._retry_for if retry_for is None else checked_retry_for(retry_for),
            self._timeout if timeout is None else checked_timeout(timeout),
            Options(options),
        )

    async def aclose(self) -> None:
        """Closes its connections. What is under way is answered; what begins later is `Unreachable`.

        Iterations of `AsyncRemoteStream.events` end, also those that other tasks wait in.
        """
        self._connections.close()
        for events in list(self._reading):
            await events.aclose()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes it."""
        await self.aclose()

    def __repr__(self) -> str:
        """Its server; nothing of the key."""
        return f"<sse_fast.AsyncClient of {self.url}>"

    async def _ask(self, question: Question, retry_for: float, timeout: float) -> Answer:
        """The answer, after as many attempts as it takes; raises what `Client` raises."""
        attempts = Attempts(time.monotonic(), retry_for)
        while True:
            if self._connections.closed:
                raise question.given_up("this client was closed", attempts.published)
            try:
                judged = question.judged(await self._connections.exchange(question.raw, timeout))
            except AttemptError as error:
                why = str(error)
                if error.final:
                    raise question.given_up(why, attempts.published) from error
                pause = attempts.again(time.monotonic(), chance(), sent=error.sent, stale=error.stale)
            else:
                if isinstance(judged, Answer):
                    return judged
                why = judged.why
                pause = attempts.again(time.monotonic(), chance(), sent=judged.sent, asked=judged.asked)
            if pause is None:
                raise question.given_up(why, attempts.published)
            await asyncio.sleep(pause)


class AsyncRemoteStream:
    """A stream of a server of another process, made by `AsyncClient.stream`: `RemoteStream`, whose calls are awaited.

    Args:
        client: the client.
        name: the stream's name.
        retry_for: as for `Client`.
        timeout: likewise.
        options: those of the stream that go with every publish.
    """

    def __init__(self, client: AsyncClient, name: str, retry_for: float, timeout: float, options: Options) -> None:
        """See the class."""
        self._client = client
        self._name = name
        self._retry_for = retry_for
        self._timeout = timeout
        self._query = options.query
        self._limit = options.limit  # Events that the stream is known to take at once.

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    async def last_id(self) -> str | None:
        """The id of the newest event; see `RemoteStream.last_id`."""
        return (await self._state())[0]

    async def ended(self) -> bool:
        """Whether it has had its terminal event; see `RemoteStream.ended`."""
        return (await self._state())[1]

    async def publish(  # noqa: PLR0913 - those of Stream.publish
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        retry: float | None = None,
        snapshot: object = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Publishes one event and returns its id; see `RemoteStream.publish`, also for what it raises."""
        body = encoding.fields_of(data, event, id, retry, snapshot).encode()
        return (await self._publish(body, checked_key(idempotency_key))).id()

    async def publish_many(self, events: Iterable[Any], *, idempotency_key: str | None = None) -> list[str]:
        """Publishes many events in their order; see `RemoteStream.publish_many`, also for what it raises."""
        key = checked_key(idempotency_key)
        encoded = encoding.items_of(events)
        ids: list[str] = []
        try:
            while len(ids) < len(encoded):
                ids += await self._publish_part(encoded, len(ids), key)
        except SseFastError as error:
            error.ids = tuple(ids)
            raise
        return ids

    async def snapshot(self, data: object, *, event: str = "snapshot") -> None:
        """Sets the snapshot; see `RemoteStream.snapshot`."""
        await self._publish(encoding.snapshot_of(data, event).encode(), None)

    async def end(self, data: object = None, *, event: str = "end") -> str:
        """Publishes the terminal event and returns its id; see `RemoteStream.end`."""
        return (await self._publish(encoding.fields_of(data, event, None, None, None, end=True).encode(), None)).id()

    async def remove(self) -> None:
        """Removes the stream; see `RemoteStream.remove`."""
        with contextlib.suppress(UnknownStream):
            await self._ask(self._client._asking.remove(self._name))  # noqa: SLF001 - part of this package

    def events(
        self, *, last_event_id: str | None = None, timeout: float | None = None, retry_for: float | None = None
    ) -> AsyncRemoteEvents:
        """The stream's events, for ``async for``; see `RemoteStream.events`, also for what iterating raises."""
        limit = self._retry_for if retry_for is None else checked_retry_for(retry_for, endless=True)
        place = None if last_event_id is None else encoding.checked_id(last_event_id)
        following = Following(self._client._asking, self._name, place, limit)  # noqa: SLF001 - part of this package
        silence = None if timeout is None else checked_timeout(timeout)
        client = self._client
        events = AsyncRemoteEvents(client._connections, self._ask, following, self._timeout, silence)  # noqa: SLF001 - as above
        client._reading.add(events)  # noqa: SLF001 - as above
        return events

    def __repr__(self) -> str:
        """Its name and server."""
        return f"<sse_fast.AsyncRemoteStream {self._name!r} of {self._client.url}>"

    async def _ask(self, question: Question) -> Answer:
        return await self._client._ask(question, self._retry_for, self._timeout)  # noqa: SLF001 - part of this package

    async def _publish(self, body: bytes, key: str | None, *, many: bool = False) -> Answer:
        asking = self._client._asking  # noqa: SLF001 - part of this package
        return await self._ask(asking.publish(self._name, body, key, many=many, query=self._query))

    async def _publish_part(self, events: list[bytes], start: int, key: str | None) -> list[str]:
        """Publishes as many of the events from number `start` on as go into one request; their ids."""
        if key is not None:
            return await self._publish_keyed(events, start, key)
        part = batches.part_of(events, start, self._limit)
        try:
            answer = await self._publish(batches.body_of(part), None, many=len(part) > 1)
        except RequestError as error:
            self._limit = batches.smaller(error, len(part), self._limit)
            return await self._publish_part(events, start, None)
        return answer.ids(len(part))

    async def _publish_keyed(self, events: list[bytes], start: int, key: str) -> list[str]:
        """The same under a key of the caller's: nothing but the events decides how many these are."""
        if len(events) == 1:
            return [(await self._publish(events[0], key)).id()]
        part = batches.part_of(events, start, batches.MAX_EVENTS)
        answer = await self._publish(batches.body_of(part), key_of_part(key, start))
        return answer.ids(len(part))

    async def _state(self) -> tuple[str | None, bool]:
        """The newest id, and whether the stream has ended."""
        last: str | None = None
        try:
            while True:
                page = (await self._ask(self._client._asking.page(self._name, last))).said()  # noqa: SLF001 - as above
                last = page.get("last_id") or last
                if not page.get("more"):
                    # While nothing was published the id is that of a place alone, as `Stream.last_id` is None.
                    return None if page.get("empty") else last, bool(page.get("ended"))
        except UnknownStream:
            return None, False
