"""The SSE clients that Python programs use, each as one function that yields what it reports.

A client reads `url` with GET, or with POST where it is given a body. It yields until the stream ends or its caller
stops. `TELLS_OWN_ID` names those that tell an event's id as the event itself has it; the others tell the id of the
last event that had one, as EventSource does.

openai and anthropic are imported by what uses them, because that takes seconds, which every process of the tests would
pay. Before a client is waited for, `load` has them imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from datetime import timedelta
from typing import Any

import aiohttp
import aiosseclient
import httpx
import httpx2
import httpx_sse
import requests
import requests_sse
import sseclient
import urllib3

from .sse import Parser

#: An event as a client reports it: name, data, id.
Seen = tuple[str, str, str]
Body = dict[str, Any]
Reports = Generator[Seen, None, None]
Client = Callable[..., Reports]
TIMEOUT = 20.0


def load() -> None:
    for module in ("anthropic._streaming", "openai._streaming"):
        importlib.import_module(module)


def method(body: Body | None) -> str:
    return "GET" if body is None else "POST"


def by_httpx2(url: str, body: Body | None = None) -> Reports:
    with httpx2.Client(timeout=TIMEOUT) as client, client.sse(url, method=method(body), json=body) as source:
        for event in source:
            yield event.event, event.data, event.id


def by_httpx2_async(url: str, body: Body | None = None) -> Reports:
    async def events() -> AsyncGenerator[Seen]:
        async with (
            httpx2.AsyncClient(timeout=TIMEOUT) as client,
            client.sse(url, method=method(body), json=body) as source,
        ):
            async for event in source:
                yield event.event, event.data, event.id

    return in_a_loop(events())


def by_httpx_sse(url: str, body: Body | None = None) -> Reports:
    with (
        httpx.Client(timeout=TIMEOUT) as client,
        httpx_sse.connect_sse(client, method(body), url, json=body) as source,
    ):
        for event in source.iter_sse():
            yield event.event, event.data, event.id


def by_httpx_sse_async(url: str, body: Body | None = None) -> Reports:
    async def events() -> AsyncGenerator[Seen]:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT) as client,
            httpx_sse.aconnect_sse(client, method(body), url, json=body) as source,
        ):
            async for event in source.aiter_sse():
                yield event.event, event.data, event.id

    return in_a_loop(events())


def by_sseclient_py(url: str, body: Body | None = None) -> Reports:
    with requested(url, body) as response:
        for event in sseclient.SSEClient(response).events():  # type: ignore[arg-type]  # Its README does so.
            yield event.event, event.data, event.id or ""


def by_requests_sse(url: str, body: Body | None = None) -> Reports:
    with requests_sse.EventSource(
        url, method=method(body), json=body, timeout=TIMEOUT, reconnection_time=timedelta(milliseconds=10)
    ) as source:
        for event in source:
            yield event.type or "message", event.data or "", event.last_event_id or ""
            if event.type == "end":
                return


def by_requests_lines(url: str, body: Body | None = None) -> Reports:
    """What programs write by hand around `iter_lines(decode_unicode=True)`."""
    with requested(url, body) as response:
        fields: dict[str, list[str]] = {}
        for line in response.iter_lines(decode_unicode=True):
            assert isinstance(line, str), "the head names the charset, so there is text"
            name, _, value = line.partition(":")
            if name:
                fields.setdefault(name, []).append(value.removeprefix(" "))
            elif not line:
                if "data" in fields:
                    yield fields.get("event", ["message"])[-1], "\n".join(fields["data"]), fields.get("id", [""])[-1]
                fields = {}


def by_aiosseclient(url: str) -> Reports:
    async def events() -> AsyncGenerator[Seen]:
        async with contextlib.aclosing(aiosseclient.aiosseclient(url, timeout_total=TIMEOUT)) as source:
            async for event in source:
                yield event.event, event.data, event.id or ""

    return in_a_loop(events())


def by_urllib3(url: str, body: Body | None = None) -> Reports:
    with urllib3.PoolManager(timeout=TIMEOUT) as pool:
        response = pool.request(method(body), url, json=body, preload_content=False)
        yield from parsed(response.stream(1024))
        response.release_conn()


def by_aiohttp(url: str, body: Body | None = None) -> Reports:
    async def chunks() -> AsyncGenerator[bytes]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method(body), url, json=body) as response,
        ):
            async for chunk, _ in response.content.iter_chunks():
                yield chunk

    return parsed(in_a_loop(chunks()))


def by_openai_decoder(url: str, body: Body | None = None) -> Reports:
    from openai._streaming import SSEDecoder

    with httpx.Client(timeout=TIMEOUT) as client, client.stream(method(body), url, json=body) as response:
        for event in SSEDecoder().iter_bytes(response.iter_bytes()):
            yield event.event or "message", event.data, event.id or ""


def by_anthropic_decoder(url: str, body: Body | None = None) -> Reports:
    from anthropic._streaming import SSEDecoder

    with httpx.Client(timeout=TIMEOUT) as client, client.stream(method(body), url, json=body) as response:
        for event in SSEDecoder().iter_bytes(response.iter_bytes()):
            yield event.event or "message", event.data, event.id or ""


def by_openai(url: str, body: Body, *, chat: bool) -> list[dict[str, Any]]:
    """The chunks of a completion, as the official client has them."""
    import openai

    with openai.OpenAI(base_url=url, api_key="none", timeout=TIMEOUT, max_retries=0) as client:
        asked = asked_of_openai(body, chat=chat)
        response = client.chat.completions.create(**asked) if chat else client.completions.create(**asked)
        return [chunk.to_dict() for chunk in response]


def by_openai_async(url: str, body: Body, *, chat: bool) -> list[dict[str, Any]]:
    import openai

    async def chunks() -> list[dict[str, Any]]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=TIMEOUT, max_retries=0) as client:
            asked = asked_of_openai(body, chat=chat)
            response = await (client.chat.completions.create(**asked) if chat else client.completions.create(**asked))
            return [chunk.to_dict() async for chunk in response]

    return asyncio.run(chunks())


def asked_of_openai(body: Body, *, chat: bool) -> dict[str, Any]:
    """A body as arguments of the official client; what is not in the API's own is `extra_body`."""
    own = {name: body[name] for name in ("model", "stream", "max_tokens")}
    text = {"messages": [{"role": "user", "content": body["prompt"]}]} if chat else {"prompt": body["prompt"]}
    return {**own, **text, "extra_body": {name: body[name] for name in ("faults", "return_progress")}}


CLIENTS: list[Client] = [
    by_httpx2,
    by_httpx2_async,
    by_httpx_sse,
    by_httpx_sse_async,
    by_sseclient_py,
    by_requests_sse,
    by_requests_lines,
    by_aiosseclient,
    by_urllib3,
    by_aiohttp,
    by_openai_decoder,
    by_anthropic_decoder,
]
TELLS_OWN_ID = {by_sseclient_py, by_requests_lines, by_aiosseclient}
#: They can only GET.
ONLY_GETS = {by_aiosseclient}


def name_of(client: Client) -> str:
    return client.__name__.removeprefix("by_")


def requested(url: str, body: Body | None) -> requests.Response:
    headers = {"Accept": "text/event-stream"}
    return requests.request(method(body), url, json=body, stream=True, headers=headers, timeout=TIMEOUT)


def in_a_loop(items: AsyncGenerator[Any]) -> Generator[Any, None, None]:
    """The items of an asynchronous generator, one at a time, in an event loop of their own."""
    loop = asyncio.new_event_loop()
    try:
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield loop.run_until_complete(following(items))
    finally:
        loop.run_until_complete(items.aclose())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def following(items: AsyncIterator[Any]) -> Any:
    return await items.__anext__()


def parsed(chunks: Iterable[bytes]) -> Reports:
    """What a program has that brings its own parser: here the one of these tests."""
    parser = Parser()
    for chunk in chunks:
        parser.feed(chunk)
        for event in parser.events:
            yield event.event, event.data, event.last_event_id
        parser.events.clear()
