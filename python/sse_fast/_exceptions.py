"""Every exception of the package.

SseFastError
├── EventError               (ValueError)       an event's field has a value the wire cannot carry
├── EventTypeError           (TypeError)        an event's field has a type that events do not have
├── ArgumentTypeError        (TypeError)        an argument of any other method has a type that it cannot have
├── SettingError             (ValueError)       a setting or stream option is unknown or out of range
├── RouteError               (ValueError)       a path template cannot be routed, or is routed already
├── ResponseError            (ValueError)       a `Response` has a status or a header that cannot be sent
├── StartError               (OSError)          the server could not start
│   ├── AddressInUse         (OSError)          its address is taken
│   └── PermissionDenied     (PermissionError)  its port needs privileges
├── StoreError               (OSError)          the store's folder cannot be used, or cannot be written
│   ├── StoreLocked          (BlockingIOError)  another server has it
│   ├── StoreDenied          (PermissionError)  the system does not allow it
│   └── StoreFull            (OSError)          there is no room: nothing was published
├── RunError                 (OSError)          the child process could not be started or signalled
│   └── RunArgumentError     (ValueError)       an argument of `Server.run` cannot be used
├── StreamError              (RuntimeError)     the stream does not take the event, or another run
│   ├── StreamEnded          (RuntimeError)     it has had its terminal event, or was removed
│   ├── KeyReused            (RuntimeError)     its idempotency key was used for something else
│   ├── PublishInProgress    (RuntimeError)     another call with its idempotency key has not returned yet
│   ├── PublishWouldWait     (RuntimeError)     an event loop's thread would have to wait for a reader
│   └── TooManyStreams       (RuntimeError)     there are as many streams as may be
├── RequestError             (OSError)          a server of another process refused a request of a client
│   ├── Unreachable          (ConnectionError)  it gave no answer; `published` says whether it may have published
│   ├── AccessDenied         (PermissionError)  it does not let this key or token do that
│   └── UnknownStream        (LookupError)      it has no stream of that name to read
├── BackplaneError           (OSError)          the backplane's server refused what was asked of it
│   └── BackplaneUnavailable (ConnectionError)  it could not be reached, or did not answer in time
├── ServerClosed             (RuntimeError)     the server was closed
├── ForkError                (RuntimeError)     the server belongs to the parent of this process
├── WaitTimeout              (TimeoutError)     nothing came within the time given
└── HttpError                (RuntimeError)     raised by a handler: becomes that HTTP response

Owns: the classes, which are ordinary Python with docstrings and two bases.
Must not know: when they are raised.
Invariants: they have one root, so `except SseFastError` catches every error of the library; a group catches its leaves;
each class is also the builtin that it resembles. `RunArgumentError` is two, as `io.UnsupportedOperation` is: its
group's OSError, without a number, and ValueError.
Changes together with: `rust/sse-fast-py/src/errors.rs`, the one file that maps the engine's errors to them.
"""

from __future__ import annotations

import copyreg
import operator
from collections.abc import Iterable, Mapping


class SseFastError(Exception):
    """The root of every exception that sse_fast raises.

    Attributes:
        ids: what a `RemoteStream.publish_many` of many events had published before; empty for all others.
    """

    ids: tuple[str, ...] = ()


class EventError(SseFastError, ValueError):
    """An event was refused before anything was written: the text names the field and the position."""


class EventTypeError(SseFastError, TypeError):
    """An argument of a publish has a type that events do not have, or data that is not JSON: the text names it."""


class ArgumentTypeError(SseFastError, TypeError):
    """An argument has a type that it cannot have: the text names the argument, the value and what is allowed."""


class SettingError(SseFastError, ValueError):
    """A setting or stream option is unknown, or its value is out of range: the text says what is allowed."""


class RouteError(SseFastError, ValueError):
    """A path template cannot be routed: it is malformed, or in conflict with one that is routed already."""


class ResponseError(SseFastError, ValueError):
    """A `Response` or `HttpError` cannot be sent as it is: the text names the status, or the header and why."""


class StartError(SseFastError, OSError):
    """The server could not start. Its leaves say why where a program can do something about it."""


class AddressInUse(StartError):  # noqa: N818 - the name says it, as FileExistsError's siblings do
    """The address the server was to listen on is in use: the text says by whom, where that can be told."""


class PermissionDenied(StartError, PermissionError):  # noqa: N818 - as above
    """The server may not listen on that port, usually one below 1024."""


class StoreError(SseFastError, OSError):
    """The folder of ``serve(store=...)`` cannot be used, or an event could not be kept; ``errno`` is the system's.

    Raised by `serve`, and by whatever publishes: then nothing was published.
    """


class StoreLocked(StoreError, BlockingIOError):  # noqa: N818 - the name says it, as FileExistsError's siblings do
    """Another server has the store's folder: the text names its process. A folder is one server's at a time."""


class StoreDenied(StoreError, PermissionError):  # noqa: N818 - as above
    """The system does not allow it: the text says what was attempted."""


class StoreFull(StoreError):  # noqa: N818 - as above
    """The disk, the quota or the limit of this process leaves no room: nothing was published.

    It is tried again with the next event; the server goes on once there is room, and ``/readyz`` says 503 until then.
    """


class RunError(SseFastError, OSError):
    """The child process could not be started or signalled: no such command, not executable, no such directory."""


class RunArgumentError(RunError, ValueError):
    """An argument of `Server.run` cannot be used, such as an empty command; nothing was started."""


class StreamError(SseFastError, RuntimeError):
    """The stream does not take the event, or cannot be had; its leaves say why. That event was not published.

    It is raised itself where a second run, or the same watch once more, would write into a stream: nothing was started.
    """


class StreamEnded(StreamError):  # noqa: N818 - as above
    """The stream has had its terminal event, or was removed: it takes no more events.

    `Stream.remove` frees its name at once; `Server.stream` then makes a new stream of that name, with ids of its own.
    """


class KeyReused(StreamError):  # noqa: N818 - as above
    """The ``idempotency_key`` was used for something else within five minutes; nothing was published."""


class PublishInProgress(StreamError):  # noqa: N818 - as above
    """Another call with this ``idempotency_key`` has not returned yet; this one has published nothing."""


class PublishWouldWait(StreamError):  # noqa: N818 - as above
    """With ``publish_wait=None``, in the thread of an event loop: a reader's socket is full, and nothing is skipped."""


class TooManyStreams(StreamError):  # noqa: N818 - as above
    """There are ``max_streams`` streams: no other is made until one is removed, or forgotten after its end."""


class RequestError(SseFastError, OSError):
    """A server of another process did not do what a `Client` asked; the leaves say why where something can be done.

    Attributes:
        status: the HTTP status of its answer; None where none came.
        error: its word for programs, such as ``"unknown_stream"``; empty where there is none.
        published: whether what was to be published was: False it was not; None it may have been, as no answer came.
            One that was not is also no longer to come.
    """

    status: int | None = None
    error: str = ""
    published: bool | None = False


class Unreachable(RequestError, ConnectionError):  # noqa: N818 - as above
    """No answer came within ``retry_for`` seconds: refused, cut, silent, or the server said each time to come back.

    Where `published` is None an attempt reached the server, and only its answer is missing: give the same
    ``idempotency_key`` to try once more without publishing twice, within five minutes.
    """


class AccessDenied(RequestError, PermissionError):  # noqa: N818 - as above
    """The key or token is missing, is wrong or does not suffice, or the server takes nothing from elsewhere."""


class UnknownStream(RequestError, LookupError):  # noqa: N818 - as above
    """There is no stream of that name to read: it was not made yet, was removed, or is private."""


class BackplaneError(SseFastError, OSError):
    """The server that streams are shared through refused what was asked of it, such as for want of memory."""


class BackplaneUnavailable(BackplaneError, ConnectionError):  # noqa: N818 - as above
    """That server could not be reached, or did not answer within ``backplane_timeout``.

    Args:
        text: what was attempted.
        published: see below.

    Attributes:
        published: False where nothing was published, set or removed, and nothing will be; None where that is not
            known, because the answer was lost.

    >>> BackplaneUnavailable("cannot publish into 'a': the backplane is away").published
    False
    """

    published: bool | None

    def __init__(self, text: str = "", published: bool | None = False) -> None:  # noqa: FBT002 - made by the engine
        """Keeps what is known of the event."""
        super().__init__(text)
        self.published = published


class ServerClosed(SseFastError, RuntimeError):  # noqa: N818 - as above
    """The server was closed: it takes no more events, streams, routes or runs."""


class ForkError(SseFastError, RuntimeError):
    """The server belongs to the parent of this process; its threads did not survive the fork."""


class WaitTimeout(SseFastError, TimeoutError):  # noqa: N818 - as above
    """Nothing came within the time given."""


class HttpError(SseFastError, RuntimeError):
    """Raised by a handler: the response then is this error, as JSON ``{"error", "detail"}``.

    Args:
        status: the HTTP status, 400 to 599.
        detail: what was wrong, for the person who reads the response; it must not hold a secret.
        error: a short word for programs; by default the status in words, such as ``"not_found"``.
        headers: further response headers, as in a `Response`.
        body: sent as JSON in place of ``{"error", "detail"}``, for clients that know another form; None is not given.

    Raises:
        ResponseError: the status is not one of an error. A header that cannot be sent, and a body that is not
            JSON-able, are found when the response is made, and are then in the server's log.
        ArgumentTypeError: the status is not a whole number.

    >>> raise HttpError(400, "gpu: must be one of A100, H100", error="bad_field")
    Traceback (most recent call last):
    sse_fast.HttpError: 400 bad_field: gpu: must be one of A100, H100
    >>> HttpError(401, body={"error": {"message": "no such key", "type": "invalid_request_error"}}).body["error"][
    ...     "message"
    ... ]
    'no such key'
    """

    status: int
    detail: str
    error: str
    headers: tuple[tuple[str, str], ...]
    body: object

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        error: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        body: object = None,
    ) -> None:
        """Checks the status; the error's word defaults to the status in words."""
        self.status = checked_status("an HttpError", status, 400)
        self.detail = detail
        self.error = error if error is not None else _status_word(status)
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        self.headers = tuple((name, value) for name, value in pairs)
        self.body = body
        super().__init__(f"{self.status} {self.error}" + (f": {detail}" if detail else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Lets pickle and copy restore it without `__init__`: `args` holds the text, not the arguments."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


def checked_status(what: str, status: object, low: int) -> int:
    """`status` as a number from `low` to 599; `what` is the object that has it, for messages."""
    try:
        number = operator.index(status)  # type: ignore[arg-type]
    except TypeError:
        wrong = f"status={status!r} is not allowed: it must be a whole number from {low} to 599"
        raise ArgumentTypeError(wrong) from None
    if not low <= number <= 599:  # noqa: PLR2004 - the last of HTTP's statuses
        raise ResponseError(f"the status of {what} is {low} to 599, not {number}")
    return number


def _status_word(status: int) -> str:
    """``404`` as ``"not_found"``."""
    try:
        from http import HTTPStatus  # noqa: PLC0415 - a tenth of the time that importing the package would take

        phrase = HTTPStatus(status).phrase
    except ValueError:
        return "error"
    return phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")


for _class in list(vars().values()):
    if isinstance(_class, type) and _class.__module__ == __name__:
        _class.__module__ = "sse_fast"  # Tracebacks show the public name, also where only a client was imported.
