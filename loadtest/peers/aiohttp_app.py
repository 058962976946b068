"""aiohttp-sse on aiohttp's own server and uvloop: `python aiohttp_app.py PORT`.

Owns: how aiohttp-sse's documentation puts an event stream together. Must not know: who measures it.
"""

import sys

import uvloop
from aiohttp import web
from aiohttp_sse import sse_response
from fanout import events, publish


async def _subscribe(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        async for data in events():
            await response.send(data)
    return response


async def _publish(request: web.Request) -> web.Response:
    publish((await request.read()).decode())
    return web.Response()


def main() -> None:
    """Serves on 127.0.0.1."""
    app = web.Application()
    app.add_routes([web.get("/events", _subscribe), web.post("/publish", _publish)])
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=4096)


if __name__ == "__main__":
    main()
