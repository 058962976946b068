"""sse_fast: Server-Sent Events from Python at the speed of the socket, by a Rust engine inside.

>>> import sse_fast
>>> server = sse_fast.serve(0)  # returns at once; engine threads run from here on
>>> stream = server.stream("runs/42")  # get or create; cheap, thread-safe
>>> _ = stream.publish({"status": "COMPILING"}, event="COMPILING")
>>> _ = stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED")
>>> server.close()  # or server.wait(): until Ctrl-C or SIGTERM

Owns: the public names, which it re-exports; each one's module says what it owns. Every type that a public call takes or
returns is among them.
Invariants: importing it starts no thread and imports neither asyncio nor orjson. Annotations resolve at run time.
"""

from types import FunctionType as _FunctionType

from ._core import Heartbeat, Stream, __version__
from ._exceptions import (
    AddressInUse,
    ArgumentTypeError,
    EventError,
    EventTypeError,
    ForkError,
    HttpError,
    PermissionDenied,
    PublishWouldWait,
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
    WaitTimeout,
)
from ._handlers import Exists, Handler
from ._request import Headers, HeadersGiven, Request, Response
from ._rights import Algorithm, Authorize, Grant, Key, Tokens
from ._run import Run, RunArgument
from ._server import Server, serve
from ._settings import Encoder, ServeSettings, StreamOptions
from ._stats import ClosedConnections, GapReasons, Resumes, ServerStats, StreamStats
from ._stream import Event, Events
from ._watch import Poll, Until, Watch

__all__ = [
    "AddressInUse",
    "Algorithm",
    "ArgumentTypeError",
    "Authorize",
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
    "PermissionDenied",
    "Poll",
    "PublishWouldWait",
    "Request",
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
    "Until",
    "WaitTimeout",
    "Watch",
    "__version__",
    "serve",
]

for _value in [globals()[_name] for _name in __all__]:
    if issubclass(type(_value), (type, _FunctionType)) and _value.__module__ != __name__:  # No alias, no native class.
        _value.__module__ = __name__  # Tracebacks and reprs show the public name.
