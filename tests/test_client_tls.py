"""A client that speaks TLS: to a proxy that ends it, with certificates of an authority that the test makes.

Guards that it publishes and reads there, by the system's authorities (`SSL_CERT_FILE`) or a context of its own; and
that a server which cannot be trusted is told from one that is away: at once, and with nothing sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE
from support.proxy import Proxy
from support.tls import Authority, TlsProxy

KEY = "a-key-of-32-characters-or-more-00"
#: For how long who tries again would; it is found by its second connection.
LONG = 10.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> ssl.SSLContext:
    return authority.server("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
def hub(serve: Serve) -> sse_fast.Server:
    return serve(publish_key=KEY, start="all")


@pytest.fixture
def front(hub: sse_fast.Server, good: ssl.SSLContext) -> Iterator[TlsProxy]:
    with TlsProxy(hub.port, good) as front:
        yield front


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("by", ["SSL_CERT_FILE", "a context"])
def test_it_publishes_and_reads_over_tls(
    front: TlsProxy, authority: Authority, monkeypatch: pytest.MonkeyPatch, host: str, by: str
) -> None:
    tls = ssl.create_default_context(cafile=authority.file) if by == "a context" else None
    if tls is None:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    url = f"https://{host}:{front.port}"
    data = ["x" * 200_000, "b", "null"]
    with sse_fast.connect(url, key=KEY, tls=tls) as client:
        stream = client.stream("s")
        first = stream.publish(data[0])
        assert (stream.publish("b"), stream.last_id) == (first[:-1] + "2", first[:-1] + "2")
        stream.end()
        assert [event.data for event in stream.events(timeout=DEADLINE)] == data

    async def read() -> None:
        async with sse_fast.AsyncClient(url, key=KEY, tls=tls) as client:
            assert await client.stream("t").publish("c")
            assert [event.data async for event in client.stream("s").events(timeout=DEADLINE)] == data

    asyncio.run(read())


def by_publish(url: str) -> None:
    with sse_fast.connect(url, key=KEY, retry_for=LONG) as client:
        client.stream("s").publish("never")


def by_reading(url: str) -> None:
    with sse_fast.connect(url, key=KEY) as client:
        next(client.stream("s").events(retry_for=LONG))


def by_publish_in_a_task(url: str) -> None:
    async def publish() -> None:
        async with sse_fast.AsyncClient(url, key=KEY, retry_for=LONG) as client:
            await client.stream("s").publish("never")

    asyncio.run(publish())


def by_reading_in_a_task(url: str) -> None:
    async def read() -> None:
        async with sse_fast.AsyncClient(url, key=KEY) as client:
            await anext(client.stream("s").events(retry_for=LONG))

    asyncio.run(read())


WAYS = [by_publish, by_reading, by_publish_in_a_task, by_reading_in_a_task]


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("wrong", ["authority", "name", "no TLS"])
def test_a_server_that_cannot_be_trusted_is_told_at_once_and_sent_nothing(
    hub: sse_fast.Server,
    good: ssl.SSLContext,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
    ask: Callable[[str], None],
) -> None:
    said = {
        "authority": "the certificate of the server is not trusted: .*issuer certificate",
        "name": "the certificate of the server is not trusted: .*127.0.0.1",
        "no TLS": "what answers there does not speak TLS",
    }[wrong]
    if wrong != "authority":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = authority.server("DNS:localhost") if wrong == "name" else good
    with TlsProxy(hub.port, context) as front, Proxy(hub.port if wrong == "no TLS" else front.port) as counted:
        with pytest.raises(sse_fast.Unreachable, match=said) as caught:
            ask(f"https://127.0.0.1:{counted.port}")
        assert counted.connections == 1
    assert caught.value.published is False
    assert hub.streams() == []


def test_one_that_is_away_is_tried_again(front: TlsProxy, authority: Authority) -> None:
    tls = ssl.create_default_context(cafile=authority.file)
    with Proxy(front.port) as between:
        between.refusing = True
        with sse_fast.connect(f"https://localhost:{between.port}", key=KEY, retry_for=0.5, tls=tls) as client:
            with pytest.raises(sse_fast.Unreachable):
                client.stream("s").publish("never")
            assert between.connections > 1
            between.refusing = False
            assert client.stream("s").publish("x")
