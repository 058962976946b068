"""The access log: one line for each request, two for a stream, off by default; only the server writes into it."""

from __future__ import annotations

import logging
import re

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.reader import Reader, exchange, fetch, request

CLIENT = r"client=127\.0\.0\.1:\d+"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sse_fast.access"]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sse_fast")


def test_it_is_off_by_default(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    server.stream("s").end("over")
    for path in ("/streams/s", "/none", "/healthz"):
        fetch(server.port, path)
    server.close(0.0)
    assert lines(caplog) == []


def test_a_request_has_a_line_when_its_answer_ends(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(access_log=True)

    @server.post("/fails")
    def fails(_request: sse_fast.Request) -> None:
        raise RuntimeError

    server.get("/page")(lambda _request: "x" * 1000)
    for path, method in [
        ("/page", "GET"),
        ("/page", "HEAD"),
        ("/fails", "POST"),
        ("/none", "GET"),
        ("/healthz", "GET"),
    ]:
        fetch(server.port, path, method=method)
    with Reader(server.port, raw=request("/page", server.port, host="evil.example")) as foreign:
        assert foreign.read_head().status == 403
    found = until(lambda: lines(caplog) if len([line for line in lines(caplog) if "client=" in line]) == 6 else None)
    found = [line for line in found if "client=" in line]
    wanted = [
        rf'GET "/page" 200 {CLIENT} bytes=1002 seconds=\d+\.\d{{3}}',
        rf'HEAD "/page" 200 {CLIENT} bytes=0 seconds=\d+\.\d{{3}}',
        rf'POST "/fails" 500 {CLIENT} bytes=\d+ seconds=\d+\.\d{{3}}',
        rf'GET "/none" 404 {CLIENT} bytes=\d+ seconds=\d+\.\d{{3}}',
        rf'GET "/healthz" 200 {CLIENT} bytes=3 seconds=\d+\.\d{{3}}',
        rf'GET "/page" 403 {CLIENT} bytes=\d+ seconds=\d+\.\d{{3}}',
    ]
    for line, pattern in zip(found, wanted, strict=True):
        assert re.fullmatch(pattern, line), line
    assert {record.levelno for record in caplog.records if "client=" in record.getMessage()} == {logging.INFO}


def test_a_stream_has_a_line_at_each_end_with_what_was_given(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(access_log=True)
    stream = server.stream("s", heartbeat=None, start="all")
    ids = [stream.publish(number) for number in range(10)]
    with Reader(server.port) as whole, Reader(server.port, last_event_id=ids[6]) as resumed:
        whole.open()
        resumed.open()
        stream.end("over")
        assert (len(whole.rest()), len(resumed.rest())) == (11, 4)
        sizes = len(whole.received) - 5, len(resumed.received) - 5  # Without the last chunk.
        found = until(lambda: lines(caplog) if len(lines(caplog)) == 4 else None)
    begins, ends = [line for line in found if " begins " in line], [line for line in found if " ends " in line]
    assert re.fullmatch(rf'GET "/streams/s" 200 begins {CLIENT}', begins[0])
    assert re.fullmatch(rf'GET "/streams/s" 200 begins {CLIENT} last_event_id={ids[6]}', begins[1])
    given = {re.sub(r"(client|seconds)=\S+ ", "", line) for line in ends}
    assert given == {
        f'GET "/streams/s" 200 ends events={events} bytes={size} reason=ended'
        for events, size in zip((11, 4), sizes, strict=True)
    }


def test_why_a_stream_ended_and_what_it_had_is_said_where_it_was_cut(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(access_log=True, shards=1)
    stream = server.stream("s", heartbeat=None, history=4, max_lag=4, on_lag="skip")
    server.stream("t", heartbeat=None)
    with Reader(server.port, receive_buffer=4096) as slow, Reader(server.port, "/streams/t") as idle:
        slow.open()
        idle.open()
        while server.stats().blocked == 0:
            stream.publish("x" * 65_536)
        for number in range(20):
            stream.publish(number)
        while slow.parser.events[-1:] == [] or slow.parser.events[-1].data != "19":
            assert slow.pump()
        gap = next(event for event in slow.parser.events if event.event == "gap")
        events = len([event for event in slow.parser.events if event.event != "gap"])
        assert gap.json()["skipped"] > 0
        size = len(slow.received)
        slow.close()
        found = until(lambda: [line for line in lines(caplog) if " ends " in line])
        assert f" events={events} bytes={size} " in found[0]
        assert found[0].endswith(" reason=gone")
        server.close(5.0)
    found = until(lambda: [line for line in lines(caplog) if '"/streams/t" 200 ends' in line])
    assert " events=0 " in found[0]
    assert found[0].endswith(" reason=shutdown")


def test_a_client_that_leaves_before_its_answer_has_a_line(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(access_log=True, wait=60.0)
    with Reader(server.port, "/streams/to-come") as reader:
        until(lambda: server.stats().requests == 1)
        reader.reset()
        found = until(lambda: lines(caplog))
    assert re.fullmatch(rf'GET "/streams/to-come" - {CLIENT} seconds=\d+\.\d{{3}} reason=gone', found[0])


def test_no_secret_is_in_it_and_no_text_of_a_client_makes_a_line(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(access_log=True)
    server.stream("s").end("over")
    secrets = [("Authorization", "Bearer hunter2"), ("Cookie", "session=hunter2"), ("Last-Event-ID", "hunter2")]
    fetch(server.port, "/streams/s?ticket=hunter2&last_event_id=hunter2", headers=secrets)
    for path in ('/a" 200 client=1.2.3.4:5', "/%0aGET /b", "/\x85x", "/ü", "/\\", "/x" * 3000):
        exchange(server.port, request(path.replace(" ", "%20"), server.port))
    exchange(server.port, f"GET http://hunter2@localhost:{server.port}/a HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    fetch(server.port, "/last")
    until(lambda: any('"/last" 404' in line for line in lines(caplog)))
    found = [line for line in lines(caplog) if "client=" in line]
    assert len(found) >= 6
    assert '"/streams/s?..." 200 begins' in found[0]
    assert found[0].endswith("last_event_id=(foreign)")
    for line in found:
        assert "hunter2" not in line
        assert len(line) < 800
        assert line.isascii() or "ü" in line
        assert re.fullmatch(
            rf'[A-Z]+ "(?:[^"\\\x00-\x1f\x7f]|\\.|\\u\{{\w+\}})*" (\d+|-) (begins |ends )?{CLIENT}.*', line
        ), line
    assert sum(line.count("client=127") for line in found) == len(found)
