"""Where each public name is, and how it gets into the package.

Owns: the table of modules, in the order of what they need.
Must not know: what the names do.
Invariants: a name of `_LIGHT` never imports the engine. All others come together, so that in `vars(sse_fast)` the
annotations of each find the others. A class or function shows itself as part of `sse_fast`, not of a private module.
Changes together with: `__init__.py`, whose imports for type checkers are the same; a test holds that.
"""

from __future__ import annotations

import importlib
import sys
from types import FunctionType

_PACKAGE = "sse_fast"
_CLIENT = "client"

#: What needs no engine.
_LIGHT = {
    "_exceptions": (
        *("AccessDenied", "AddressInUse", "ArgumentTypeError", "BackplaneError", "BackplaneUnavailable", "EventError"),
        *("EventTypeError", "ForkError"),
        *("HttpError", "KeyReused", "PermissionDenied", "PublishInProgress", "PublishWouldWait", "RequestError"),
        *("ResponseError", "RouteError"),
        *("RunArgumentError", "RunError", "ServerClosed", "SettingError", "SseFastError", "StartError", "StoreDenied"),
        *("StoreError", "StoreFull", "StoreLocked", "StreamEnded"),
        *("StreamError", "TooManyStreams", "UnknownStream", "Unreachable", "WaitTimeout"),
    ),
    "_event": ("Event",),
    _CLIENT: (
        *("AsyncClient", "AsyncRemoteEvents", "AsyncRemoteStream", "Client", "RemoteEvents", "RemoteStream"),
        "connect",
    ),
}
#: What is the engine's, or stands on it.
_HEAVY = {
    "_core": ("Heartbeat", "Stream", "__version__"),
    "_handlers": ("Exists", "Handler"),
    "_request": ("Headers", "HeadersGiven", "Request", "Response"),
    "_rights": ("Algorithm", "Authorize", "Grant", "Key", "Tokens"),
    "_run": ("Run", "RunArgument"),
    "_server": ("Server", "serve"),
    "_settings": ("Encoder", "ServeSettings", "StreamOptions"),
    "_stats": ("BackplaneStats", "ClosedConnections", "GapReasons", "Resumes", "ServerStats", "StreamStats"),
    "_stream": ("Events",),
    "_watch": ("Poll", "Until", "Watch"),
}


def found(name: str) -> object:
    """The public name, or `_core`; what comes with it is then in the package as well."""
    package = sys.modules[_PACKAGE]
    for module, names in _LIGHT.items():
        if name in names:
            _take_in(module, names)
            break
    else:
        everything()
    return vars(package)[name]


def everything() -> None:
    """Puts all names into the package but the client's. `_server`, which servers need, calls it as well."""
    for module, names in {**_LIGHT, **_HEAVY}.items():
        if module != _CLIENT:  # A program that serves need not pay for it, and no annotation of others names it.
            _take_in(module, names)


def _take_in(module: str, names: tuple[str, ...]) -> None:
    source = importlib.import_module(f".{module}", _PACKAGE)
    package = vars(sys.modules[_PACKAGE])
    for name in names:
        value = getattr(source, name)
        if issubclass(type(value), (type, FunctionType)) and value.__module__ != _PACKAGE:  # No alias, no native class.
            value.__module__ = _PACKAGE  # Tracebacks and reprs show the public name.
        package[name] = value
