"""What is not known: waited for (`wait`), and in a server's first minute taken for something to come (`settle`).

Guards that a deploy ends no page for good, that only a reader which behaves as an EventSource is told so, and that the
word of an application stays 404.
"""

from __future__ import annotations

import logging
import re
import threading

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.reader import Reader, fetch

EVENTS = [("Accept", "text/event-stream")]


def answer(server: sse_fast.Server, path: str, accept: str | None = "text/event-stream") -> tuple[int, bytes, str]:
    head, body = fetch(server.port, path, headers=[("Accept", accept)] if accept else [])
    return head.status, body, "".join(head.all("connection"))


@pytest.mark.parametrize("path", ["/streams/run", "/somewhere"])
def test_an_event_source_is_told_to_come_back(serve: Serve, path: str, caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    with caplog.at_level(logging.INFO, logger="sse_fast"):
        status, body, connection = answer(server, path)
        assert (status, connection) == (200, "close")
        assert re.fullmatch(rb"retry: [2-6]\d{3}\n", body)
        until(lambda: f'"{path}" is not known' in caplog.text, what="the record")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
def test_other_clients_are_told_that_there_is_nothing(serve: Serve, accept: str | None) -> None:
    assert answer(serve(), "/streams/run", accept)[0] == 404


@pytest.mark.parametrize("path", ["/streams/run", "/somewhere"])
def test_settle_0_switches_it_off(serve: Serve, path: str) -> None:
    assert answer(serve(settle=0), path)[0] == 404


def test_after_settle_it_is_404(serve: Serve) -> None:
    server = serve(settle=0.2)
    until(lambda: answer(server, "/streams/run")[0] == 404, what="settling")


@pytest.mark.parametrize("options", [{"wait": 0.05}, {"wait": 0.05, "exists": lambda _: False}, {}])
def test_a_route_s_404_is_the_application_s_word(serve: Serve, options: dict[str, float]) -> None:
    server = serve()
    server.route("/api/{id}", "runs/{id}", **options)  # type: ignore[arg-type]
    assert answer(server, "/api/7")[0] == 404


def test_a_stream_that_is_known_is_read_at_once(serve: Serve) -> None:
    server = serve()
    server.stream("run", start="all").publish("x")
    with Reader(server.port, "/streams/run", headers=EVENTS) as reader:
        assert reader.next().data == "x"


def test_a_request_waits_for_a_stream_as_long_as_the_setting_says(serve: Serve) -> None:
    server = serve(wait=3600.0, settle=0)
    with Reader(server.port, "/streams/run", headers=EVENTS) as reader:
        until(lambda: server.stats().requests == 1, what="the request")
        threading.Thread(target=lambda: server.stream("run", start="all").publish("x")).start()
        assert reader.next().data == "x"


def test_its_404_says_how_long_it_waited(serve: Serve) -> None:
    status, body, _ = answer(serve(wait=0.2, settle=0), "/streams/run")
    assert status == 404
    assert float(re.findall(rb'"waited":([0-9.]+)', body)[0]) >= 0.2


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("last_event_id={id}", None),
        ("lastEventId={id}", None),
        ("last_event_id=&lastEventId={id}", None),
        ("lastEventId={id}", ""),
        ("lastEventId=other", "{id}"),
    ],
)
def test_an_id_is_taken_from_where_it_is_not_empty(server: sse_fast.Server, query: str, header: str | None) -> None:
    stream = server.stream("run", start="all")
    ids = [stream.publish(data) for data in ("a", "b")]
    headers = [] if header is None else [("Last-Event-ID", header.format(id=ids[0]))]
    with Reader(server.port, f"/streams/run?{query.format(id=ids[0])}", headers=headers) as reader:
        assert reader.next().data == "b"
