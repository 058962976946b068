"""The demos: complete applications on the public API, one page each, all in one server.

Owns: which demos there are, and starting them. Each demo is a package with a `DEMO` and an `install(server, …)` that
can be copied as it is. Must not know: what any demo does.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import sse_fast

from . import benchmarks
from ._site import Demo, install_site

if TYPE_CHECKING:
    from .benchmarks.settings import Settings

DEMOS: tuple[Demo, ...] = (benchmarks.DEMO,)


def serve(settings: Settings, *, host: str = "127.0.0.1", port: int = 8080) -> sse_fast.Server:
    """Starts a server with every demo and an index at ``/``; returns at once.

    Args:
        settings: the demos' settings, such as where they keep their data.
        host: the address to listen on. Code that a visitor writes is executed only when it is a loopback address.
        port: the port; 0 picks a free one.

    Raises:
        AddressInUse: the port is taken.
    """
    server = sse_fast.serve(port, host=host)
    try:
        install_site(server, DEMOS)
        benchmarks.install(server, settings, own_code=is_loopback(host))
    except BaseException:
        server.close(drain=0.0)
        raise
    return server


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach `host`. A name other than ``localhost`` could lead anywhere: no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
