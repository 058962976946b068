"""Strangers read us: the SSE clients that Python programs use.

Guards the wire against other people's parsers: heartbeats and `retry:` make no
phantom events (several decoders report an empty event for any blank line after an
id), ids and names are right, nothing is split at U+2028, and the terminal event is
always seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import Any

import httpx2
import pytest

import sse_fast
from conftest import Serve
from support.clients import (
    CLIENTS,
    TIMEOUT,
    Client,
    Seen,
    by_aiosseclient,
    by_requests_lines,
    by_requests_sse,
    load,
    name_of,
)
from support.deadline import until, until_async

pytestmark = pytest.mark.timeout(120)  # The first of them imports what takes seconds.
every_client = pytest.mark.parametrize("client", CLIENTS, ids=name_of)


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    load()


def read_with(client: Client, url: str) -> tuple[list[Seen], threading.Thread]:
    """Reads in a thread, because the test publishes at the same time."""
    seen: list[Seen] = []
    thread = threading.Thread(target=lambda: seen.extend(client(url)))
    thread.start()
    return seen, thread


@every_client
@pytest.mark.parametrize("ids", [True, False])
def test_heartbeats_and_retry_make_no_phantom_events(server: sse_fast.Server, client: Client, ids: bool) -> None:
    stream = server.stream("s", heartbeat=0.05, retry=0.01, ids=ids)
    seen, thread = read_with(client, f"{server.url}/streams/s")
    until(lambda: stream.subscribers == 1)
    published = []
    for number in range(4):
        enough = server.stats().heartbeats + 2
        until(lambda enough=enough: server.stats().heartbeats >= enough, what="heartbeats in between")
        published.append(("tick", f"event {number}", stream.publish(f"event {number}", event="tick")))
    published.append(("end", "over", stream.end("over")))
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert [event[:2] for event in seen] == [event[:2] for event in published]
    if ids:
        assert [event[2] for event in seen] == [event[2] for event in published]
    else:
        assert {event[2] for event in seen} == {""}


@every_client
def test_text_arrives_as_it_was_published(server: sse_fast.Server, client: Client) -> None:
    stream = server.stream("s", start="all")
    texts = ["plain", "two\nlines", "größe ✓ 🚀", "tab\tand : colon", '{"json": [1, null]}', "x" * 70_000]
    for text in texts:
        stream.publish(text, event="e")
    stream.publish({"separators": "a\u0085b\u2028c\u2029d"}, event="e")
    stream.end("over")
    seen = list(client(f"{server.url}/streams/s"))
    assert [data for _, data, _ in seen[: len(texts)]] == texts
    assert seen[len(texts)][1] == '{"separators":"a\\u0085b\\u2028c\\u2029d"}'
    assert seen[-1][:2] == ("end", "over")


#: Text that a caller gave goes out as it is. These clients change it; JSON, as the engine writes it, nobody changes.
CHANGED = {
    "  indented": {by_requests_sse: "indented"},
    "line\u2028separator": {by_requests_lines: "line", by_aiosseclient: "line"},
}


@every_client
@pytest.mark.parametrize("text", CHANGED)
def test_text_is_changed_by_those_clients_alone_that_are_known_for_it(
    server: sse_fast.Server, client: Client, text: str
) -> None:
    stream = server.stream("s", start="all")
    stream.publish(text, event="text")
    stream.publish([text], event="json")
    stream.end("over")
    seen = [data for _, data, _ in client(f"{server.url}/streams/s")]
    assert seen[0] == CHANGED[text].get(client, text)
    assert json.loads(seen[1]) == [text]


@every_client
def test_gaps_and_snapshots_are_ordinary_events(server: sse_fast.Server, client: Client) -> None:
    stream = server.stream("s", history=2, max_lag=2, start="all")
    ids = [stream.publish(number) for number in range(4)]
    stream.snapshot("state")
    last = stream.end("over")
    seen = list(client(f"{server.url}/streams/s?last_event_id={ids[0]}"))
    assert [name for name, _, _ in seen] == ["gap", "snapshot", "end"]
    assert seen[1][1:] == ("state", ids[-1])
    assert seen[2][2] == last


def test_httpx2_reads_asynchronously_too(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", heartbeat=0.05)

    async def main() -> list[str]:
        seen = []
        async with httpx2.AsyncClient(timeout=TIMEOUT) as client, client.sse(f"{server.url}/streams/s") as source:
            async for event in source:
                seen.append(event.data)
                if len(seen) == 1:
                    await until_async(lambda: server.stats().heartbeats >= 3)
                    stream.end("over")
        return seen

    stream.publish("first")
    assert asyncio.run(main()) == ["first", "over"]


CHUNK: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def test_the_openai_client_reads_a_streamed_completion_through_a_long_prefill(serve: Serve) -> None:
    import openai

    server = serve()
    heard = threading.Event()

    @server.post("/v1/chat/completions", early_head=True, heartbeat=0.05, ids=False)
    def complete(req: sse_fast.Request) -> sse_fast.Stream:
        assert req.json()["stream"] is True
        stream = server.stream("completion", ids=False, start="all", heartbeat=None)
        with stream.heartbeat(every=0.05, comment="prefill"):
            heard.wait(0.5)  # The computation.
        for token in ("Hello", ", ", "world"):
            stream.publish({**CHUNK, "choices": [{"index": 0, "delta": {"content": token}, "finish_reason": None}]})
        stream.publish({**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        stream.publish("[DONE]")
        stream.end("over")
        return stream

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=TIMEOUT, max_retries=0)
    with client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True
    ) as response:
        tokens = [chunk.choices[0].delta.content for chunk in response]
    assert tokens == ["Hello", ", ", "world", None]


def test_the_anthropic_client_reads_a_streamed_message(serve: Serve) -> None:
    import anthropic

    server = serve()

    @server.post("/v1/messages")
    def message(_req: sse_fast.Request) -> sse_fast.Stream:
        stream = server.stream("message", start="all", heartbeat=0.05)
        begin = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": "m",
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        for event in (
            {"type": "message_start", "message": begin},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
            {"type": "content_block_stop", "index": 0},
        ):
            stream.publish(event, event=str(event["type"]))
        threading.Timer(0.3, finish, [stream]).start()
        return stream

    def finish(stream: sse_fast.Stream) -> None:
        with contextlib.suppress(sse_fast.ServerClosed):  # A test that has failed is over by now.
            stream.end({"type": "message_stop"}, event="message_stop")

    client = anthropic.Anthropic(base_url=server.url, api_key="none", timeout=TIMEOUT, max_retries=0)
    with client.messages.create(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "hi"}], stream=True
    ) as response:
        types = [event.type for event in response]
    assert types == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_stop",
    ]
