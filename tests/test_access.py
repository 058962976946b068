"""Who is answered: hosts, origins, and requests beyond `max_connections`.

Guards that an allowed origin's pages may use credentials and no other's, that no cache mixes them up, and that every
refusal is counted, logged once a second with what was refused, and no text of a client makes a line of its own.
"""

from __future__ import annotations

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.http import Head
from support.reader import Reader, exchange, fetch

OK = "https://ok.example"


def ask(server: sse_fast.Server, path: str, origin: str, method: str = "GET", **headers: str) -> Head:
    given = [("Origin", origin), *((name.replace("_", "-"), value) for name, value in headers.items())]
    with Reader(server.port, path, method=method, headers=given) as reader:
        return reader.read_head()


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sse_fast.access"]


@pytest.fixture
def open_to_one(serve: Serve) -> sse_fast.Server:
    server = serve(cors=[OK, "https://*.sub.example"], cors_headers=["X-Trace"])
    server.stream("s").publish("x")

    @server.post("/jobs")
    def jobs(_: sse_fast.Request) -> sse_fast.Response:
        return sse_fast.Response({"ok": True}, headers={"Vary": "Accept"})

    return server


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/streams/s"), ("HEAD", "/streams/s"), ("GET", "/nothing"), ("POST", "/jobs")]
)
@pytest.mark.parametrize("origin", [OK, "https://a.b.sub.example"])
def test_every_answer_allows_credentials_to_an_allowed_origin(
    open_to_one: sse_fast.Server, method: str, path: str, origin: str
) -> None:
    head = ask(open_to_one, path, origin, method)
    assert head["access-control-allow-origin"] == origin
    assert head["access-control-allow-credentials"] == "true"
    assert head["access-control-expose-headers"] == "Retry-After"
    assert "Origin" in head.all("vary")


@pytest.mark.parametrize("origin", [OK, "https://evil.example"])
def test_health_and_metrics_let_no_page_of_another_site_in(serve: Serve, origin: str) -> None:
    server = serve(cors=[OK], metrics=True)
    for path in ("/healthz", "/readyz", "/metrics"):
        head = ask(server, path, origin)
        assert (head.status, head["cache-control"], head["vary"]) == (200, "no-store", "Origin")
        assert [name for name, _ in head.headers if name.startswith("access-control")] == []


@pytest.mark.parametrize(("method", "path"), [("GET", "/streams/s"), ("GET", "/nothing"), ("OPTIONS", "/streams/s")])
def test_other_origins_get_vary_alone(open_to_one: sse_fast.Server, method: str, path: str) -> None:
    head = ask(open_to_one, path, "https://evil.example", method)
    assert [name for name, _ in head.headers if name.startswith("access-control")] == []
    assert head["vary"] == "Origin"


def test_a_preflight_says_what_may_be_sent(open_to_one: sse_fast.Server) -> None:
    head = ask(open_to_one, "/jobs", OK, "OPTIONS", Access_Control_Request_Method="POST")
    allowed = {name.strip().lower() for name in head["access-control-allow-headers"].split(",")}
    wanted = {"authorization", "content-type", "last-event-id", "cache-control", "x-requested-with", "x-trace"}
    assert wanted <= allowed
    assert "POST" in head["access-control-allow-methods"]
    assert (head.status, head["access-control-allow-credentials"]) == (204, "true")


def test_a_handler_s_vary_stays(open_to_one: sse_fast.Server) -> None:
    assert sorted(ask(open_to_one, "/jobs", OK, "POST").all("vary")) == ["Accept", "Origin"]


def test_every_origin_gets_no_credentials(serve: Serve) -> None:
    server = serve(cors=["*"])
    server.stream("s")
    head = ask(server, "/streams/s", OK)
    assert head["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in head


def test_without_cors_nothing_is_said(serve: Serve) -> None:
    server = serve()
    server.stream("s")
    head = ask(server, "/streams/s", OK)
    assert [name for name, _ in head.headers if name.startswith("access-control") or name == "vary"] == []


@pytest.mark.parametrize(
    ("site", "origin", "status"),
    [
        ("same-origin", "https://behind.proxy", 200),
        ("none", None, 200),
        ("cross-site", OK, 200),
        ("same-site", "https://evil.example", 403),
        ("cross-site", None, 403),
        (None, "https://evil.example", 403),
        (None, None, 200),
    ],
)
def test_changes_come_from_this_host_or_an_allowed_origin(
    open_to_one: sse_fast.Server, site: str | None, origin: str | None, status: int
) -> None:
    given = [(name, value) for name, value in (("Sec-Fetch-Site", site), ("Origin", origin)) if value is not None]
    assert fetch(open_to_one.port, "/jobs", method="POST", headers=given)[0].status == status


def test_refused_hosts_and_origins_are_counted_and_logged_once(
    open_to_one: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        head = exchange(open_to_one.port, b'GET /streams/s HTTP/1.1\r\nHost: evil.example"[31m\r\n\r\n')
        assert head is not None
        assert head.status == 403
        assert ask(open_to_one, "/jobs", "https://evil.example", "POST").status == 403
    stats = open_to_one.stats()
    assert (stats.hosts_refused, stats.origins_refused) == (3, 3)
    until(lambda: len(refusals(caplog)) >= 2, what="the records")
    assert (
        sum('Origin "https://evil.example" is not allowed: see the setting cors' in text for text in refusals(caplog))
        == 1
    )
    assert sum("Host " in text and "evil.example" in text for text in refusals(caplog)) == 1
    assert all(character.isprintable() for text in refusals(caplog) for character in text)


@pytest.mark.parametrize(
    ("target", "headers", "said"),
    [
        ("http://localhost/", {"Host": "evil.example"}, 'Host "evil.example"'),
        ("http://evil.example/", {"Host": "localhost"}, 'the target\'s host "evil.example"'),
        ("http://localhost/", {"Host": "evil.example", "X-Forwarded-Host": "other.example"}, 'Host "evil.example"'),
        ("/", {"Host": "localhost", "X-Forwarded-Host": "evil.example"}, 'the forwarded host "evil.example"'),
        ("/", {"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 'Sec-Fetch-Site "cross-site"'),
        ("/", {"Host": "localhost", "Sec-Fetch-Site": "same-site", "Origin": "https://evil.example"}, "Origin "),
    ],
)
def test_a_refusal_says_which_value_it_is_for(
    serve: Serve, caplog: pytest.LogCaptureFixture, target: str, headers: dict[str, str], said: str
) -> None:
    server = serve(trusted_proxies=["127.0.0.1"])
    server.post("/")(lambda _request: "done")
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "Content-Length: 0"]
    head = exchange(server.port, "\r\n".join([*lines, "", ""]).encode())
    assert head is not None
    assert head.status == 403
    until(lambda: any(f"was refused: {said}" in text for text in refusals(caplog)), what=said)


def test_a_flood_beyond_the_limit_is_told_so(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(max_connections=10)
    server.stream("s")
    readers = [Reader(server.port, "/streams/s") for _ in range(10)]
    for reader in readers:
        reader.open()
    others = [Reader(server.port, "/streams/s", headers=[("Accept", "application/json")]) for _ in range(200)]
    for other in others:
        head = other.read_head()
        assert (head.status, head["retry-after"]) == (503, "2")
        other.close()
    with Reader(server.port, "/streams/s", headers=[("Accept", "text/event-stream")]) as page:
        assert page.read_head().status == 200
        assert page.read_to_end().startswith(b"retry: ")
    until(lambda: refusals(caplog), what="the record")
    assert refusals(caplog)[0].startswith("a request was refused: max_connections=10 connections are open")
    assert server.stats().refused == 201
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("path", ["/nothing", "/streams/nothing"])
def test_a_preflight_passes_where_its_request_is_told_to_come_back(serve: Serve, path: str) -> None:
    server = serve(cors=[OK], max_connections=1)
    assert ask(server, path, OK, "OPTIONS")["access-control-allow-origin"] == OK
    server.stream("s")
    until(lambda: server.stats().connections == 0, what="the only place")
    with Reader(server.port, "/streams/s") as reader:
        reader.open()
        head = ask(server, "/streams/s", OK, "OPTIONS")
        assert (head.status, head["access-control-allow-origin"]) == (204, OK)


@pytest.mark.parametrize(
    "host", ["localhost:abc", "localhost:80@evil.test", "127.0.0.1:80.evil.test", "localhost:99999"]
)
def test_a_host_is_read_exactly(server: sse_fast.Server, host: str) -> None:
    head = exchange(server.port, f"GET /streams/s HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert head is not None
    assert head.status == 403
