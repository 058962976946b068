"""FastAPI: each user reads streams of their own, on the application's port and behind its authentication."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import fastapi

import sse_fast
from sse_fast.asgi import EventSourceResponse

USERS = {"secret of ann": "ann", "secret of bob": "bob"}  # Your authentication in its place.


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    async with sse_fast.serve(0) as server:  # Its own port is not used here: any free one of the loopback.
        # Streams without a name: no URL leads to them but the application's own.
        app.state.streams = {name: server.stream(None) for name in USERS.values()}
        yield


app = fastapi.FastAPI(lifespan=lifespan)


async def user(session: Annotated[str, fastapi.Cookie()] = "") -> str:
    if session not in USERS:
        raise fastapi.HTTPException(401)
    return USERS[session]


User = Annotated[str, fastapi.Depends(user)]


@app.get("/notifications")
async def notifications(request: fastapi.Request, user: User) -> EventSourceResponse:
    return EventSourceResponse(request.app.state.streams[user])


@app.post("/notify/{name}")
async def notify(request: fastapi.Request, name: str, user: User) -> str:
    return await request.app.state.streams[name].apublish({"from": user}, event="notification")
