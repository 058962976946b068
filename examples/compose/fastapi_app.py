"""FastAPI under several workers of uvicorn: the same as flask_app.py, in coroutines."""

import contextlib
import os
from collections.abc import AsyncIterator

import fastapi

import sse_fast


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
    async with sse_fast.AsyncClient(os.environ["EVENTS_URL"], key=os.environ["EVENTS_KEY"]) as app.state.events:
        yield


app = fastapi.FastAPI(lifespan=lifespan)


@app.post("/jobs/{name}")
async def submit(name: str, request: fastapi.Request) -> dict[str, str]:
    stream = request.app.state.events.stream(f"jobs/{name}")
    await stream.publish({"status": "QUEUED", "worker": os.getpid()}, event="QUEUED")
    return {"stream": f"/streams/jobs/{name}", "id": await stream.publish({"status": "DONE"}, event="DONE")}
