"""URL templates mapped to streams without any Python per request.

Guards `server.route`: waiting for a stream that does not exist yet, one check per
interval however many wait, the 404 that tells how long it waited, streams made
by a route, and which of several matching paths wins.
"""

from __future__ import annotations

import itertools
import json
import logging
import socket
import threading
import time
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.beats import Beats
from support.deadline import DEADLINE, until
from support.reader import Reader, fetch


def test_a_route_is_another_address_of_a_stream(server: sse_fast.Server) -> None:
    stream = server.stream("workflow/7", start="all")
    ids = [stream.publish(number) for number in range(3)]
    server.route("/api/streams/{id}", "workflow/{id}")
    with Reader(server.port, "/api/streams/7") as reader:
        assert [event.own_id for event in reader.open().take(3)] == ids
    with Reader(server.port, "/api/streams/7", last_event_id=ids[1]) as reader:
        assert reader.open().next().own_id == ids[2]
    head, body = fetch(server.port, "/api/streams/7", headers=[("Accept", "application/json")])
    assert (head.status, json.loads(body)["stream"]) == (200, "workflow/7")


def test_placeholders_come_from_path_or_query(server: sse_fast.Server) -> None:
    server.route("/api/clarify/stream", "clarify/{session_id}")
    server.route("/t/{tenant}/jobs", "t/{tenant}/jobs/{job}")
    clarify = server.stream("clarify/a b&c")
    jobs = server.stream("t/x/jobs/9")
    for stream, path in ((clarify, "/api/clarify/stream?session_id=a%20b%26c"), (jobs, "/t/x/jobs?other=1&job=9")):
        with Reader(server.port, path) as reader:
            reader.open()
            stream.publish("x")
            assert reader.next().data == "x"
    for path in ("/api/clarify/stream", "/t/x/jobs"):
        head, body = fetch(server.port, path)
        assert head.status in {400, 404}
        assert json.loads(body)["detail"]


@pytest.mark.parametrize("value", ["%00", "a%0Ab", "%FF", "..%2F..%2Fetc%2Fpasswd"])
def test_a_placeholder_that_cannot_be_a_name_is_a_client_error(server: sse_fast.Server, value: str) -> None:
    server.route("/api/streams/{id}", "workflow/{id}", create=True)
    head, _ = fetch(server.port, f"/api/streams/{value}", headers=[("Accept", "application/json")])
    assert head.status in {400, 404}
    assert server.streams() == []


def test_a_request_waits_for_its_stream(server: sse_fast.Server) -> None:
    server.route("/api/streams/{id}", "workflow/{id}", wait=30.0)
    with Reader(server.port, "/api/streams/7") as reader:
        reader.assert_silent(0.3)
        stream = server.stream("workflow/7", start="all")
        stream.publish("x")
        reader.open()
        assert reader.next().data == "x"


def test_a_request_that_waited_in_vain_is_404_and_says_how_long(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.route("/api/streams/{id}", "workflow/{id}", wait=0.6)
    start = time.monotonic()
    with caplog.at_level(logging.INFO, "sse_fast"):
        head, body = fetch(server.port, "/api/streams/7?token=hidden")
        waited = time.monotonic() - start
        assert head.status == 404
        value = json.loads(body)
        assert set(value) >= {"error", "detail"}
        told = [float(number) for number in _numbers(value["detail"])]
        assert any(0.5 <= number <= waited + 0.1 or 500 <= number <= (waited + 0.1) * 1000 for number in told), value
        assert waited >= 0.6
        until(lambda: any("workflow/7" in record.getMessage() for record in caplog.records), what="a log line")
    assert "hidden" not in caplog.text


def _numbers(text: str) -> list[str]:
    import re

    return re.findall(r"\d+(?:\.\d+)?", text)


def test_without_wait_the_404_comes_at_once(server: sse_fast.Server) -> None:
    server.route("/api/streams/{id}", "workflow/{id}")
    assert fetch(server.port, "/api/streams/7")[0].status == 404


def test_a_waiting_reader_that_leaves_is_forgotten(server: sse_fast.Server) -> None:
    server.route("/api/streams/{id}", "workflow/{id}", wait=30.0)
    for _ in range(20):
        with Reader(server.port, "/api/streams/7") as reader:
            reader.assert_silent(0.01)
    stream = server.stream("workflow/7")
    until(lambda: stream.subscribers == 0)
    stream.publish("x")


def test_exists_is_asked_per_interval_not_per_reader(server: sse_fast.Server) -> None:
    asked: list[str] = []
    there = threading.Event()

    def exists(name: str) -> bool:
        asked.append(name)
        return there.is_set()

    server.route("/api/streams/{id}", "workflow/{id}", wait=30.0, exists=exists, retry_delay=0.2)
    readers = [Reader(server.port, "/api/streams/7") for _ in range(100)]
    threads = threading.active_count()
    try:
        with Beats(server, 0.2) as beats:
            until(lambda: asked)
            seen, first = beats.seen(), len(asked)
            beats.wait(6)
            # The checks first, then the intervals: so many have passed, or more.
            checks = len(asked) - first
            intervals = beats.seen() - seen + 1
            # Each check waits for its interval, however many wait: 100 readers, one check at a time. A heartbeat may be
            # later than it should be, and so may a check.
            assert checks <= intervals + 2
        until(lambda: len(asked) >= 5)
        assert threading.active_count() <= threads
        there.set()
        for reader in readers:
            reader.open()
        server.stream("workflow/7").publish("x")
        assert [reader.next().data for reader in readers] == ["x"] * 100
    finally:
        for reader in readers:
            reader.close()
    assert set(asked) == {"workflow/7"}


def test_exists_is_not_asked_for_readers_that_left_and_does_not_starve_handlers(server: sse_fast.Server) -> None:
    asked: list[str] = []
    at_once: list[int] = []
    running, more, release = threading.Lock(), itertools.count(), threading.Event()
    now: set[int] = set()

    def exists(name: str) -> bool:
        number = next(more)
        with running:
            asked.append(name)
            now.add(number)
            at_once.append(len(now))
        release.wait(DEADLINE)
        with running:
            now.discard(number)
        return False

    @server.get("/fast")
    def fast(_req: sse_fast.Request) -> int:
        return 1

    server.route("/api/streams/{id}", "workflow/{id}", wait=30.0, exists=exists, retry_delay=0.05)
    readers = [Reader(server.port, f"/api/streams/{number}") for number in range(100)]
    try:
        until(lambda: asked and server.stats().connections == 100)
        assert fetch(server.port, "/fast")[0].status == 200, "sixteen threads answer calls: some are left for handlers"
    finally:
        for reader in readers:
            reader.close()
    until(lambda: server.stats().connections == 0)
    before = len(asked)
    release.set()
    until(lambda: not now)
    for _ in range(20):  # Each waits behind whatever was still queued.
        assert fetch(server.port, "/fast")[0].status == 200
    assert len(asked) == before, "nobody waits for these names any more"
    assert max(at_once) <= 4


def test_exists_that_raises_is_logged_and_asked_again(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [RuntimeError("database is away"), False, True]

    def exists(_name: str) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    server.route("/api/streams/{id}", "workflow/{id}", wait=30.0, exists=exists, retry_delay=0.05)
    with caplog.at_level(logging.ERROR, "sse_fast"), Reader(server.port, "/api/streams/7") as reader:
        reader.open()
    assert "database is away" in caplog.text
    assert answers == []


def test_a_stream_that_exists_answers_without_asking(server: sse_fast.Server) -> None:
    asked = []
    server.route("/api/streams/{id}", "workflow/{id}", wait=5.0, exists=asked.append)
    server.stream("workflow/7")
    with Reader(server.port, "/api/streams/7") as reader:
        reader.open()
    assert asked == []


def test_success_after_waiting_is_logged(server: sse_fast.Server, caplog: pytest.LogCaptureFixture) -> None:
    answers = [False, False, True]
    server.route("/api/streams/{id}", "workflow/{id}", wait=30.0, exists=lambda _name: answers.pop(0), retry_delay=0.05)
    with caplog.at_level(logging.INFO, "sse_fast"), Reader(server.port, "/api/streams/7") as reader:
        reader.open()
        until(lambda: any("workflow/7" in record.getMessage() for record in caplog.records), what="a log line")
    text = next(record.getMessage() for record in caplog.records if "workflow/7" in record.getMessage())
    assert "3" in _numbers(text), f"attempts are not in {text!r}"


def test_create_makes_the_stream_at_the_first_request(server: sse_fast.Server) -> None:
    server.route("/api/streams/{id}", "workflow/{id}", create=True, start="all", heartbeat=0.05)
    with Reader(server.port, "/api/streams/7") as reader:
        reader.open()
        reader.read_until(lambda: reader.parser.comments, what="a heartbeat: the route's option")
        (stream,) = server.streams()
        assert stream.name == "workflow/7"
        stream.publish("x")
        assert reader.next().data == "x"
    with Reader(server.port, "/api/streams/7") as reader:
        assert reader.open().next().data == "x"


def test_create_makes_nothing_for_a_refused_request_or_a_head(server: sse_fast.Server) -> None:
    server.route("/api/streams/{id}", "workflow/{id}", create=True)
    head, _ = fetch(server.port, "/api/streams/a", headers=[("Accept", "image/png")])
    assert head.status == 406
    head, body = fetch(server.port, "/api/streams/b", method="HEAD")
    assert (head.status, head["content-type"], body) == (200, "text/event-stream; charset=utf-8", b"")
    head, _ = fetch(server.port, "/api/streams/c", method="HEAD", headers=[("Accept", "application/json")])
    assert (head.status, head["content-type"]) == (200, "application/json")
    assert server.streams() == []


def test_strangers_who_make_streams_push_out_only_what_nobody_misses(server: sse_fast.Server) -> None:
    server.route("/make/{id}", "made/{id}", create=True)
    kept = {"made/read", "made/published", "made/held"}
    for name in sorted(kept):
        fetch(server.port, f"/make/{name[5:]}", headers=[("Accept", "application/json")])
    server.stream("made/published").publish("one")
    held = server.stream("made/held")
    with Reader(server.port, "/make/read") as reader, Reader(server.port, "/make/0") as stranger:
        reader.open()
        stranger.open()
        stranger.close()
        most = 16_384
        polls = most + 200
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.settimeout(DEADLINE)
            for number in range(polls):
                ask = f"GET /make/{number} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
                connection.sendall(ask.encode())
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        names = {stream.name for stream in server.streams()}
        assert kept <= names
        # Those in use when their turn came are no longer counted.
        assert most <= len(names) <= most + len(kept)
        assert f"made/{polls - 1}" in names
        assert "made/1" not in names
        held.publish("still there")
        server.stream("made/read").publish("news")
        assert reader.next().data == "news"


def test_a_created_stream_expires_without_subscribers(server: sse_fast.Server) -> None:
    server.route("/api/streams/{id}", "workflow/{id}", create=True, expire=0.3)
    with Reader(server.port, "/api/streams/7") as reader:
        reader.open()
        assert len(server.streams()) == 1
    until(lambda: server.streams() == [])


def test_exact_paths_win_over_templates_and_templates_over_streams(server: sse_fast.Server) -> None:
    for name in ("exact", "template", "x", "fixed"):
        server.stream(name, start="all").publish(name)
    server.route("/streams/{id}", "template")
    server.route("/streams/fixed", "exact")
    server.get("/streams/handler")(lambda _req: "handler")
    server.get("/page/{name}")(lambda req: req.params)
    server.get("/page/about")(lambda _req: "about")

    def first(path: str) -> str:
        with Reader(server.port, path) as reader:
            return reader.open().next().data

    assert first("/streams/fixed") == "exact"
    assert first("/streams/x") == "template"
    assert fetch(server.port, "/streams/handler")[1] == b'"handler"'
    assert fetch(server.port, "/page/about")[1] == b'"about"'
    assert fetch(server.port, "/page/other")[1] == b'{"name":"other"}'
    # A template placeholder is one segment: a longer name is still a stream of its own.
    server.stream("a/b", start="all").publish("two segments")
    assert first("/streams/a/b") == "two segments"


@pytest.mark.parametrize(
    ("path", "stream"),
    [("", "s"), ("no-slash/{id}", "s"), ("/a/{", "s"), ("/a/{}", "s"), ("/a/{id}", "s/{"), ("/a", "")],
)
def test_a_bad_route_is_a_value_error_at_the_call(server: sse_fast.Server, path: str, stream: str) -> None:
    with pytest.raises(sse_fast.SseFastError) as caught:
        server.route(path, stream)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "options",
    [{"wait": -1.0}, {"wait": float("nan")}, {"retry_delay": 0}, {"retry_delay": -1}, {"history": 0}, {"nope": 1}],
    ids=repr,
)
def test_a_bad_option_of_a_route_is_a_value_error_naming_it(server: sse_fast.Server, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        server.route("/a/{id}", "a/{id}", **options)
    assert fetch(server.port, "/a/1")[0].status == 404


def test_the_same_template_twice_is_an_error(server: sse_fast.Server) -> None:
    server.route("/a/{id}", "a/{id}")
    with pytest.raises(sse_fast.RouteError):
        server.route("/a/{other}", "b/{other}")


def test_routes_may_be_added_while_requests_come(serve: Serve) -> None:
    server = serve()
    server.stream("s", start="all").publish("x")
    failures: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            head, _ = fetch(server.port, "/none")
            if head.status != 404:
                failures.append(head)

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(100):
        server.route(f"/route-{number}/{{id}}", "{id}")
        with Reader(server.port, f"/route-{number}/s") as reader:
            assert reader.open().next().data == "x"
    stop.set()
    thread.join()
    assert not failures


def test_many_thousand_waiting_readers_are_all_served(serve: Serve) -> None:
    """No thread, no check and no timer each; here a thousand."""
    server = serve()
    server.route("/api/streams/{id}", "workflow/{id}", wait=60.0)
    readers = [Reader(server.port, "/api/streams/7") for _ in range(1000)]
    try:
        stream = server.stream("workflow/7", start="all")
        stream.publish("x")
        assert [reader.open().next().data for reader in readers] == ["x"] * 1000
    finally:
        for reader in readers:
            reader.close()
