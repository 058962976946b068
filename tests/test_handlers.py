"""Requests that Python answers.

Guards `get` and `post` handlers: what they are given, what each kind of return
value becomes, limits on bodies, methods, and the check of Origin. What happens when
they fail is in test_handler_errors.py, `early_head` in test_early_head.py.
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.held import Held
from support.ids import named
from support.reader import Reader, fetch, request

JSON = [("Content-Type", "application/json")]


def post(server: sse_fast.Server, path: str, body: bytes = b"{}", headers: Any = JSON) -> tuple[Any, bytes]:
    return fetch(server.port, path, method="POST", body=body, headers=headers)


def test_a_request_has_everything_that_was_sent(server: sse_fast.Server) -> None:
    seen: list[sse_fast.Request] = []

    @server.post("/jobs/{kind}/{id}")
    def handle(req: sse_fast.Request) -> None:
        seen.append(req)

    head, body = fetch(
        server.port,
        "/jobs/g%20pu/4?a=1&b=x%26y&a=2&empty=",
        method="POST",
        body='{"größe":1}'.encode(),
        headers=[("Content-Type", "application/json"), ("X-Two", "1"), ("X-Two", "2")],
    )
    assert (head.status, body) == (204, b"")
    (req,) = seen
    assert req.method == "POST"
    assert req.path == "/jobs/g pu/4"
    assert req.params == {"kind": "g pu", "id": "4"}
    assert (req.query["a"], req.query["b"], req.query["empty"]) == ("1", "x&y", "")
    assert req.headers["content-type"] == req.headers["Content-Type"] == "application/json"
    assert req.headers["x-two"] == "1, 2"
    assert req.body == '{"größe":1}'.encode()
    assert req.json() == {"größe": 1}
    assert req.client is not None
    assert req.client[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("value", "status", "content_type", "body"),
    [
        ({"id": 7}, 200, "application/json", b'{"id":7}'),
        ([1, None], 200, "application/json", b"[1,null]"),
        ("text", 200, "application/json", b'"text"'),
        (0, 200, "application/json", b"0"),
        (sse_fast.Response({"id": 7}, status=201), 201, "application/json", b'{"id":7}'),
        (sse_fast.Response("plain"), 200, "text/plain; charset=utf-8", b"plain"),
        (sse_fast.Response(b"\0\xff"), 200, "application/octet-stream", b"\0\xff"),
        (sse_fast.Response("<p>", content_type="text/html; charset=utf-8"), 200, "text/html; charset=utf-8", b"<p>"),
        (sse_fast.Response("", status=404), 404, "text/plain; charset=utf-8", b""),
    ],
    ids=named,
)
def test_what_a_handler_returns_is_the_response(
    server: sse_fast.Server, value: Any, status: int, content_type: str, body: bytes
) -> None:
    server.get("/answer")(lambda _req: value)
    head, got = fetch(server.port, "/answer")
    assert (head.status, head["content-type"], got) == (status, content_type, body)
    assert head["content-length"] == str(len(body))


def test_a_response_s_headers_are_sent(server: sse_fast.Server) -> None:
    server.get("/good")(lambda _req: sse_fast.Response("x", headers={"X-Good": "yes", "Set-Cookie": "a=b"}))
    head, _ = fetch(server.port, "/good")
    assert (head["x-good"], head["set-cookie"]) == ("yes", "a=b")


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_a_content_type_among_the_headers_is_the_only_one(server: sse_fast.Server, name: str) -> None:
    server.get("/page")(lambda _req: sse_fast.Response("<p>", headers={name: "text/html"}))
    assert fetch(server.port, "/page")[0].all("content-type") == ["text/html"]


@pytest.mark.parametrize("status", [199, 600, 0, -1, True])
def test_a_status_that_is_none_is_a_value_error(status: int) -> None:
    with pytest.raises(sse_fast.ResponseError, match="status"):
        sse_fast.Response("x", status=status)
    with pytest.raises(sse_fast.ResponseError, match="status"):
        sse_fast.HttpError(status, "x")
    for wrong in ("200", 200.0, None):
        with pytest.raises(sse_fast.ArgumentTypeError, match="status"):
            sse_fast.Response("x", status=wrong)  # type: ignore[arg-type]
        with pytest.raises(sse_fast.ArgumentTypeError, match="status"):
            sse_fast.HttpError(wrong, "x")  # type: ignore[arg-type]


def test_an_async_handler_is_run(server: sse_fast.Server) -> None:
    @server.get("/async")
    async def handle(_req: sse_fast.Request) -> dict[str, bool]:
        import asyncio

        await asyncio.sleep(0)
        return {"async": True}

    assert fetch(server.port, "/async")[1] == b'{"async":true}'


def test_a_decorated_handler_stays_a_function(server: sse_fast.Server) -> None:
    @server.get("/f")
    def handle(_req: Any) -> str:
        """Documented."""
        return "called"

    assert handle(None) == "called"
    assert handle.__doc__ == "Documented."


# ---- A stream as the response ------------------------------------------------------------


def test_a_returned_stream_is_the_response(server: sse_fast.Server) -> None:
    @server.post("/jobs")
    def submit(req: sse_fast.Request) -> sse_fast.Stream:
        stream = server.stream(f"jobs/{req.json()['id']}", start="all")
        stream.publish({"status": "IN_QUEUE"}, event="IN_QUEUE")
        return stream

    with Reader(server.port, "/jobs", method="POST", body=b'{"id": 5}', headers=JSON) as reader:
        head = reader.open().head
        assert head is not None
        assert head["cache-control"] == "no-cache, no-transform"
        assert reader.next().event == "IN_QUEUE"
        with Reader(server.port, "/streams/jobs/5") as second:
            second.open()
            assert second.next().event == "IN_QUEUE"
            server.stream("jobs/5").end({"status": "DONE"})
            assert [event.event for event in reader.rest()] == ["end"]
            assert [event.event for event in second.rest()] == ["end"]


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/plain", "text/plain"])
def test_a_post_is_answered_by_its_stream_whatever_it_accepts(server: sse_fast.Server, accept: str) -> None:
    """The clients of OpenAI and Anthropic ask for JSON in the request that they expect a stream for."""
    stream = server.stream("s", start="all")
    stream.end("over")
    server.post("/jobs")(lambda _req: stream)
    with Reader(server.port, "/jobs", method="POST", headers=[*JSON, ("Accept", accept)]) as reader:
        assert [event.data for event in reader.open().rest()] == ["over"]


def test_a_get_handler_s_stream_resumes(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")
    server.get("/mine")(lambda _req: stream)
    ids = [stream.publish(number) for number in range(3)]
    with Reader(server.port, "/mine", last_event_id=ids[0]) as reader:
        assert [event.own_id for event in reader.open().take(2)] == ids[1:]
    last = stream.end("over")
    assert fetch(server.port, "/mine", headers=[("Last-Event-ID", last)])[0].status == 204


# ---- Limits ------------------------------------------------------------------------------


def test_a_body_above_the_limit_is_413_and_reaches_no_handler(serve: Serve) -> None:
    server = serve(max_body_bytes=1000)
    called = []
    server.post("/jobs")(lambda req: called.append(len(req.body)))
    assert post(server, "/jobs", b"x" * 1000)[0].status == 204
    head, body = post(server, "/jobs", b"x" * 1001)
    assert head.status == 413
    assert json.loads(body)["error"]
    chunked = (
        b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1f4\r\n%s\r\n" % (b"x" * 500) * 3
    )
    with Reader(server.port, raw=chunked + b"0\r\n\r\n") as reader:
        assert reader.read_head().status == 413
    with Reader(
        server.port, raw=b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    ) as reader:
        assert reader.read_head().status == 413
    assert called == [1000]


def test_a_chunked_body_reaches_the_handler_whole(server: sse_fast.Server) -> None:
    server.post("/echo")(lambda req: req.json())
    raw = (
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'4;ext=1\r\n{"a"\r\n3\r\n: 1\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n'
    )
    with Reader(server.port, raw=raw) as reader:
        assert reader.read_head().status == 200
        assert reader.read_to_end() == b'{"a":1}'


def test_handlers_run_on_handler_threads_and_more_requests_wait(serve: Serve) -> None:
    server = serve(handler_threads=2)
    stream = server.stream("s")
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(Held())
        server.get("/slow")(held)
        readers = [stack.enter_context(Reader(server.port, "/slow")) for _ in range(5)]
        until(lambda: len(held.asked) == 2)
        # Streams do not wait for handlers.
        with Reader(server.port) as reader:
            reader.open()
            stream.publish("x")
            assert reader.next().data == "x"
        assert len(held.asked) == 2
        held.go.set()
        assert [reader.read_to_end() for reader in readers] == [b'"done"'] * 5


def test_a_client_that_leaves_while_a_handler_works_harms_nobody(server: sse_fast.Server) -> None:
    gate, entered, left = threading.Event(), threading.Event(), threading.Event()

    @server.get("/slow")
    def slow(_req: sse_fast.Request) -> str:
        entered.set()
        gate.wait(30)
        left.set()
        return "x" * 100_000

    reader = Reader(server.port, "/slow")
    assert entered.wait(20)
    reader.reset()
    gate.set()
    assert left.wait(20)
    server.get("/fine")(lambda _req: "fine")
    assert fetch(server.port, "/fine")[1] == b'"fine"'


# ---- Origin ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost:1"]
)
def test_a_post_from_another_origin_is_403_and_reaches_no_handler(server: sse_fast.Server, origin: str) -> None:
    called = []
    server.post("/jobs")(called.append)
    head, body = post(server, "/jobs", headers=[*JSON, ("Origin", origin)])
    assert head.status == 403
    assert json.loads(body)["error"]
    assert not called


def test_a_post_from_the_same_or_a_listed_origin_is_handled(serve: Serve) -> None:
    server = serve(cors=["https://app.example"])
    server.post("/jobs")(lambda _req: "ok")
    for origin in (f"http://127.0.0.1:{server.port}", "https://app.example"):
        assert post(server, "/jobs", headers=[*JSON, ("Origin", origin)])[0].status == 200
    assert post(server, "/jobs")[0].status == 200
    assert post(server, "/jobs", headers=[*JSON, ("Origin", "https://evil.example")])[0].status == 403


# ---- Methods -----------------------------------------------------------------------------


def test_get_and_post_of_one_path_are_two_handlers_and_others_405(server: sse_fast.Server) -> None:
    server.get("/both")(lambda _req: "get")
    server.post("/both")(lambda _req: "post")
    assert fetch(server.port, "/both")[1] == b'"get"'
    assert post(server, "/both")[1] == b'"post"'
    head, _ = fetch(server.port, "/both", method="DELETE")
    assert head.status == 405
    assert {"GET", "POST"} <= {word.strip() for word in head["allow"].split(",")}


def test_head_of_a_get_handler_has_no_body(server: sse_fast.Server) -> None:
    server.get("/page")(lambda _req: sse_fast.Response("hello"))
    with Reader(server.port, "/page", method="HEAD") as reader:
        head = reader.read_head()
        assert (head.status, head["content-length"]) == (200, "5")
        reader.send(request("/page", server.port, headers=[("Connection", "close")]))
        reader.read_eof()
        assert bytes(reader.received[len(head.raw) :]).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["", "no-slash", "/a/{", "/a/{}", "/a/}b", "/\ud800"])
def test_a_bad_template_is_a_value_error_at_the_call(server: sse_fast.Server, path: str) -> None:
    with pytest.raises(sse_fast.RouteError) as caught:
        server.get(path)(lambda _req: None)
    assert isinstance(caught.value, ValueError)


def test_the_same_path_twice_is_an_error(server: sse_fast.Server) -> None:
    server.get("/once")(lambda _req: 1)
    with pytest.raises(sse_fast.RouteError, match="/once"):
        server.get("/once")(lambda _req: 2)
    assert fetch(server.port, "/once")[1] == b"1"
