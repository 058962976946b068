"""Starlette: a stream for each job, on the application's port."""

import contextlib

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import sse_fast
from sse_fast.asgi import EventSourceResponse


@contextlib.asynccontextmanager
async def lifespan(app):
    async with sse_fast.serve(0) as server:  # Its own port is not used here: any free one of the loopback.
        app.state.server = server
        yield


async def submit(request):
    name = request.path_params["name"]
    stream = request.app.state.server.stream(f"jobs/{name}", start="all")
    await stream.apublish({"status": "QUEUED"}, event="QUEUED")
    return JSONResponse(
        {"events": f"/jobs/{name}/events", "last_id": await stream.aend({"status": "DONE"}, event="DONE")}
    )


async def events(request):
    return EventSourceResponse(request.app.state.server.stream(f"jobs/{request.path_params['name']}", start="all"))


routes = [Route("/jobs/{name}", submit, methods=["POST"]), Route("/jobs/{name}/events", events)]
app = Starlette(lifespan=lifespan, routes=routes)
