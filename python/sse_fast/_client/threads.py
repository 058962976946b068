"""`Client`: a server of another process, for programs of threads.

Owns: the public classes, waiting between attempts, iteration over a stream.
Must not know: what an answer means (`questions`), when to repeat (`attempts`, `following`), bytes (`wire`, `incoming`).
Invariants: every method may be called from any thread; two threads never share a connection at one time.
Changes together with: `tasks.py`, which is the same for asyncio.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterable
from typing import Any

from sse_fast._chance import chance
from sse_fast._exceptions import RequestError, SseFastError, UnknownStream
from sse_fast._hints import Self, Unpack, settings, ssl

from . import batches, encoding
from .address import address_of, checked_name
from .attempts import Attempts
from .following import Following
from .options import Options
from .pool import AttemptError, Pool
from .questions import Answer, Asking, Question, checked_key, credential_of, key_of_part
from .reading import RemoteEvents
from .times import RETRY_FOR, TIMEOUT, checked_retry_for, checked_timeout


class Client:
    """A server of another process; what `connect` returns. Cheap, thread-safe, to be kept for the program's life.

    It opens a connection when it first needs one, keeps it for the next request, and has as many as there are threads
    that ask at one time. A process that is forked begins with none. As a context manager it is closed at the end.

    Args:
        url: the server's URL; ``https`` is verified as browsers do.
        key: one of the server's ``publish_key``; read it from the environment, not from the program's text.
        token: a JSON Web Token in its place; at most one of the two.
        retry_for: for how many seconds a request is repeated that had no answer, or was told to come back: from 0 to
            240. Each has a key by which the server knows it again, so nothing is published twice.
        timeout: how many seconds one attempt may take, from connecting to the last byte of its answer.
        tls: how TLS is spoken; None verifies the certificate against the system's authorities.

    Raises:
        SettingError: an argument is not allowed.
        ArgumentTypeError: an argument has a type that it cannot have.

    >>> import sse_fast
    >>> client = sse_fast.Client("http://127.0.0.1:8080", key="a key of 16 or more".replace(" ", "-"))
    >>> client.stream("runs/42").name
    'runs/42'
    >>> client.close()
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
        self._pool = Pool(self._address, tls)
        self._reading: weakref.WeakSet[RemoteEvents] = weakref.WeakSet()

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
    ) -> RemoteStream:
        """The stream of that name. Cheap; the server is not asked, and makes it when something is first published.

        Options go with every publish, and are in force before its event is there, as those of `Server.stream` are; a
        reader sets none. They need a key: with a token a publish that has any raises `AccessDenied`. What they require
        of the stream's others the server finds: then the publish raises `SettingError`, and nothing was published.

        Args:
            name: as for `Server.stream`.
            retry_for: in the place of the client's.
            timeout: likewise.
            **options: as for `Server.stream`; what is not given stays as the server has it.

        Raises:
            SettingError: the name, an option or an argument cannot be used.
            ArgumentTypeError: an argument has a type that it cannot have.

        >>> import sse_fast
        >>> with sse_fast.connect("http://127.0.0.1:8080") as client:
        ...     client.stream("runs/42", history=1000, start="all", expire=None)
        <sse_fast.RemoteStream 'runs/42' of http://127.0.0.1:8080>
        """
        return RemoteStream(
            self,
            checked_name(name),
            self._retry_for if retry_for is None else checked_retry_for(retry_for),
            self._timeout if timeout is None else checked_timeout(timeout),
            Options(options),
        )

    def close(self) -> None:
        """Closes its connections. What is under way in other threads is answered; what begins later is refused.

        Iterations of `RemoteStream.events` end, also those that wait in other threads.
        """
        self._pool.close()
        for events in list(self._reading):
            events.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes it."""
        self.close()

    def __repr__(self) -> str:
        """Its server; nothing of the key."""
        return f"<sse_fast.Client of {self.url}>"

    def _ask(self, question: Question, retry_for: float, timeout: float) -> Answer:
        """The answer, after as many attempts as it takes.

        Raises:
            Unreachable: there was none.
            SseFastError: it is a refusal.
        """
        attempts = Attempts(time.monotonic(), retry_for)
        while True:
            if self._pool.closed:
                raise question.given_up("this client was closed", attempts.published)
            try:
                judged = question.judged(self._pool.exchange(question.raw, timeout))
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
            time.sleep(pause)


class RemoteStream:
    """A stream of a server of another process, made by `Client.stream`; it takes the arguments that `Stream` takes.

    Every method may be called from any thread. None holds the interpreter while it waits.

    Args:
        client: the client.
        name: the stream's name.
        retry_for: as for `Client`.
        timeout: likewise.
        options: those of the stream that go with every publish.
    """

    def __init__(self, client: Client, name: str, retry_for: float, timeout: float, options: Options) -> None:
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

    @property
    def last_id(self) -> str | None:
        """The id of the newest event, as the server says now; None before the first, and where there is no stream.

        It needs the right to read the stream. The server is asked each time; it answers with what it retains.

        Raises:
            AccessDenied: reading needs another right.
            Unreachable: no answer came.
        """
        return self._state()[0]

    @property
    def ended(self) -> bool:
        """Whether it has had its terminal event, as the server says now; see `last_id`."""
        return self._state()[1]

    def publish(  # noqa: PLR0913 - those of Stream.publish
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        retry: float | None = None,
        snapshot: object = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Publishes one event and returns its id; the bytes are those that `Stream.publish` would write.

        It returns once the server has published it. A request without an answer is repeated for ``retry_for`` seconds
        under a key by which the server knows it: it is published once, though it may have come several times. A server
        with a store or a backplane knows it also after a restart; another has forgotten keys and streams with it.

        Args:
            data: as for `Stream.publish`.
            event: likewise.
            id: likewise.
            retry: likewise.
            snapshot: likewise.
            idempotency_key: a key of the caller's own, such as the id of a task that may run again: within five minutes
                the same event under it is published once, from whichever process. None makes one for this call.

        Raises:
            EventError: a field has a value that the wire cannot carry, or the event is too long; nothing was published.
            EventTypeError: a field has a type that events do not have; likewise.
            StreamEnded: the stream takes no more events.
            TooManyStreams: the server has as many streams as it may.
            SettingError: the options of `Client.stream` are not allowed together with the stream's others.
            AccessDenied: the key or token does not let it publish here.
            Unreachable: no answer came; its `published` says whether it may have been published. Of a server whose
                certificate is not trusted that is said at once.
            RequestError: the server refused for another reason.
        """
        body = encoding.fields_of(data, event, id, retry, snapshot).encode()
        return self._publish(body, checked_key(idempotency_key)).id()

    def publish_many(self, events: Iterable[Any], *, idempotency_key: str | None = None) -> list[str]:
        """Publishes many events in their order, in few requests; returns their ids.

        All are checked before the first is sent. Each request has up to 256 events, or as many as the stream retains,
        and a MiB of them; the events of one are published together or not at all, and between two requests others may
        publish. What was published before an error is in the error's `ids`.

        Args:
            events: as for `Stream.publish_many`.
            idempotency_key: as for `publish`, for all of them together: the same list under it is published once. A
                list of one event is that event. The parts are of 256 events and a MiB then, whatever the stream
                retains: where it retains fewer, a longer list is refused, as `Stream.publish_many` refuses it.

        Raises:
            EventError: an event cannot be published; the text names its number, and nothing was published. Or, under an
                `idempotency_key`, a part is more than the stream retains.
            EventTypeError: an event has a type that events do not have; nothing was published.
            KeyReused: `idempotency_key` was used for something else.
            StreamEnded: as for `publish`.
            AccessDenied: likewise.
            Unreachable: likewise; its `published` speaks of the request that had no answer.
            RequestError: likewise.
        """
        key = checked_key(idempotency_key)
        encoded = encoding.items_of(events)
        ids: list[str] = []
        try:
            while len(ids) < len(encoded):
                ids += self._publish_part(encoded, len(ids), key)
        except SseFastError as error:
            error.ids = tuple(ids)
            raise
        return ids

    def snapshot(self, data: object, *, event: str = "snapshot") -> None:
        """Sets the snapshot; see `Stream.snapshot`. It raises what `publish` raises."""
        self._publish(encoding.snapshot_of(data, event).encode(), None)

    def end(self, data: object = None, *, event: str = "end") -> str:
        """Publishes the terminal event and returns its id; see `Stream.end`. It raises what `publish` raises."""
        return self._publish(encoding.fields_of(data, event, None, None, None, end=True).encode(), None).id()

    def remove(self) -> None:
        """Removes the stream: its name is free at once; see `Stream.remove`. One that there is not is no error.

        Raises:
            AccessDenied: the key or token does not let it publish here.
            Unreachable: no answer came.
        """
        with contextlib.suppress(UnknownStream):
            self._ask(self._client._asking.remove(self._name))  # noqa: SLF001 - part of this package

    def events(
        self, *, last_event_id: str | None = None, timeout: float | None = None, retry_for: float | None = None
    ) -> RemoteEvents:
        """The stream's events, one after another, across connections: each once, in order, up to the terminal event.

        A connection that is cut is followed by another that goes on where it was. What the server can no longer give
        is told by a ``gap`` event. It begins as any reader does: with the snapshot where there is one, and by the
        stream's option ``start``. It needs the right to read the stream.

        Args:
            last_event_id: begins right after the event of that id.
            timeout: seconds without an event after which `WaitTimeout` is raised, and iteration may go on; None waits
                without limit.
            retry_for: for how many seconds in a row the server may be away, `math.inf` without limit; None is the
                stream's.

        Raises:
            EventError: `last_event_id` cannot be an id.
            SettingError: another argument is not allowed.

        Iterating raises:
            UnknownStream: there is no such stream, or none any more.
            AccessDenied: it may not be read, or no longer.
            Unreachable: the server is away.
            WaitTimeout: nothing came within `timeout`.
        """
        limit = self._retry_for if retry_for is None else checked_retry_for(retry_for, endless=True)
        place = None if last_event_id is None else encoding.checked_id(last_event_id)
        following = Following(self._client._asking, self._name, place, limit)  # noqa: SLF001 - part of this package
        silence = None if timeout is None else checked_timeout(timeout)
        client = self._client
        events = RemoteEvents(client._pool, self._ask, following, self._timeout, silence)  # noqa: SLF001 - as above
        client._reading.add(events)  # noqa: SLF001 - as above
        return events

    def __repr__(self) -> str:
        """Its name and server."""
        return f"<sse_fast.RemoteStream {self._name!r} of {self._client.url}>"

    def _ask(self, question: Question) -> Answer:
        return self._client._ask(question, self._retry_for, self._timeout)  # noqa: SLF001 - part of this package

    def _publish(self, body: bytes, key: str | None, *, many: bool = False) -> Answer:
        asking = self._client._asking  # noqa: SLF001 - part of this package
        return self._ask(asking.publish(self._name, body, key, many=many, query=self._query))

    def _publish_part(self, events: list[bytes], start: int, key: str | None) -> list[str]:
        """Publishes as many of the events from number `start` on as go into one request; their ids."""
        if key is not None:
            return self._publish_keyed(events, start, key)
        part = batches.part_of(events, start, self._limit)
        try:
            answer = self._publish(batches.body_of(part), None, many=len(part) > 1)
        except RequestError as error:
            self._limit = batches.smaller(error, len(part), self._limit)
            return self._publish_part(events, start, None)
        return answer.ids(len(part))

    def _publish_keyed(self, events: list[bytes], start: int, key: str) -> list[str]:
        """The same under a key of the caller's: nothing but the events decides how many these are."""
        if len(events) == 1:
            return [self._publish(events[0], key).id()]
        part = batches.part_of(events, start, batches.MAX_EVENTS)
        answer = self._publish(batches.body_of(part), key_of_part(key, start))
        return answer.ids(len(part))

    def _state(self) -> tuple[str | None, bool]:
        """The newest id, and whether the stream has ended."""
        last: str | None = None
        try:
            while True:
                page = self._ask(self._client._asking.page(self._name, last)).said()  # noqa: SLF001 - as above
                last = page.get("last_id") or last
                if not page.get("more"):
                    # While nothing was published the id is that of a place alone, as `Stream.last_id` is None.
                    return None if page.get("empty") else last, bool(page.get("ended"))
        except UnknownStream:
            return None, False
