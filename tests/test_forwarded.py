"""Who a request is from where proxies pass it on: `trusted_proxies` and `forwarded`.

Guards that a handler is given the client's address, that both hosts must be allowed, that a page is of this site by the
host and scheme that its browser named, and that nobody but a trusted proxy has any say in it.
"""

from __future__ import annotations

import json
import logging

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.reader import Reader, fetch

HERE = "127.0.0.1"


def behind(serve: Serve, **settings: object) -> sse_fast.Server:
    """A server whose handler says who asked; this machine is its proxy unless another is given."""
    server = serve(**{"trusted_proxies": [HERE], "allowed_hosts": ["app.example"], **settings})
    server.get("/who")(lambda request: list(request.client))
    server.post("/jobs")(lambda _request: "done")
    return server


def who(server: sse_fast.Server, **headers: str) -> list[object]:
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    head, body = fetch(server.port, "/who", headers=given)
    assert head.status == 200, body
    found: list[object] = json.loads(body)
    return found


def test_a_handler_is_given_the_address_of_the_client(serve: Serve) -> None:
    server = behind(serve, trusted_proxies=[HERE, "10.0.0.0/8"])
    assert who(server, X_Forwarded_For="6.6.6.6, 203.0.113.7, 10.1.2.3") == ["203.0.113.7", 0]
    assert who(server, X_Forwarded_For="[2001:db8::1]:4711") == ["2001:db8::1", 4711]
    assert who(server, Forwarded="for=203.0.113.7")[0] == HERE, "the other family is not read"
    assert who(server)[0] == HERE


def test_the_standard_header_is_read_where_it_is_asked_for(serve: Serve) -> None:
    server = behind(serve, forwarded="rfc7239")
    assert who(server, Forwarded='for=6.6.6.6, for="[2001:db8::1]:4711";proto=https') == ["2001:db8::1", 4711]
    assert who(server, X_Forwarded_For="203.0.113.7")[0] == HERE, "the other family is not read"


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]])
def test_nobody_is_believed_who_is_not_trusted(serve: Serve, trusted: list[str]) -> None:
    server = behind(serve, trusted_proxies=trusted)
    assert who(server, X_Forwarded_For="203.0.113.7", X_Forwarded_Host="evil.example")[0] == HERE


def test_the_real_and_the_forwarded_host_must_both_be_allowed(serve: Serve) -> None:
    server = behind(serve)
    server.stream("s").end()

    def status(host: str, forwarded: str) -> int:
        given = [("X-Forwarded-Host", forwarded)]
        with Reader(server.port, raw=_request(host, given)) as reader:
            return reader.read_head().status

    assert status("localhost", "app.example") == 200
    assert status("app.example", "app.example:443") == 200
    assert status("localhost", "evil.example") == 403
    assert status("evil.example", "app.example") == 403
    assert status("localhost", "app.example#") == 403
    # What is no text names no host, and is not taken for absent.
    assert status("localhost", "\xff") == 403
    assert status("localhost", "app.example, \xff") == 403
    assert server.stats().hosts_refused == 5


def test_a_host_in_the_standard_header_that_cannot_be_read_is_not_allowed(serve: Serve) -> None:
    server = behind(serve, forwarded="rfc7239")
    server.stream("s").end()
    for value, status in [("host=app.example", 200), ("host=\xff", 403), ('host="a"b"', 403), ("for=\xff", 200)]:
        with Reader(server.port, raw=_request("localhost", [("Forwarded", value)])) as reader:
            assert reader.read_head().status == status, value


def _request(host: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(["GET /streams/s HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("origin", "host", "proto", "status"),
    [
        ("https://app.example", "app.example", "https", 200),
        ("https://app.example", "app.example:443", "https", 200),
        ("http://app.example", "app.example", "https", 403),
        ("https://app.example:8443", "app.example", "https", 403),
        ("https://evil.example", "app.example", "https", 403),
    ],
)
def test_a_page_is_of_this_site_by_what_its_browser_named(
    serve: Serve, origin: str, host: str, proto: str, status: int
) -> None:
    server = behind(serve)
    given = [("Origin", origin), ("X-Forwarded-Host", host), ("X-Forwarded-Proto", proto)]
    assert fetch(server.port, "/jobs", method="POST", headers=given)[0].status == status


def test_the_log_says_that_a_proxy_is_not_trusted(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sse_fast")
    server = behind(serve, trusted_proxies=[])
    given = [("Origin", "https://app.example"), ("X-Forwarded-For", "203.0.113.7")]
    assert fetch(server.port, "/jobs", method="POST", headers=given)[0].status == 403
    until(lambda: "a proxy that is not in trusted_proxies has passed it on" in caplog.text, what="the record")


@pytest.mark.parametrize("proxies", [["10.0.0.1/8"], ["localhost"], ["10.0.0.0/33"], [""], "127.0.0.1", ["[::1]"], [1]])
def test_what_is_no_network_is_a_setting_error(proxies: object) -> None:
    with pytest.raises(sse_fast.SettingError, match="trusted_proxies"):
        sse_fast.serve(0, trusted_proxies=proxies)  # type: ignore[arg-type]


def test_networks_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setenv("SSE_FAST_TRUSTED_PROXIES", "127.0.0.1, ::1")
    monkeypatch.setenv("SSE_FAST_FORWARDED", "rfc7239")
    server = serve()
    server.get("/who")(lambda request: list(request.client))
    assert who(server, Forwarded="for=203.0.113.7") == ["203.0.113.7", 0]
