"""What a handler reads from a request beyond its body, and what it may say beside a stream.

Guards `request.cookies`, headers that come several times, headers of a stream, and errors in a client's own form.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.reader import Reader, fetch


@pytest.mark.parametrize(
    ("sent", "cookies"),
    [
        (["a=1; b=2"], {"a": "1", "b": "2"}),
        (["a=1;b=2", "c=3"], {"a": "1", "b": "2", "c": "3"}),
        (["a=first; a=second"], {"a": "first"}),
        (['a="x y"; b="'], {"a": "x y", "b": '"'}),
        (["a=x=y; =z; none; ; b="], {"a": "x=y", "b": ""}),
        (["  a = 1 ;\tb=2"], {"a": "1", "b": "2"}),
        (["a=%20,b"], {"a": "%20,b"}),
        ([], {}),
    ],
)
def test_cookies_are_read_as_rfc_6265_says(server: sse_fast.Server, sent: list[str], cookies: dict[str, str]) -> None:
    server.get("/cookies")(lambda req: dict(req.cookies))
    _, body = fetch(server.port, "/cookies", headers=[("Cookie", value) for value in sent])
    assert json.loads(body) == cookies


def test_cookies_are_read_only_and_show_no_value(server: sse_fast.Server) -> None:
    seen: list[sse_fast.Request] = []
    server.get("/cookies")(seen.append)
    fetch(server.port, "/cookies", headers=[("Cookie", "session=secret")])
    cookies: Any = seen[0].cookies
    assert seen[0].cookies is cookies
    with pytest.raises(TypeError):
        cookies["session"] = "other"
    assert "secret" not in repr(cookies)
    assert "session" in repr(cookies)


TWO = [("Set-Cookie", "a=1"), ("X-Job", "7"), ("Set-Cookie", "b=2")]


def test_a_header_may_come_several_times(server: sse_fast.Server) -> None:
    server.get("/page")(lambda _req: sse_fast.Response("x", headers=TWO))

    @server.get("/refused")
    def refused(_req: sse_fast.Request) -> None:
        raise sse_fast.HttpError(401, "no", headers=TWO)

    for path in ("/page", "/refused"):
        head, _ = fetch(server.port, path)
        assert (head.all("set-cookie"), head["x-job"]) == (["a=1", "b=2"], "7")


@pytest.mark.parametrize("headers", ["a: b", [("a",)], ["ab"], 5], ids=repr)
def test_headers_that_are_no_pairs_are_refused(headers: Any) -> None:
    with pytest.raises(sse_fast.ArgumentTypeError, match="headers"):
        sse_fast.Response("x", headers=headers)


# ---- A stream with headers -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stream_is_answered_with_headers(server: sse_fast.Server, method: str) -> None:
    stream = server.stream("s", start="all")
    stream.publish("x")
    getattr(server, method.lower())("/mine")(lambda _req: sse_fast.Response(stream, headers=TWO))
    with Reader(server.port, "/mine", method=method) as reader:
        head = reader.open().head
        assert head is not None
        assert (head.all("set-cookie"), head["x-job"]) == (["a=1", "b=2"], "7")
        assert len(head.all("content-type")) == 1
        assert reader.next().data == "x"


def test_every_form_of_a_stream_has_them(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")
    server.get("/mine")(lambda _req: sse_fast.Response(stream, headers=TWO))
    last = stream.end("over")
    for options in (
        {"headers": [("Accept", "application/json")]},
        {"method": "HEAD"},
        {"headers": [("Last-Event-ID", last)]},
    ):
        head, _ = fetch(server.port, "/mine", **options)  # type: ignore[arg-type]
        assert (head.status in {200, 204}, head.all("set-cookie")) == (True, ["a=1", "b=2"])


@pytest.mark.parametrize(
    "given",
    [
        {"status": 201},
        {"content_type": "text/plain"},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"cache-control": "no-store"}},
        {"headers": {"X-Accel-Buffering": "yes"}},
        {"headers": {"Connection": "close"}},
    ],
    ids=str,
)
def test_what_a_stream_decides_itself_is_refused(server: sse_fast.Server, given: dict[str, Any]) -> None:
    with pytest.raises(sse_fast.ResponseError):
        sse_fast.Response(server.stream("s"), **given)


def test_headers_that_come_after_an_early_head_are_left_out_and_logged(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()

    @server.get("/mine", early_head=True, heartbeat=0.01)
    def mine(_req: sse_fast.Request) -> sse_fast.Response:
        gate.wait(30)
        stream = server.stream("s", start="all")
        stream.end("over")
        return sse_fast.Response(stream, headers=TWO)

    with caplog.at_level(logging.WARNING, "sse_fast"), Reader(server.port, "/mine") as reader:
        try:
            head = reader.open().head
        finally:
            gate.set()
        assert head is not None
        assert head.all("set-cookie") == []
        assert [event.data for event in reader.rest()] == ["over"]
        until(lambda: "left out" in caplog.text)
    assert "a=1" not in caplog.text


# ---- Errors --------------------------------------------------------------------------------


def test_an_error_may_have_a_client_s_own_form(serve: Serve) -> None:
    server = serve()
    body = {
        "error": {"message": "no such key", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    }

    @server.post("/v1/chat/completions")
    def complete(_req: sse_fast.Request) -> None:
        raise sse_fast.HttpError(401, body=body)

    head, got = fetch(server.port, "/v1/chat/completions", method="POST")
    assert (head.status, head["content-type"], json.loads(got)) == (401, "application/json", body)


def test_an_error_s_body_that_is_not_json_is_a_500(server: sse_fast.Server, caplog: pytest.LogCaptureFixture) -> None:
    @server.get("/odd")
    def odd(_req: sse_fast.Request) -> None:
        raise sse_fast.HttpError(401, body=object())

    with caplog.at_level(logging.ERROR, "sse_fast"):
        assert fetch(server.port, "/odd")[0].status == 500
    assert "JSON" in caplog.text


def test_a_path_makes_no_line_of_its_own_in_the_log(server: sse_fast.Server, caplog: pytest.LogCaptureFixture) -> None:
    @server.get("/item/{x}")
    def item(req: sse_fast.Request) -> None:
        assert "\n" in req.path
        raise RuntimeError(repr(req))

    with caplog.at_level(logging.ERROR, "sse_fast"):
        fetch(server.port, "/item/a%0A2026-01-01%20CRITICAL%20root%20logged%20in%1B%5B31m%E2%80%A8more%C2%85")
    (record,) = caplog.records
    assert not {character for character in record.getMessage() if not character.isprintable()}
    assert record.exc_info is not None
    assert "\n" not in str(record.exc_info[1])
