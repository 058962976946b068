"""sse_fast: Server-Sent Events from Python at the speed of the socket, by a Rust engine inside.

>>> import sse_fast
>>> server = sse_fast.serve(0)  # returns at once; engine threads run from here on
>>> stream = server.stream("runs/42")  # get or create; cheap, thread-safe
>>> _ = stream.publish({"status": "COMPILING"}, event="COMPILING")
>>> _ = stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED")
>>> server.close()  # or server.wait(): until Ctrl-C or SIGTERM

Owns: the public names, which it re-exports; each one's module says what it owns. Every type that a public call takes or
returns is among them.
Invariants: importing it imports nothing of the package. A name is imported when it is first used: an exception, an
`Event` or what a client needs without the engine, any other with all others. None starts a thread or imports asyncio or
orjson. Annotations resolve at run time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core import Heartbeat, Stream, __version__
    from ._event import Event
    from ._exceptions import (
        AccessDenied,
        AddressInUse,
        ArgumentTypeError,
        BackplaneError,
        BackplaneUnavailable,
        EventError,
        EventTypeError,
        ForkError,
        HttpError,
        KeyReused,
        PermissionDenied,
        PublishInProgress,
        PublishWouldWait,
        RequestError,
        ResponseError,
        RouteError,
        RunArgumentError,
        RunError,
        ServerClosed,
        SettingError,
        SseFastError,
        StartError,
        StoreDenied,
        StoreError,
        StoreFull,
        StoreLocked,
        StreamEnded,
        StreamError,
        TooManyStreams,
        UnknownStream,
        Unreachable,
        WaitTimeout,
    )
    from ._handlers import Exists, Handler
    from ._request import Headers, HeadersGiven, Request, Response
    from ._rights import Algorithm, Authorize, Grant, Key, Tokens
    from ._run import Run, RunArgument
    from ._server import Server, serve
    from ._settings import Encoder, ServeSettings, StreamOptions
    from ._stats import BackplaneStats, ClosedConnections, GapReasons, Resumes, ServerStats, StreamStats
    from ._stream import Events
    from ._watch import Poll, Until, Watch
    from .client import AsyncClient, AsyncRemoteEvents, AsyncRemoteStream, Client, RemoteEvents, RemoteStream, connect

__all__ = [
    "AccessDenied",
    "AddressInUse",
    "Algorithm",
    "ArgumentTypeError",
    "AsyncClient",
    "AsyncRemoteEvents",
    "AsyncRemoteStream",
    "Authorize",
    "BackplaneError",
    "BackplaneStats",
    "BackplaneUnavailable",
    "Client",
    "ClosedConnections",
    "Encoder",
    "Event",
    "EventError",
    "EventTypeError",
    "Events",
    "Exists",
    "ForkError",
    "GapReasons",
    "Grant",
    "Handler",
    "Headers",
    "HeadersGiven",
    "Heartbeat",
    "HttpError",
    "Key",
    "KeyReused",
    "PermissionDenied",
    "Poll",
    "PublishInProgress",
    "PublishWouldWait",
    "RemoteEvents",
    "RemoteStream",
    "Request",
    "RequestError",
    "Response",
    "ResponseError",
    "Resumes",
    "RouteError",
    "Run",
    "RunArgument",
    "RunArgumentError",
    "RunError",
    "ServeSettings",
    "Server",
    "ServerClosed",
    "ServerStats",
    "SettingError",
    "SseFastError",
    "StartError",
    "StoreDenied",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "Stream",
    "StreamEnded",
    "StreamError",
    "StreamOptions",
    "StreamStats",
    "Tokens",
    "TooManyStreams",
    "UnknownStream",
    "Unreachable",
    "Until",
    "WaitTimeout",
    "Watch",
    "__version__",
    "connect",
    "serve",
]

if not TYPE_CHECKING:  # Type checkers know what there is, and what there is not.

    def __getattr__(name: str) -> object:
        """Imports what is asked for."""
        if name == "_core" or name in __all__:
            from . import _public  # noqa: PLC0415 - nothing of the package before it is asked for

            return _public.found(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, whether they were imported yet or not."""
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})
