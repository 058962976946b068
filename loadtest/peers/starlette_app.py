"""sse-starlette: the application, for uvicorn (`python starlette_app.py uvicorn PORT`) and granian.

Owns: how the libraries' own documentation puts an event stream together. Must not know: who measures it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fanout import events, publish
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


async def _subscribe(_request: Request) -> EventSourceResponse:
    async def stream() -> AsyncIterator[dict[str, str]]:
        async for data in events():
            yield {"data": data}

    return EventSourceResponse(stream(), ping=15)


async def _publish(request: Request) -> Response:
    publish((await request.body()).decode())
    return Response()


app = Starlette(routes=[Route("/events", _subscribe), Route("/publish", _publish, methods=["POST"])])


def main() -> None:
    """Serves on 127.0.0.1."""
    server, port = sys.argv[1], int(sys.argv[2])
    if server == "uvicorn":
        import uvicorn  # noqa: PLC0415 - the other server may be missing

        uvicorn.run(app, port=port, loop="uvloop", http="httptools", backlog=4096, log_level="error", access_log=False)
    else:
        from granian import Granian  # noqa: PLC0415

        # `backpressure` is granian's limit of requests in work, and a subscriber is one.
        settings = {"backlog": 4096, "backpressure": 30_000, "log_enabled": False, "working_dir": Path(__file__).parent}
        Granian("starlette_app:app", address="127.0.0.1", port=port, interface="asgi", **settings).serve()


if __name__ == "__main__":
    main()
