"""sse_fast: Server-Sent Events from Python at the speed of the socket, by a Rust engine inside.

>>> import sse_fast
>>> server = sse_fast.serve(0)  # returns at once; engine threads run from here on
>>> stream = server.stream("runs/42")  # get or create; cheap, thread-safe
>>> _ = stream.publish({"status": "COMPILING"}, event="COMPILING")
>>> _ = stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED")
>>> server.close()  # or server.wait(): until Ctrl-C or SIGTERM

Owns: the public names, which it re-exports; each one's module says what it owns.
Invariants: importing it starts no thread and imports neither asyncio nor orjson.
"""

from ._core import Stream, __version__
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
    StreamEnded,
    WaitTimeout,
)
from ._request import Request, Response
from ._run import Run
from ._server import Server, serve
from ._settings import ServeSettings, StreamOptions
from ._stream import Event
from ._watch import Watch

__all__ = [
    "AddressInUse",
    "ArgumentTypeError",
    "Event",
    "EventError",
    "EventTypeError",
    "ForkError",
    "HttpError",
    "PermissionDenied",
    "PublishWouldWait",
    "Request",
    "Response",
    "ResponseError",
    "RouteError",
    "Run",
    "RunArgumentError",
    "RunError",
    "ServeSettings",
    "Server",
    "ServerClosed",
    "SettingError",
    "SseFastError",
    "StartError",
    "Stream",
    "StreamEnded",
    "StreamOptions",
    "WaitTimeout",
    "Watch",
    "__version__",
    "serve",
]

for _name in __all__:
    if _name not in {"Stream", "__version__"}:
        globals()[_name].__module__ = __name__  # Tracebacks and reprs show the public name.
del _name
