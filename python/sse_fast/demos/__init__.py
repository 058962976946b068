"""The demos: complete applications on the public API, one page each, all in one server.

Owns: which demos there are, starting them, and starting them anew when a page asks for it. Each demo is a package with
a `DEMO`; its `app.py` can be copied as it is. Must not know: what any demo does.
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import TYPE_CHECKING

import sse_fast

from . import approvals, benchmarks, prefill, workflow
from ._site import Demo, Place, install_site

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["DEMOS", "Demo", "Place", "is_loopback", "lives", "serve"]

DEMOS: tuple[Demo, ...] = (benchmarks.DEMO, workflow.DEMO, prefill.DEMO, approvals.DEMO)
_DRAIN = 1.0  # Seconds a restart gives readers: who asks for it waits for it, and a slow reader may be why they ask.


def serve(place: Place, *, host: str = "127.0.0.1", port: int = 8080) -> sse_fast.Server:
    """Starts a server with every demo and an index at ``/``; returns at once.

    Args:
        place: where they run.
        host: the address to listen on.
        port: the port; 0 picks a free one.

    Raises:
        AddressInUse: the port is taken.
        StoreError: the store cannot be used.
    """
    if place.store is None:  # There may be one in the environment.
        server = sse_fast.serve(port, host=host)
    else:
        server = sse_fast.serve(port, host=host, store=place.store)
    try:
        for demo in DEMOS:
            demo.install(server, place)
        install_site(server, DEMOS)
    except BaseException:
        server.close(drain=0.0)
        raise
    return server


def lives(place: Place, *, host: str = "127.0.0.1", port: int = 8080) -> Generator[sse_fast.Server, None, None]:
    """Servers on one port, each started where a page of the one before asked for a restart; the caller waits for each.

    A restart closes the whole server, connections, streams and routes, and starts another: nothing is left but the port
    and what the demos wrote into their databases.

    Raises:
        AddressInUse: as for `serve`.
    """
    going_on = True
    while going_on:
        with serve(place, host=host, port=port) as server:
            going_on, port = False, server.port
            life = secrets.token_hex(4)

            def restart(_request: sse_fast.Request, life: str = life, server: sse_fast.Server = server) -> object:
                nonlocal going_on
                going_on = True
                server.close(drain=_DRAIN)  # Begun from a handler: this request is answered, then the closing goes on.
                return {"life": life}

            if place.local:
                server.get("/api/demos/life")(lambda _request, life=life: {"life": life})
                server.post("/api/demos/restart")(restart)
            yield server


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach `host`. A name other than ``localhost`` could lead anywhere: no."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
