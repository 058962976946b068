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
    sizes = []
    for path, method in [
        ("/page", "GET"),
        ("/page", "HEAD"),
        ("/fails", "POST"),
        ("/none", "GET"),
        ("/healthz", "GET"),
    ]:
        head, body = fetch(server.port, path, method=method)
        sizes.append(len(head.raw) + len(body))
    with Reader(server.port, raw=request("/page", server.port, host="evil.example")) as foreign:
        assert foreign.read_head().status == 403
    found = until(lambda: lines(caplog) if len([line for line in lines(caplog) if "client=" in line]) == 6 else None)
    found = [line for line in found if "client=" in line]
    wanted = [
        rf'GET "/page" 200 {CLIENT} bytes={sizes[0]} seconds=\d+\.\d{{3}}',
        rf'HEAD "/page" 200 {CLIENT} bytes={sizes[1]} seconds=\d+\.\d{{3}}',
        rf'POST "/fails" 500 {CLIENT} bytes={sizes[2]} seconds=\d+\.\d{{3}}',
        rf'GET "/none" 404 {CLIENT} bytes={sizes[3]} seconds=\d+\.\d{{3}}',
        rf'GET "/healthz" 200 {CLIENT} bytes={sizes[4]} seconds=\d+\.\d{{3}}',
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
        sizes = len(whole.received), len(resumed.received)
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
        size = len(slow.received) + 5  # And the last chunk, which the socket takes for a reader that may still read.
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


@pytest.mark.parametrize("end", ["stalled", "gone", "shutdown"])
def test_an_answer_that_is_cut_says_why_and_what_of_it_was_taken(
    serve: Serve, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    server = serve(access_log=True, stall_timeout=1.0 if end == "stalled" else 60.0)
    whole = 8_000_000
    server.get("/big")(lambda _request: sse_fast.Response(b"x" * whole))
    with Reader(server.port, "/big", receive_buffer=2048) as reader:
        reader.read_head()
        if end == "gone":
            reader.reset()
        if end == "shutdown":
            server.close(0.0)
        line = until(lambda: next((line for line in lines(caplog) if '"/big"' in line), None))
    found = re.fullmatch(rf'GET "/big" 200 {CLIENT} bytes=(\d+) seconds=\d+\.\d{{3}} reason={end}', line)
    assert found, line
    assert len(reader.received) <= int(found[1]) < whole


def test_answers_of_one_connection_have_a_line_each_with_their_own_bytes(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(access_log=True)
    sizes = [10, 300_000, 0, 5]
    server.get("/of/{size}")(lambda request: sse_fast.Response(b"x" * int(request.params["size"])))
    with Reader(server.port, raw=b"") as reader:
        taken = []
        for size in sizes:
            reader.ask(request(f"/of/{size}", server.port))
            head = reader.read_head()
            reader.read_until(lambda: len(reader.body) == size)  # noqa: B023 - it is called here
            taken.append(len(head.raw) + size)
    found = until(lambda: lines(caplog) if len(lines(caplog)) == len(sizes) else None)
    wanted = [rf'GET "/of/{size}" 200 {CLIENT} bytes={bytes_} .*' for size, bytes_ in zip(sizes, taken, strict=True)]
    for line, pattern in zip(found, wanted, strict=True):
        assert re.fullmatch(pattern, line), line
        assert "reason" not in line


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
