"""What a route says of its waiting: in the body of a 404, and in the log.

Guards that `attempts` is how often `exists` was asked, and is said only where there is an `exists`.
"""

from __future__ import annotations

import json
import logging
import threading

import pytest

import sse_fast
from support.deadline import until
from support.reader import Reader, fetch


def test_a_404_counts_the_checks_that_were_made(server: sse_fast.Server, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def exists(name: str) -> bool:
        asked.append(name)
        return False

    server.route("/api/{id}", "workflow/{id}", wait=0.7, exists=exists, retry_delay=0.2)
    with caplog.at_level(logging.WARNING, "sse_fast"):
        head, body = fetch(server.port, "/api/7")
        until(lambda: "workflow/7" in caplog.text)
    assert head.status == 404
    assert json.loads(body)["attempts"] == len(asked)
    assert f"({len(asked)} attempts)" in caplog.text


def test_a_slow_check_is_one_attempt(server: sse_fast.Server) -> None:
    go = threading.Event()
    server.route("/api/{id}", "workflow/{id}", wait=0.5, exists=lambda _name: go.wait(30), retry_delay=0.05)
    try:
        assert json.loads(fetch(server.port, "/api/7")[1])["attempts"] == 1
    finally:
        go.set()


@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_where_nothing_is_asked_no_attempts_are_told(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture, wait: float
) -> None:
    server.route("/api/{id}", "workflow/{id}", wait=wait, retry_delay=0.05)
    with caplog.at_level(logging.WARNING, "sse_fast"):
        head, body = fetch(server.port, "/api/7")
        until(lambda: "workflow/7" in caplog.text)
    assert head.status == 404
    told = json.loads(body)
    assert set(told) == {"error", "detail", "waited"}
    assert "attempts" not in caplog.text
    # One that does not wait has not waited, not for 0.000 s either.
    assert ("within 0.3" in caplog.text) is ("after waiting 0.3" in told["detail"]) is (wait > 0)
    assert ("does not wait for it (wait=0): 404" in caplog.text) is (told["waited"] == 0.0) is (wait == 0)
    assert "0.000" not in caplog.text


def test_a_stream_that_appears_is_logged_with_the_time_alone(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.route("/api/{id}", "workflow/{id}", wait=30.0)
    with caplog.at_level(logging.INFO, "sse_fast"), Reader(server.port, "/api/7") as reader:
        until(lambda: server.stats().requests == 1)
        server.stream("workflow/7")
        reader.open()
        until(lambda: "appeared after" in caplog.text)
    assert "attempts" not in caplog.text
