"""docs/proxies.md: nginx, Caddy and haproxy as the page shows them, with TLS and HTTP/2, and with no setting at all.

Guards that an event goes through at once, that twenty streams share one connection, that a reader resumes and its
leaving arrives, that the site's own pages may POST and other sites' may not, and that the client's address is right
whatever the client says of it.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import sse_fast
from support.deadline import until
from support.proxies import PROXIES, Plain, Proxy, readable

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=PROXIES)
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plain]:
    with Plain(request.param, readable(tmp_path)) as running:
        assert isinstance(running, Plain)
        yield running


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxy]:
    readable(tmp_path)
    with Proxy(request.param, tmp_path) as running:
        yield running


def test_an_event_goes_through_at_once_and_its_reader_resumes(proxy: Proxy) -> None:
    stream = proxy.server.stream("s")
    with proxy.client() as client, client.stream("GET", f"{proxy.url}/streams/s") as response:
        assert response.http_version == "HTTP/2"
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(line for line in lines if line) == ": heartbeat"  # Nothing is held back until there is more.
        first = stream.publish("1")
        assert next(line for line in lines if line.startswith("id: ")) == f"id: {first}"
        assert stream.subscribers == 1
    until(lambda: stream.subscribers == 0, what="the reader's leaving")
    stream.publish("2")
    stream.end()
    with proxy.client() as client:
        resumed = client.get(f"{proxy.url}/streams/s", headers={"Last-Event-ID": first})
        assert re.findall("^data: (.*)$", resumed.text, re.MULTILINE) == ["2", "null"]
        last = client.get(f"{proxy.url}/streams/s", headers={"Last-Event-ID": str(stream.last_id)})
        assert last.status_code == 204


def test_twenty_streams_share_one_connection(proxy: Proxy) -> None:
    with proxy.client() as client, contextlib.ExitStack() as stack:
        for number in range(20):
            proxy.server.stream(f"tab/{number}", start="all").publish(number)
        responses = [stack.enter_context(client.stream("GET", f"{proxy.url}/streams/tab/{n}")) for n in range(20)]
        for number, response in enumerate(responses):
            assert next(line for line in response.iter_lines() if line.startswith("data: ")) == f"data: {number}"
        assert len({response.extensions["network_stream"].get_extra_info("client_addr") for response in responses}) == 1
        assert proxy.server.stats().subscribers == 20


def test_several_streams_go_through_one_request_and_are_resumed(proxy: Proxy) -> None:
    streams = [proxy.server.stream(name, start="all") for name in "ab"]
    for stream in streams:
        stream.publish("1")
    for path in ("/streams?name=a&name=b", "/streams/?name=a&name=b"):
        with proxy.client() as client, client.stream("GET", f"{proxy.url}{path}") as response:
            assert response.status_code == 200, response.headers
            lines = response.iter_lines()
            ids = [next(line for line in lines if line.startswith("id: "))[4:] for _ in range(2)]
            assert response.extensions["http_version"] == b"HTTP/2"
        until(lambda: proxy.server.stats().subscribers == 0, what="the reader's leaving")
    for stream in streams:
        stream.end("over")
    with proxy.client() as client:
        resumed = client.get(f"{proxy.url}/streams?name=a&name=b", headers={"Last-Event-ID": ids[-1]})
        assert re.findall("^data: (.*)$", resumed.text, re.MULTILINE) == ["over", "over"]


def test_the_application_gets_what_is_not_the_engine_s_and_pages_their_module(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert "connect" in client.get(f"{proxy.url}/sse-fast.js").text
        # Nothing listens there.
        for path in ("/", "/streamss", "/x/streams/s", "/sse-fast.js.map"):
            assert client.get(f"{proxy.url}{path}").status_code in {502, 503}, path


def test_the_site_s_own_pages_may_post_and_others_may_not(proxy: Proxy) -> None:
    with proxy.client() as client:
        for origin, status in [(proxy.url, 200), ("https://evil.example", 403)]:
            answer = client.post(f"{proxy.url}/streams/publish", content=b"x", headers={"Origin": origin})
            assert answer.status_code == status, answer.text


@pytest.mark.parametrize("said", [{}, {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "127.0.0.1, 127.0.0.1"}])
def test_the_client_s_address_is_right_whatever_it_says_of_it(proxy: Proxy, said: dict[str, str]) -> None:
    with proxy.client("127.0.0.2") as client:
        answer = client.get(f"{proxy.url}/streams/who", headers={**said, "Forwarded": "for=203.0.113.8"})
        assert answer.json() == "127.0.0.2"


@pytest.mark.parametrize("name", PROXIES)
def test_the_client_s_address_is_right_in_rights_in_the_log_and_in_limits(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def who(request: sse_fast.Request, _names: tuple[str, ...]) -> str:
        assert request.client
        return request.client[0]

    caplog.set_level(logging.INFO, logger="sse_fast.access")
    settings = {"authorize": who, "access_log": True, "max_connections_per_address": 1}
    with Proxy(name, readable(tmp_path), **settings) as proxy:
        stream = proxy.server.stream("s")
        url = f"{proxy.url}/streams/s"
        with proxy.client("127.0.0.2") as client, client.stream("GET", url):
            until(lambda: stream.readers() == {"127.0.0.2": 1}, what="the reader")
            begins = re.compile(r'GET "/streams/s" 200 begins client=127\.0\.0\.2:\d+ reader="127\.0\.0\.2"')
            until(lambda: any(begins.fullmatch(record.getMessage()) for record in caplog.records), what="its line")
            for address, status in [("127.0.0.2", 503), ("127.0.0.3", 200)]:
                with proxy.client(address) as other:
                    answer = other.get(url, headers={"Accept": "application/json"})
                    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
def test_without_any_setting_the_client_s_address_is_the_proxy_s_but_with_caddy(
    name: str, trusted: list[str], tmp_path: Path
) -> None:
    with Plain(name, readable(tmp_path), trusted_proxies=trusted) as plain:
        with httpx.Client(timeout=10, transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
            told = client.get(f"{plain.url}/streams/who", headers={"Forwarded": "for=203.0.113.8"}).json()
        assert told == ("127.0.0.2" if trusted and name == "caddy" else "127.0.0.1")


def test_a_page_that_another_site_shows_may_not_post_by_saying_that_it_was_forwarded(proxy: Proxy) -> None:
    with proxy.client() as client:
        said = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
        answer = client.post(f"{proxy.url}/streams/publish", content=b"x", headers=said)
        assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("prefix", ["", "/live"])
def test_without_any_setting_a_page_reads_resumes_and_posts(plain: Plain, prefix: str) -> None:
    stream = plain.server.stream("s")
    plain.server.stream("s2")
    url = f"{plain.url}{prefix}/streams"
    with httpx.Client(timeout=10) as client:
        with client.stream("GET", f"{url}/s") as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            lines = response.iter_lines()
            assert next(line for line in lines if line) == ": heartbeat"
            first = stream.publish("1")
            assert next(line for line in lines if line.startswith("id: ")) == f"id: {first}"
        until(lambda: stream.subscribers == 0, what="the reader's leaving")
        for site, status in [("same-origin", 200), ("cross-site", 403)]:
            said = {"Sec-Fetch-Site": site, "Origin": "https://app.example"}
            assert client.post(f"{url}/publish", content=b"2", headers=said).status_code == status
        stream.end()
        resumed = client.get(f"{url}/s", headers={"Last-Event-ID": first})
        assert re.findall("^data: (.*)$", resumed.text, re.MULTILINE) == ["2", "null"]
        assert client.get(f"{plain.url}{prefix}/sse-fast.js").status_code == 200
        both = client.get(f"{url}?name=s&name=s2", headers={"Accept": "application/json"})
        assert [stream["known"] for stream in both.json()["streams"]] == [True, True]
