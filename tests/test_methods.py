"""Which methods a path has, and what the others are told.

Guards `put`, `patch` and `delete` beside `get` and `post`: 405 with the right Allow, HEAD, OPTIONS, and that each of
those that change something is checked for where it comes from.
"""

from __future__ import annotations

import pytest

import sse_fast
from conftest import Serve
from support.reader import Reader, fetch

CHANGES = ["POST", "PUT", "PATCH", "DELETE"]


def register(server: sse_fast.Server, method: str, path: str) -> None:
    decorate = getattr(server, method.lower())(path)
    decorate(lambda req: {"method": req.method, "body": req.body.decode()})


@pytest.mark.parametrize("method", CHANGES)
def test_a_handler_answers_its_own_method(server: sse_fast.Server, method: str) -> None:
    register(server, method, "/jobs/{id}")
    _, body = fetch(server.port, "/jobs/7", method=method, body=b"x", headers=[("Content-Type", "text/plain")])
    assert body == b'{"method":"%s","body":"x"}' % method.encode()
    for other in {"GET", "HEAD", *CHANGES} - {method}:
        head, _ = fetch(server.port, "/jobs/7", method=other)
        assert (head.status, head["allow"]) == (405, f"{method}, OPTIONS")


def test_allow_lists_every_method_of_the_path(server: sse_fast.Server) -> None:
    for method in ("GET", "PUT", "DELETE"):
        register(server, method, "/jobs/{id}")
    allowed = "GET, HEAD, PUT, DELETE, OPTIONS"
    head, body = fetch(server.port, "/jobs/7", method="PATCH")
    assert (head.status, head["allow"]) == (405, allowed)
    assert b"DELETE" in body
    head, body = fetch(server.port, "/jobs/7", method="OPTIONS")
    assert (head.status, head["allow"], body) == (204, allowed, b"")
    assert fetch(server.port, "/jobs/7", method="HEAD")[0].status == 200


def test_a_preflight_is_told_the_methods_of_the_path(serve: Serve) -> None:
    server = serve(cors=["https://app.example"])
    register(server, "DELETE", "/jobs/{id}")
    asked = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "DELETE")]
    head, _ = fetch(server.port, "/jobs/7", method="OPTIONS", headers=asked)
    assert "DELETE" in head["access-control-allow-methods"]
    assert "PUT" not in head["access-control-allow-methods"]


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_from_another_site_reaches_no_handler(server: sse_fast.Server, method: str) -> None:
    register(server, method, "/jobs/{id}")
    head, _ = fetch(server.port, "/jobs/7", method=method, headers=[("Origin", "https://evil.example")])
    assert head.status == 403


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_may_be_answered_by_a_stream(server: sse_fast.Server, method: str) -> None:
    """Whatever its client accepts: it does not poll with that."""
    stream = server.stream("s", start="all")
    stream.end("over")
    getattr(server, method.lower())("/jobs")(lambda _req: stream)
    with Reader(server.port, "/jobs", method=method, headers=[("Accept", "application/json")]) as reader:
        assert [event.data for event in reader.open().rest()] == ["over"]


@pytest.mark.parametrize("method", ["GET", *CHANGES])
def test_the_same_method_twice_is_an_error(server: sse_fast.Server, method: str) -> None:
    register(server, method, "/once")
    with pytest.raises(sse_fast.RouteError, match="/once"):
        register(server, method, "/once")
