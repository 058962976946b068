"""Who may read a server's numbers: clients here that come through no proxy, and who has the key.

Guards that nobody else does, whatever they send, and that the key is shown nowhere.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.http import Head
from support.reader import Reader, fetch, request
from support.scraped import scrape


@pytest.fixture
def server(serve: Serve) -> sse_fast.Server:
    """A server whose numbers are on its port."""
    return serve(metrics=True)


def asked(port: int, *, host: str | None = None, headers: list[tuple[str, str]] | None = None) -> Head:
    with Reader(port, raw=request("/metrics", port, headers=headers or [], host=host)) as reader:
        return reader.read_head()


PROXIED = ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"]


@pytest.mark.parametrize("header", PROXIED)
def test_who_comes_through_a_proxy_is_refused(server: sse_fast.Server, header: str) -> None:
    assert asked(server.port).status == 200
    assert asked(server.port, headers=[(header, "")]).status == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("[::1]:80", 200),
        ("rebound.example", 403),
        ("", 403),
        ("\xff", 403),
        ("localhost\r\nHost: rebound.example", 403),
    ],
)
def test_a_page_of_a_stranger_s_in_a_browser_here_is_refused(serve: Serve, host: str, status: int) -> None:
    # Bound to all addresses a server answers to every name.
    assert asked(serve(host="0.0.0.0", metrics=True).port, host=host).status == status


KEY = "a-key-of-enough-length"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        (f"Bearer {KEY.upper()}", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (None, 401),
    ],
)
def test_elsewhere_the_key_counts(
    serve: Serve, caplog: pytest.LogCaptureFixture, given: str | None, status: int
) -> None:
    server = serve(metrics=True, metrics_key=KEY)
    headers = [("X-Forwarded-For", "10.0.0.1"), *([("Authorization", given)] if given is not None else [])]
    head = asked(server.port, headers=headers)
    assert head.status == status
    assert (head.all("www-authenticate") == ["Bearer"]) == (status == 401)
    assert server.stats().metrics_refused == (status == 401)
    assert asked(server.port).status == 200, "who is here needs none"
    server.close(0.0)
    assert KEY[:-1] not in caplog.text
    assert ("a request for metrics was refused" in caplog.text) == (status == 401)


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("hunter2", "hunter2 " * 5, "hunter2\n" * 5):
        with pytest.raises(sse_fast.SettingError, match="metrics_key=") as refused:
            sse_fast.serve(0, metrics_key=key)
        assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("SSE_FAST_METRICS_KEY", "hunter2")
    with pytest.raises(sse_fast.SettingError, match="SSE_FAST_METRICS_KEY=") as refused:
        sse_fast.serve(0)
    assert "hunter2" not in str(refused.value)


def test_by_default_there_are_none_and_a_handler_may_be_there(serve: Serve) -> None:
    server = serve()
    assert server.metrics_url is None
    assert asked(server.port).status == 404
    own = serve(metrics=True)
    own.get("/metrics")(lambda _request: "mine")
    assert fetch(own.port, "/metrics")[1] == b'"mine"'


def test_a_listener_of_their_own_has_nothing_else(serve: Serve) -> None:
    server = serve(metrics="127.0.0.1:0", metrics_key=KEY)
    assert server.metrics_url is not None
    port = int(re.search(r":(\d+)/metrics$", server.metrics_url)[1])  # type: ignore[index]
    server.stream("s").publish("x")
    assert scrape(port)["sse_fast_events_published_total"] == 1
    for path, status in [("/healthz", 200), ("/readyz", 200), ("/streams/s", 404), ("/sse-fast.js", 404), ("/", 404)]:
        assert fetch(port, path)[0].status == status
    assert fetch(port, "/metrics", method="POST")[0].status == 405
    assert asked(port, host="rebound.example").status == 401
    assert asked(server.port).status == 404
    # As Prometheus keeps its connection.
    with Reader(port, raw=request("/metrics", port)) as reader:
        assert reader.read_head().status == 200
        reader.read_to_end()
        reader.ask(request("/metrics", port))
        assert reader.read_head().status == 200


def test_where_somebody_listens_the_error_names_the_address(serve: Serve) -> None:
    taken = serve().port
    with pytest.raises(sse_fast.AddressInUse, match=rf"cannot listen on 127\.0\.0\.1:{taken}"):
        sse_fast.serve(0, metrics=f"127.0.0.1:{taken}")


@pytest.mark.parametrize("metrics", ["127.0.0.1", ":9090", "9090", "a b:1", "h:70000", "http://h:1", 9090, None])
def test_what_is_no_address_is_refused(metrics: Any) -> None:
    with pytest.raises(sse_fast.SettingError, match=r"metrics=.*True, False, or an address"):
        sse_fast.serve(0, metrics=metrics)


@pytest.mark.parametrize(("text", "on_port"), [("1", True), ("off", None), ("127.0.0.1:0", False)])
def test_the_environment_can_ask_for_them(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, text: str, on_port: bool | None
) -> None:
    monkeypatch.setenv("SSE_FAST_METRICS", text)
    server = serve()
    url = server.metrics_url
    assert (url is None) == (on_port is None)
    if url is not None:
        assert (url == f"{server.url}/metrics") == on_port
