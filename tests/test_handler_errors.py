"""Handlers that fail.

Guards what a stranger is told (a status, no detail), what the log is told (all of
it), and that nothing a handler does ends the thread it runs on or leaves a request
without an answer.
"""

from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.reader import fetch

JSON = [("Content-Type", "application/json")]


def post(server: sse_fast.Server, path: str, body: bytes = b"{}", headers: Any = JSON) -> tuple[Any, bytes]:
    return fetch(server.port, path, method="POST", body=body, headers=headers)


def test_an_exception_is_a_500_without_detail_and_a_logged_traceback(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.get("/fail")
    def fail(_req: sse_fast.Request) -> None:
        raise RuntimeError("the secret reason")

    with caplog.at_level(logging.ERROR, "sse_fast"):
        head, body = fetch(server.port, "/fail?token=hidden")
    assert head.status == 500
    assert set(json.loads(body)) == {"error", "detail"}
    assert b"secret" not in body
    record = next(record for record in caplog.records if record.exc_info)
    assert "the secret reason" in caplog.text
    assert "Traceback" in caplog.text
    assert record.name.startswith("sse_fast")
    assert "hidden" not in caplog.text, "a query may hold a token"


FAILURES = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    BaseException("base"),
    StopIteration(),
    RecursionError(),
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("written", ["def", "async def"])
def test_even_a_base_exception_answers_500_and_ends_no_thread(
    serve: Serve, failure: BaseException, written: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(handler_threads=1)

    def fail(_req: sse_fast.Request) -> None:
        raise failure

    async def fail_later(_req: sse_fast.Request) -> None:
        raise failure

    server.get("/fail")(fail if written == "def" else fail_later)
    server.get("/fine")(lambda _req: "fine")
    with caplog.at_level(logging.ERROR, "sse_fast"):
        for _ in range(3):
            head, body = fetch(server.port, "/fail")
            assert head.status == 500
            assert json.loads(body) == {"error": "internal", "detail": "the handler failed; see the server's log"}
    assert fetch(server.port, "/fine")[1] == b'"fine"'
    assert [record.exc_info is not None for record in caplog.records] == [True] * 3
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        sse_fast.HttpError(400, "detail \ud800"),
        sse_fast.HttpError(400, "x", headers={"X-Odd": "\ud800"}),
        sse_fast.HttpError(400, "x", headers={"X-Odd": "a\nb"}),
        sse_fast.HttpError(400, "x", headers={"Content-Length": "99"}),
    ],
    ids=repr,
)
def test_an_answer_that_cannot_be_sent_is_a_500_at_once(
    serve: Serve, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the log keeps the traceback, and with it all that the failed call held."""
    server = serve(handler_threads=1)

    @server.get("/odd")
    def odd(_req: sse_fast.Request) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.ERROR, "sse_fast"):
        for _ in range(2):
            assert fetch(server.port, "/odd", deadline=5)[0].status == 500
    assert "Traceback" in caplog.text, "the answer refers to the log"


BAD_HEADERS = [
    ({"X A": "b"}, "X A"),
    ({"": "b"}, "name"),
    ({"Größe": "b"}, "Größe"),
    ({"X-A": "a\r\nb: c"}, r"X-A.*position 1"),
    ({"X-A": "a\nb"}, r"X-A.*position 1"),
    ({"X-A": "ab\0"}, r"X-A.*position 2"),
    ({"X-A": "\x7f"}, "X-A"),
    ({"X-A": "a\ud800"}, r"X-A.*position 1"),
    *(
        ({name: "5"}, f"{name}.*engine")
        for name in (
            "Content-Length",
            "transfer-encoding",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "Trailer",
            "TE",
            "DATE",
        )
    ),
]


@pytest.mark.parametrize(("headers", "named"), BAD_HEADERS, ids=repr)
def test_a_header_that_cannot_be_sent_is_refused_where_it_is_given(headers: dict[str, str], named: str) -> None:
    with pytest.raises(sse_fast.ResponseError, match=named):
        sse_fast.Response("x", headers=headers)


def test_a_content_type_and_a_header_s_name_are_checked_too() -> None:
    with pytest.raises(sse_fast.ResponseError, match="content-type"):
        sse_fast.Response("x", content_type="text/html\r\nX-Evil: 1")
    with pytest.raises(sse_fast.ArgumentTypeError, match="5"):
        sse_fast.Response("x", headers={5: "x"})  # type: ignore[dict-item]


def test_a_header_may_hold_what_utf_8_can_express_and_numbers(server: sse_fast.Server) -> None:
    headers: Any = {"X-Tab": "a\tb", "X-City": "Köln", "Retry-After": 5}
    server.get("/good")(lambda _req: sse_fast.Response("x", headers=headers))
    head, _ = fetch(server.port, "/good")
    assert (head.status, head["x-tab"], head["retry-after"]) == (200, "a\tb", "5")


@pytest.mark.parametrize(
    "error",
    [
        sse_fast.HttpError(404, "no such run", error="unknown_run", headers={"X-Why": "gone"}),
        *(
            kind("what it says")
            for name in sse_fast.__all__
            if isinstance(kind := getattr(sse_fast, name), type)
            and issubclass(kind, sse_fast.SseFastError)
            and kind is not sse_fast.HttpError
        ),
    ],
    ids=repr,
)
def test_an_error_can_be_pickled_and_copied(error: sse_fast.SseFastError) -> None:
    error.__dict__["note"] = "kept"
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


class Broken(logging.Handler):
    """A logging handler with a defect of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit(record.getMessage())


@pytest.fixture
def broken_logging() -> Iterator[None]:
    logger, handler = logging.getLogger("sse_fast"), Broken()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("broken_logging")
def test_logging_that_raises_ends_no_thread(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(handler_threads=1)

    @server.get("/fail")
    def fail(_req: sse_fast.Request) -> None:
        raise RuntimeError

    for number in range(3):
        assert fetch(server.port, "/fail", deadline=5)[0].status == 500
        # The engine's own records pass through another thread.
        server.route(f"/{number}/{{id}}", "none/{id}", wait=0.001)
        assert fetch(server.port, f"/{number}/1")[0].status == 404
    server.close()
    assert capsys.readouterr().err.count("did not appear") >= 3


def test_a_route_that_is_refused_leaves_nothing_behind(server: sse_fast.Server) -> None:
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(sse_fast.RouteError):
            server.get("no-slash")(lambda _req: None)
        with pytest.raises(sse_fast.RouteError):
            server.route("no-slash", "s", exists=lambda _name: True)
        with pytest.raises(sse_fast.SettingError):
            server.route("/a/{id}", "s", wait=-1.0, exists=lambda _name: True)
    assert threading.active_count() == before
    assert not server._callbacks._callables


def test_what_is_not_json_is_a_500(server: sse_fast.Server, caplog: pytest.LogCaptureFixture) -> None:
    server.get("/odd")(lambda _req: object())
    with caplog.at_level(logging.ERROR, "sse_fast"):
        assert fetch(server.port, "/odd")[0].status == 500
    assert caplog.records


def test_an_http_error_is_that_response(server: sse_fast.Server) -> None:
    @server.post("/jobs")
    def submit(req: sse_fast.Request) -> None:
        raise sse_fast.HttpError(400, "gpu: must be one of A100, H100", error="bad_field", headers={"X-Why": "gpu"})

    head, body = post(server, "/jobs")
    assert (head.status, head["x-why"]) == (400, "gpu")
    assert json.loads(body) == {"error": "bad_field", "detail": "gpu: must be one of A100, H100"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"{'a': 1}", b"[" * 100_000], ids=lambda body: repr(body)[:20])
def test_a_body_that_is_not_json_is_a_400(server: sse_fast.Server, body: bytes) -> None:
    server.post("/jobs")(lambda req: req.json())
    head, answer = post(server, "/jobs", body)
    assert head.status == 400
    assert json.loads(answer)["error"] == "bad_json"
