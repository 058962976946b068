"""An ASGI request made by hand, without a server: what was sent, and the client's leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import sse_fast
from sse_fast import asgi

from .deadline import DEADLINE


class Asgi:
    """One request to an ASGI response, by hand: what was sent, and the client's leaving."""

    def __init__(
        self,
        response: asgi.EventSourceResponse,
        *,
        headers: Iterable[tuple[str, str]] = (),
        query: str = "",
        method: str = "GET",
    ) -> None:
        self.response = response
        self.scope = {
            "type": "http",
            "method": method,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        }
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        self.full = asyncio.Event()  # Once it is set nothing is taken any more.

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        self.sent.append(event)
        if self.full.is_set():
            await asyncio.Event().wait()

    async def run(self) -> Asgi:
        await asyncio.wait_for(self.response(self.scope, self.receive, self.send), DEADLINE)
        return self

    async def until(self, condition: Callable[[], object]) -> None:
        async def look() -> None:
            while not condition():  # noqa: ASYNC110 - the other side has no event for it
                await asyncio.sleep(0.001)

        await asyncio.wait_for(look(), DEADLINE)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def head(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent[1:])


def filled(server: sse_fast.Server, **options: Any) -> tuple[sse_fast.Stream, list[str]]:
    """A stream with every kind of event, ended; and the ids."""
    stream = server.stream("s", **options)
    ids = [
        stream.publish("text"),
        stream.publish("two\nlines\r\nand\rmore\n", event="lines"),
        stream.publish("", event="empty"),
        stream.publish({"n": 1, "text": "ü\u2028"}, event="json", retry=1.25),
        stream.publish("own", id="own id ü"),
        stream.publish("x" * 100_000, event="large"),
        stream.publish(" leading", snapshot=options.pop("snapshot", None)),
    ]
    ids.append(stream.end({"ok": True}, event="DONE"))
    return stream, ids
