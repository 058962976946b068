"""FastAPI's own event streams on uvicorn: `python fastapi_app.py PORT`.

Owns: how FastAPI's documentation puts an event stream together. Must not know: who measures it.
"""

import sys
from collections.abc import AsyncIterable

import uvicorn
from fanout import events, publish
from fastapi import FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI()


@app.get("/events", response_class=EventSourceResponse)
async def _subscribe() -> AsyncIterable[ServerSentEvent]:
    async for data in events():
        yield ServerSentEvent(raw_data=data)


@app.post("/publish")
async def _publish(request: Request) -> None:
    publish((await request.body()).decode())


if __name__ == "__main__":
    settings = {"loop": "uvloop", "http": "httptools", "backlog": 4096, "log_level": "error", "access_log": False}
    uvicorn.run(app, port=int(sys.argv[1]), **settings)
