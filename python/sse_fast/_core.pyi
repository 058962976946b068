"""The engine as Python sees it: everything that `rust/sse-fast-py` exports.

Owns: types and documentation of the native classes. Only `Stream` is public; the private modules use the others.
Must not know: the public classes that are made from these.
Invariants: every text is the doc comment of the Rust file, word for word, so that `help` shows it too.
Changes together with: `rust/sse-fast-py/src`. mypy's stubtest compares the signatures, `tests/test_docs.py` the texts.
Long, because it carries the documentation of every native class.
"""

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar, final

from ._event import Event
from ._presence import PresenceCallbacks
from ._run import RunSpec
from ._settings import Encoder
from ._stats import ServerStats, StreamStats
from ._stream import Events

__all__ = [
    "Account",
    "Call",
    "Heartbeat",
    "KeySource",
    "Presence",
    "Publishing",
    "Reader",
    "Run",
    "Server",
    "Stream",
    "TokenKey",
    "Wakeups",
    "Watch",
    "__version__",
    "go_on_above_rust",
    "interpreter_ends",
    "json_dumps",
    "read_store",
    "use_hub_sleep",
]

__version__: Final[str]

_Row: TypeAlias = tuple[str, str | None, str | None, float | None]
_Reason: TypeAlias = Literal["timeout", "ended", "closed"]
_PresenceRow: TypeAlias = (
    tuple[Literal["join", "leave"], Stream, str | None] | tuple[Literal["empty", "last", "forgotten"], int, None]
)
_OnEmpty = TypeVar("_OnEmpty", bound=Callable[[], object])

def read_store(
    folder: str | os.PathLike[str],
) -> tuple[
    list[
        tuple[
            str,
            str,
            bool,
            bool,
            int,
            tuple[str, str | None, int | None, str] | None,
            list[tuple[str, str | None, int | None, str]],
        ]
    ],
    list[str],
]:
    """Reads a folder, which a server may be using: its streams, and what is damaged in it, in words."""

def go_on_above_rust() -> None:
    """Asked by Python code that runs long above Rust frames: the interpreter's end waits a second for it.

    Raises:
        ServerClosed: the interpreter ends.
    """

def interpreter_ends() -> None:
    """Called once, in the thread that ends the interpreter, when every server is closed; see `gate`."""

def json_dumps(value: object) -> bytes:
    """Compact JSON, encoded as `Stream.publish` would.

    Raises:
        EventTypeError: the value is not JSON-able; the text names the place and the type.
        EventError: a text in it has no UTF-8.
    """

def use_hub_sleep(hub_sleep: Callable[[], Callable[[float], object] | None]) -> None:
    """From now on a wait asks `hub_sleep` for the sleep of the calling thread's hub, if it has one."""

@final
class Stream:
    """A named, ordered, bounded log of events with its subscribers; made by `Server.stream`.

    Every method may be called from any thread; publishing waits for subscribers as `publish` says, and no other does.
    Handles are cheap; two handles on one name are the same stream, and equal, as long as it is not removed: the name's
    next life is another stream. In a child of the process that started the server every use raises `ForkError`.

    >>> import sse_fast
    >>> server = sse_fast.serve(0)
    >>> stream = server.stream("runs/42", start="all")
    >>> _ = stream.publish({"status": "COMPILING"}, event="COMPILING")
    >>> _ = stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED")
    >>> stream
    <sse_fast.Stream "runs/42", ended, 0 subscribers>
    """

    @property
    def name(self) -> str:
        """Its name: what follows ``/streams/`` in its URL; empty where it has none."""

    @property
    def subscribers(self) -> int:
        """How many subscribers it has now, in all processes that share it; readers in this process are not counted."""

    @property
    def last_id(self) -> str | None:
        """The id of the newest event, the terminal one included; None before the first.

        A reader that is given it as ``last_event_id`` goes on with what is published after it.
        """

    @property
    def ended(self) -> bool:
        """Whether the terminal event was published; `publish` then raises `StreamEnded`."""

    def publish(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
        snapshot: object = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Publishes one event and returns its id, a str such as ``"hodg0s4tjq-1"``.

        Under load: it appends and returns. In a flood, before the log would overwrite what a healthy subscriber has not
        been sent, it waits for the engine; for readers whose sockets are full it waits from a budget: all publishers of
        a stream together ``publish_wait`` seconds in a minute, one call half of it. It waits without the interpreter;
        others that publish during that time go on in the order they came. In the thread of a running event loop it
        never waits for a reader. At shutdown it raises `ServerClosed`.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example", start="all")
        >>> stream.publish({"n": 1}, event="progress") == stream.last_id
        True

        Args:
            data: str goes out as it is, with a ``data:`` line for each of its lines; bytes likewise, they must be
                UTF-8; everything else as compact JSON: dataclasses, datetimes, UUIDs, enums, pydantic models, Decimals,
                paths, sets and numpy's numbers and arrays too. Keys may be numbers, None, dates, UUIDs and enums. A NaN
                or an infinity is ``null``, as in browsers. The README has a table; ``serve(json=...)`` takes an encoder
                of one's own instead.
            event: the event's name; None is what readers call ``message``.
            id: an id of the caller's own instead of ``<epoch>-<n>``; readers can resume from it.
            retry: seconds that readers are to wait before they reconnect, up to an hour.
            snapshot: data that replaces everything up to and including this event, set in the same atomic step; a new
                subscriber gets it first. None leaves the snapshot as it is.
            idempotency_key: makes the call repeatable: within five minutes one with the same key publishes nothing and
                returns the first one's id. 1 to 255 printable characters of ASCII, of this stream alone. The server
                remembers 100,000 of them, the newest.

        Raises:
            EventError: a value the wire cannot carry: CR, LF or NUL in `event` or `id`, an empty `id`, data above
                ``max_event_bytes`` or not UTF-8, a negative `retry` or one above an hour. Nothing was published.
            EventTypeError: `event` or `id` is not a str, `retry` is not a number, or the data is not JSON-able; the
                text names the place in it, such as ``data['runs'][3]``. Nothing was published.
            StreamEnded: the stream has ended, or was removed.
            PublishWouldWait: with ``publish_wait=None``, in the thread of a running event loop: a reader's socket is
                full. Nothing was published.
            KeyReused: `idempotency_key` was used for something else. Nothing was published.
            PublishInProgress: another call with this `idempotency_key` has not returned yet. Nothing was published.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed.
        """

    def publish_many(
        self,
        events: Iterable[Event | tuple[object, str | None] | Mapping[str, object]],
        *,
        idempotency_key: str | None = None,
    ) -> list[str]:
        """Publishes several events, in order, crossing into the engine once; returns their ids.

        Under load and at shutdown it behaves as `publish` does, event by event; it does not hold the interpreter.

        Each is an `Event`, a ``(data, event)`` tuple, or a mapping with the names of `publish`'s arguments. All are
        converted and checked before the first is published, so that a wrong one publishes nothing; readers may see
        other publishers' events in between.

        Args:
            events: any iterable of them. It is read to its end first, and an exception that it raises is passed on.
            idempotency_key: as for `publish`, for all of them together. With a key they are appended in one step, with
                nobody's in between, all or none; the stream's ``history`` and ``history_bytes`` must hold them.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example")
        >>> len(stream.publish_many([("a", "line"), {"data": {"n": 1}, "retry": 2.0}, sse_fast.Event("b")]))
        3

        Raises:
            EventError: as for `publish`; the text says which item. Nothing was published. With a key also where the
                stream does not hold so many.
            EventTypeError: likewise; also where `events` is not an iterable of events.
            StreamEnded: the stream has ended. Where that happens in between, the events before it were published.
            KeyReused: `idempotency_key` was used for something else. Nothing was published.
            PublishInProgress: another call with this `idempotency_key` has not returned yet. Nothing was published.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed; likewise.
        """

    def snapshot(self, data: object, *, event: str = "snapshot") -> None:
        """Sets the snapshot: a new subscriber gets it first, in place of everything published so far.

        Nothing is sent to present subscribers. The engine keeps one snapshot, the newest, whatever the load, and gives
        it with the id of the last event that it covers, so that no event is lost or doubled between it and what
        follows. To set it and publish an event in one step, give `publish` its ``snapshot=``.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example")
        >>> stream.snapshot({"step": 7, "status": "RUNNING"})
        >>> next(stream.events(timeout=5.0)).event
        'snapshot'

        Args:
            data: as for `publish`.
            event: the name of the event that carries it; by default ``"snapshot"``.

        Raises:
            EventError: as for `publish`.
            EventTypeError: as for `publish`.
            StreamEnded: the stream has ended.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed.
        """

    def end(self, data: object = None, *, event: str = "end") -> str:
        """Publishes the terminal event and returns its id; the stream takes no more.

        Every subscriber gets it, however slow, and is then disconnected; one that takes nothing for ``stall_timeout``
        seconds is cut off before. For ``linger`` seconds a late reader still gets what it lacks; a reader that has the
        terminal event gets 204, which tells a browser not to return. At shutdown subscribers still get it, within the
        ``drain`` of `Server.close`.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example", start="all")
        >>> stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED") == stream.last_id
        True

        Args:
            data: as for `publish`; None is ``null``, because clients ignore an event without data.
            event: its name; by default ``"end"``.

        Raises:
            EventError: as for `publish`.
            EventTypeError: as for `publish`.
            StreamEnded: the stream has ended already.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed.
        """

    def apublish(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,
        retry: float | None = None,
        snapshot: object = None,
        idempotency_key: str | None = None,
    ) -> Coroutine[Any, Any, str]:
        """`publish` for coroutines: it never holds up its event loop, and lets others run every 64 events.

        Where `publish` would wait its task waits, from the same budget and in the same order, while the loop goes on;
        it costs no thread. Cancelled before it was appended, it has published nothing. The loop may be asyncio's, also
        uvloop's, or trio's.

        >>> import asyncio, sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example")
        >>> asyncio.run(stream.apublish({"n": 1}, event="progress")) == stream.last_id
        True

        Args:
            data: as for `publish`.
            event: as for `publish`.
            id: as for `publish`.
            retry: as for `publish`.
            snapshot: as for `publish`.
            idempotency_key: as for `publish`.

        Raises:
            EventError: as for `publish`.
            EventTypeError: as for `publish`.
            StreamEnded: the stream has ended.
            KeyReused: as for `publish`.
            PublishInProgress: as for `publish`.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed.
            RuntimeError: it has to wait, and runs on no event loop of these kinds.
        """

    def apublish_many(
        self,
        events: Iterable[Event | tuple[object, str | None] | Mapping[str, object]],
        *,
        idempotency_key: str | None = None,
    ) -> Coroutine[Any, Any, list[str]]:
        """`publish_many` for coroutines, as `apublish` is for `publish`; returns the ids.

        All events are converted and checked before the first is published, and others run after each 64 of either.
        Where it is cancelled in between, or the stream ends, the events before that stay published.

        >>> import asyncio, sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example")
        >>> len(asyncio.run(stream.apublish_many([("a", "line"), {"data": {"n": 1}}, sse_fast.Event("b")])))
        3

        Args:
            events: as for `publish_many`.
            idempotency_key: as for `publish_many`.

        Raises:
            EventError: as for `publish_many`. Nothing was published.
            EventTypeError: likewise.
            StreamEnded: the stream has ended. Where that happens in between, the events before it were published.
            KeyReused: as for `publish`.
            PublishInProgress: as for `publish`.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed; likewise.
            RuntimeError: it runs on no event loop of these kinds.
        """

    def asnapshot(self, data: object, *, event: str = "snapshot") -> Coroutine[Any, Any, None]:
        """`snapshot` for coroutines: it never waits, and lets others run every 64 calls.

        >>> import asyncio, sse_fast
        >>> server = sse_fast.serve(0)
        >>> asyncio.run(server.stream("example").asnapshot({"step": 7}))

        Args:
            data: as for `publish`.
            event: the name of the event that carries it; by default ``"snapshot"``.

        Raises:
            EventError: as for `publish`.
            EventTypeError: as for `publish`.
            StreamEnded: the stream has ended.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed.
        """

    def aend(self, data: object = None, *, event: str = "end") -> Coroutine[Any, Any, str]:
        """`end` for coroutines, as `apublish` is for `publish`.

        >>> import asyncio, sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example")
        >>> asyncio.run(stream.aend({"status": "BENCHMARKED"})) == stream.last_id
        True

        Args:
            data: as for `publish`; None is ``null``, because clients ignore an event without data.
            event: its name; by default ``"end"``.

        Raises:
            EventError: as for `publish`.
            EventTypeError: as for `publish`.
            StreamEnded: the stream has ended already.
            BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
            ServerClosed: the server was closed.
            RuntimeError: it runs on no event loop of these kinds.
        """

    def heartbeat(self, every: float = 5.0, comment: str = "heartbeat") -> Heartbeat:
        """Overrides the heartbeat inside a ``with`` block, by the engine's clock, even while Python is busy.

        Blocks nest: leaving one restores what was in force outside it, also when an exception leaves it. The block is
        given the stream. Heartbeats end with the stream and with the server; the block then changes nothing.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> with server.stream("completion", ids=False).heartbeat(every=5.0, comment="computing") as stream:
        ...     stream.name
        'completion'

        Args:
            every: seconds since the last write to a subscriber after which it gets a heartbeat, from 0.001 up.
            comment: the text of the heartbeat, which no reader sees as an event.

        Raises:
            SettingError: `every` is not allowed.
            ArgumentTypeError: `every` is not a number.
            EventTypeError: `comment` is not a str.
            EventError: the comment has a CR, LF or NUL; raised on entering.
        """

    def events(
        self,
        *,
        start: Literal["new", "last", "all"] | None = None,
        last_event_id: str | None = None,
        timeout: float | None = None,
    ) -> Events:
        """Iterates over the events in this process, with ``for`` or ``async for``, until the terminal event.

        A reader that falls out of the stream's history gets a ``gap`` event; it never slows a publisher. When the
        server closes, or the stream is removed, the iteration ends. It waits without holding the interpreter, and
        Ctrl-C interrupts it; with ``async for`` it costs no thread.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example", start="all")
        >>> _ = stream.publish({"n": 1})
        >>> _ = stream.end()
        >>> [(event.event, event.data) for event in stream.events(timeout=5.0)]
        [('message', '{"n":1}'), ('end', 'null')]

        Args:
            start: what comes first: ``"new"``, ``"last"`` or ``"all"``; by default the stream's own ``start``.
            last_event_id: goes on right after this event instead, as a reconnecting client does.
            timeout: seconds of silence after which `WaitTimeout` is raised; None waits without limit.

        Raises:
            SettingError: `start` and `last_event_id` were both given, or a value is not allowed.
            EventTypeError: `last_event_id` is not a str.
            WaitTimeout: in the iteration, after `timeout` silent seconds; it may be continued.
        """

    def readers(self) -> dict[str | None, int]:
        """How many connections each present reader has, by its name; None is those without one.

        A reader's name is what `authorize`, a token's ``sub`` or a ticket gave it. Readers in this process are not
        counted. It costs a copy of the names, whatever the load; after shutdown nobody is here.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> server.stream("room").readers()
        {}
        """

    def on_empty(self, callback: _OnEmpty, after: float | None = None) -> _OnEmpty:
        """Calls `callback`, without arguments, each time nobody has read the stream for a while; returns the callback.

        That is once for each time that its last subscriber has been gone for `after` seconds, or that the client of the
        handler which returned the stream left before it read. A stream that nobody has asked for is not empty in this
        sense, and a reader that comes back in time was never gone. Readers in this process do not count. Once the
        stream has ended or was removed the callback is called a last time and let go of.

        Callbacks run one after another on a thread of the server's own, never on the engine's: none delays a reader,
        and one that waits delays the others. An exception in one is logged. At shutdown, when every reader leaves, it
        is not called any more.

        >>> import sse_fast, threading
        >>> server = sse_fast.serve(0)
        >>> hung_up = threading.Event()
        >>> _ = server.stream(None).on_empty(hung_up.set)

        Args:
            callback: what is called; what it holds is kept as long as the stream may call it.
            after: seconds; None is 1 for a nameless stream, and 10 for one with a name, whose EventSource comes back
                after three.

        Raises:
            ArgumentTypeError: `callback` cannot be called, or is an ``async def`` function: use `await_empty` there.
            SettingError: `after` is not allowed.
            ServerClosed: the server was closed.
        """

    def wait_empty(self, timeout: float | None = None, *, after: float | None = None) -> None:
        """Waits until nobody has read the stream for a while; see `on_empty` for what that is.

        It returns at once where that is so already, and as soon as nobody is left where the stream was removed. It
        waits without holding the interpreter, and Ctrl-C interrupts it.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> server.stream("room").wait_empty(timeout=0.01)
        Traceback (most recent call last):
            ...
        sse_fast.WaitTimeout: stream 'room' was not empty within 0.01 s

        Args:
            timeout: the most seconds to wait; None waits without limit.
            after: as for `on_empty`.

        Raises:
            WaitTimeout: it was not within `timeout`.
            ServerClosed: the server was closed.
            SettingError: `timeout` or `after` is not allowed.
        """

    def await_empty(self, timeout: float | None = None, *, after: float | None = None) -> Coroutine[Any, Any, None]:
        """The same for coroutines: it leaves the event loop to others, and costs no thread.

        >>> import asyncio, sse_fast
        >>> server = sse_fast.serve(0)
        >>> asyncio.run(server.stream("room").await_empty(timeout=0.01))
        Traceback (most recent call last):
            ...
        sse_fast.WaitTimeout: stream 'room' was not empty within 0.01 s

        Args:
            timeout: as for `wait_empty`.
            after: as for `on_empty`.

        Raises:
            WaitTimeout: it was not within `timeout`.
            ServerClosed: the server was closed.
            SettingError: `timeout` or `after` is not allowed.
        """

    def stats(self) -> StreamStats:
        """The stream's counters and present numbers; cheap enough to be asked every second.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> stream = server.stream("example")
        >>> _ = stream.publish("x")
        >>> stream.stats().published
        1
        """

    def remove(self) -> None:
        """Forgets the name at once; a later stream of that name has a new epoch.

        Subscribers get what was published before, then they are disconnected, without a terminal event. To tell them
        that the stream is over, `end` it instead; it is then forgotten ``linger`` seconds later, and this forgets it
        sooner, so that the name can begin anew. A handle that is still held raises `StreamEnded` where it publishes.
        Does nothing to a stream that was removed before.

        >>> import sse_fast
        >>> server = sse_fast.serve(0)
        >>> server.stream("example").remove()
        >>> server.streams()
        []
        """

    def _reader(self, start: str | None = None, last_event_id: str | None = None) -> Reader:
        """The engine's reader below `events`."""

    def _begin(
        self,
        data: object,
        event: str | None,
        id: str | None,
        retry: float | None,
        snapshot: object,
        idempotency_key: str | None,
    ) -> str | Publishing:
        """The id where it was published at once, else what is to be stepped."""

    def _begin_many(self, events: Iterable[Any]) -> Publishing:
        """What is to be stepped to publish events, which are added to it; checks that `events` is an iterable."""

    def _begin_snapshot(self, data: object, event: str | None) -> Publishing | None:
        """What is to be stepped to set the snapshot; None where that was done at once."""

    def _begin_end(self, data: object, event: str | None) -> Publishing:
        """What is to be stepped to end the stream."""

    def _on_empty(self, key: int, after: float) -> None:
        """From now on `key` is told once for each time that the stream has been empty for `after` seconds."""

    def _wait_empty(self, after: float, timeout: float | None) -> Literal["empty", "timeout", "closed"]:
        """Waits until it was empty for `after` seconds, at most `timeout`: ``"empty"``, ``"timeout"``, ``"closed"``."""

    def _empty_in(self, after: float) -> float | None:
        """In how many seconds it will have been empty for `after` seconds if nobody comes; 0.0 where it has, None where
        somebody reads it or is on the way, or nobody has asked for it.
        """

    def _watch_empty(self, wakeups: Wakeups, number: int) -> Watch:
        """Watches it: `number` is among the wake-ups once nobody reads the stream any more."""

    def _configure(self, options: dict[str, Any]) -> None:
        """Sets options on it, whatever leads to it."""

    @property
    def _closed(self) -> bool:
        """Whether the server was closed."""

    @property
    def _number(self) -> int:
        """A number that is the stream's as long as this is held."""
    def _encode(self, data: object) -> bytes:
        """The bytes that `publish` would send for this data."""

@final
class Heartbeat:
    """The ``with stream.heartbeat(...)`` block."""

    def __enter__(self) -> Stream:
        """The stream, with the heartbeat overridden."""

    def __exit__(
        self,
        *_exception: object,
    ) -> Literal[False]:
        """Restores the heartbeat that was in force outside."""

@final
class Reader:
    """A stream read in this process: an event as ``(data, event, id, retry)``, or the reason why there is none."""

    def next(self, timeout: float | None = None) -> tuple[_Row, None] | tuple[None, _Reason]:
        """Waits for an event, at most `timeout` seconds (None: without limit), and handles signals during the wait."""

    def next_parked(self) -> tuple[_Row, None] | tuple[None, _Reason]:
        """The same without a timeout, for threads of this package that do nothing else."""

    def try_next(self) -> tuple[_Row, None] | tuple[None, _Reason]:
        """The next event if there is one already."""

    @property
    def stream_number(self) -> int:
        """A number that is the stream's as long as somebody reads it: two readers of one stream have the same."""

@final
class Wakeups:
    """One event loop's wake-ups: a descriptor that becomes readable when streams that are watched have news."""

    def __new__(cls) -> Wakeups: ...
    def fileno(self) -> int:
        """The descriptor; it is closed with this object."""

    def take(self) -> list[int]:
        """The numbers of the streams that have news, each once; the descriptor is quiet then until there is more."""

    def watch(self, reader: Reader, number: int) -> Watch:
        """Watches the stream of a reader: `number` is among those that `take` gives after each piece of news."""

@final
class Watch:
    """The watching of one stream; it ends with `stop`, or when it is forgotten."""

    def rearm(self) -> None:
        """The number was taken: what is published from here on brings it again. Readers look after this."""

    def stop(self) -> None:
        """Stops watching."""

@final
class Account:
    """What a task has waited for readers' sockets in the last minute."""

    def __new__(cls) -> Account: ...

@final
class Publishing:
    """Events that are being published for a coroutine."""

    @property
    def left(self) -> int:
        """How many events are not published yet."""

    def add(self, events: list[Any], first: int) -> None:
        """Adds events behind the others, in the forms of `Stream.publish_many`; `first` is the first one's number."""

    def once(self, idempotency_key: str) -> list[str] | None:
        """What was added is published under this key, in one step: None, or the ids where it was published before."""

    def step(self, wakeups: Wakeups, number: int, account: Account) -> tuple[list[str], float | None]:
        """Publishes for one turn at most: the ids, and seconds where it waits. Then it is to be stepped again, after
        those or once `number` is among the loop's wake-ups.
        """

    def give_up(self, account: Account) -> None:
        """Publishes nothing more."""

@final
class Presence:
    """A server's queue of who comes and goes."""

    def want(self) -> None:
        """Joins and leaves are told from now on."""

    def take(self, callbacks: PresenceCallbacks) -> list[_PresenceRow] | None:
        """Waits for ``(kind, stream or key, reader)`` rows; None once the engine has stopped and all were given.

        `callbacks` is what the streams in them ask for theirs.
        """

@final
class Run:
    """A child process of the engine; `sse_fast.Run` is made from it."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def status(self) -> str | None:
        """The name of the last event."""

    @property
    def result(self) -> str | None:
        """The data of the last event that carried any."""

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""

    def wait_ended(self, timeout: float | None = None) -> bool:
        """Waits until the terminal event is published; False if `timeout` seconds passed before."""

    def terminate(self) -> None:
        """Sends SIGTERM."""

    def kill(self) -> None:
        """Sends SIGKILL."""

    def signal(self, number: int) -> None:
        """Sends a signal."""

@final
class Call:
    """A request of the engine to Python, a handler's, a check of rights or an ``exists`` check, to be answered once."""

    @property
    def key(self) -> int:
        """Which callable is meant; its number was given to `route` or `handler`."""

    @property
    def number(self) -> int:
        """Its number in its lane."""

    @property
    def stream(self) -> str | None:
        """The name an ``exists`` check asks for; None for a handler's call."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the streams that a request wants to read; None but for a check of its rights."""

    @property
    def lost(self) -> bool:
        """Whether the answer is no longer wanted, nor the stream read that a generator was to fill."""

    def request(
        self,
    ) -> (
        tuple[
            str,
            str,
            list[tuple[str, str]],
            list[tuple[str, str]],
            list[tuple[str, str]],
            bytes,
            tuple[str, int] | None,
        ]
        | None
    ):
        """``(method, path, params, query, headers, body, client)``; None for an ``exists`` check."""

    def answer_stream(self, stream: Stream, headers: list[tuple[str, str]], *, generated: bool = False) -> None:
        """Answers with a stream, whose head has these headers, too; `generated` where a generator fills it, to be
        closed once nobody reads it.
        """

    def answer_response(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answers with a whole response."""

    def admit(self, reader: str | None, ttl: float | None) -> None:
        """Answers a check of rights: the request may read what it asked for, as this reader, for so many seconds."""

    def fail(self) -> None:
        """There is no answer: the engine has one for that."""

    def deny(self) -> None:
        """Answers a check of rights: it may not."""

    def answer_exists(self, exists: bool) -> None:
        """Answers an ``exists`` check."""

@final
class TokenKey:
    """A key that tokens are verified with."""

    def __new__(cls, algorithm: str, given: bytes, id: str | None) -> TokenKey: ...
    @staticmethod
    def from_jwk(algorithm: str, json: str, id: str | None) -> TokenKey:
        """The same of a JWK, as JSON."""

@final
class KeySource:
    """Keys that are fetched from the web by a thread of Python's."""

    def __new__(cls) -> KeySource: ...
    def wait(self, timeout: float) -> bool | None:
        """Waits for a fetch: True where one is to be done now, False after `timeout` seconds, None at the end."""

    def begin(self) -> None:
        """A fetch begins that no request waits for."""

    def fetched(self, set: bytes | None) -> int | None:
        """A fetch has ended, with a key set or without; how many keys it has, None where the old ones stay."""

@final
class Server:
    """An engine; `sse_fast.Server` is made from it."""

    def __new__(cls, settings: dict[str, Any], stream: dict[str, Any], json: Encoder | None = None) -> Server:
        """Starts it; `stream` holds the defaults of its streams' options, `json` is an encoder of one's own."""

    @property
    def port(self) -> int:
        """The port it listens on."""

    def held(self) -> list[tuple[str, int, list[int], str | None]]:
        """What a forked child has of it.

        Of each listener address and port of its sockets, and descriptors of polls; and once the folder of its store.
        """

    def metrics_address(self) -> tuple[str, int] | None:
        """Address and port of the listener that metrics have of their own, if they have."""

    def leave(self) -> None:
        """From now on it says that it is to be sent no more requests, and serves as before."""

    @property
    def closed(self) -> bool:
        """Whether closing has begun; also true in a process that did not start it."""

    def set_callbacks(self, callbacks: PresenceCallbacks) -> None:
        """What its streams ask for their callbacks; to be given once."""

    def presence(self) -> Presence:
        """The queue of who comes and goes."""

    def nameless_stream(self, options: dict[str, Any]) -> Stream:
        """A stream without a name, which only a handler can hand out."""

    def stream(self, name: str, options: dict[str, Any] | None = None) -> Stream:
        """The stream of that name, made if there is none; `options` are applied to it."""

    def find(self, name: str) -> Stream | None:
        """The stream of that name, if there is one."""

    def streams(self) -> list[Stream]:
        """Every stream there is now."""

    def stats(self) -> ServerStats:
        """What it has counted so far."""

    def json(self, value: object) -> bytes:
        """A value as this server's events carry it as JSON: a str is a JSON string here."""

    def route(
        self,
        template: str,
        stream: str,
        *,
        wait: float,
        retry_delay: float,
        exists: int | None,
        create: bool,
        options: dict[str, Any],
    ) -> None:
        """Maps a URL template to a stream's name; `exists` is the key of a callable."""

    def handler(
        self, method: str, template: str, key: int, *, kind: str, early_head: bool, options: dict[str, Any]
    ) -> None:
        """Maps a method and a URL template to the callable with that key, which is of that kind: ``"function"``,
        ``"coroutine"``, ``"generator"`` or ``"async generator"``.
        """

    def authorize(self, key: int, kind: str) -> bool:
        """The callable with that key, of that kind, decides who may read; False where another does already."""

    def ticket(self, subscribe: list[str], reader: str | None, ttl: float) -> str:
        """A ticket for the streams that these patterns match, which is good for `ttl` seconds."""

    def disconnect(self, reader: str) -> int:
        """Ends every connection of that reader; how many there were."""

    def generated(self, path: str, key: int, options: dict[str, Any] | None) -> Stream:
        """A stream for a generator of the handler with that key to fill; `path` is its request's."""

    def feed(
        self,
        stream: Stream,
        data: object,
        *,
        event: str | None,
        id: str | None,
        retry: float | None,
        last: bool,
        wait: bool,
    ) -> bool:
        """Publishes what a generator yielded into its stream; `last` ends that. Waits for the reader, or, unless
        `wait`, returns False where it would have to.
        """

    def asset(self, path: str, content_type: str, body: bytes) -> None:
        """Serves fixed bytes at `path`."""

    def check_no_run(self, stream: Stream) -> None:
        """Refuses where a run writes into the stream."""

    def run(self, stream: Stream, spec: RunSpec) -> Run:
        """Starts a child process whose events go to that stream."""

    def next_call(self, lane: str) -> Call | int | None:
        """Waits for the next call of a lane: ``"threads"``, ``"loop"``, ``"generators"`` or ``"checks"``. None once the
        engine has stopped; in the lane ``"loop"`` also the number of a call whose answer is no longer wanted.
        """

    def next_logs(self) -> list[tuple[int, str, str]] | None:
        """Waits for ``(level, logger, text)`` records; None once it has stopped and all were given."""

    def close(self, drain: float) -> None:
        """Drains for at most `drain` seconds and stops; an exception of a signal handler leaves only the wait."""

    def wait_stopped(self, timeout: float) -> bool:
        """Waits at most `timeout` seconds; True once the engine has stopped."""
