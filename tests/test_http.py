"""Requests by hand: heads, methods, negotiation, names in URLs, and every kind of bad request.

Guards the HTTP contract of plain subscriptions. Each bad request gets the named
status (or a closed connection where it is not HTTP), and the server goes on.

Long, because it is one table: what a server may be asked, well and badly, and the answer to each.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import DEADLINE, until
from support.http import Head
from support.reader import Reader, exchange, fetch, request


def error_of(head: Head, body: bytes) -> dict[str, Any]:
    """The body of an error, which must be JSON with a word and a sentence."""
    assert head["content-type"].startswith("application/json"), head.raw
    value: dict[str, Any] = json.loads(body)
    for name in ("error", "detail"):
        assert isinstance(value[name], str)
        assert value[name]
    return value


def assert_alive(server: sse_fast.Server) -> None:
    """Somebody else is served as if nothing had happened."""
    stream = server.stream("alive")
    with Reader(server.port, "/streams/alive") as reader:
        reader.open()
        stream.publish("yes")
        assert reader.next().data == "yes"


# ---- The head ----------------------------------------------------------------------------


def test_the_head_comes_at_once_and_says_what_it_must(server: sse_fast.Server, read: Open) -> None:
    server.stream("s")
    head = read().open().head
    assert head is not None
    assert (head.version, head.status, head.reason) == ("HTTP/1.1", 200, "OK")
    assert head["content-type"] == "text/event-stream; charset=utf-8"
    assert head["cache-control"] == "no-cache, no-transform"
    assert head["x-accel-buffering"] == "no"
    assert head["connection"].lower() == "close", "the connection ends with the stream"
    assert head["transfer-encoding"] == "chunked"
    assert "content-length" not in head
    assert "content-encoding" not in head
    assert not [name for name, _ in head.headers if name.startswith("access-control-")]


def test_what_is_published_after_the_head_arrived_is_received(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    for number in range(50):
        reader = read().open()
        stream.publish(number)
        assert reader.next().data == str(number)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "text/event-stream",
        "*/*",
        "text/*",
        "text/event-stream;q=0.9, */*;q=0.1",
        "TEXT/EVENT-STREAM",
        "text/html, text/event-stream",
        "application/json;q=0.5, text/event-stream",
    ],
)
def test_who_accepts_an_event_stream_gets_one(server: sse_fast.Server, read: Open, accept: str | None) -> None:
    stream = server.stream("s")
    reader = read(headers=[("Accept", accept)] if accept else []).open()
    stream.end("over")
    assert [event.data for event in reader.rest()] == ["over"]


@pytest.mark.parametrize("accept", ["application/json", "application/json, */*;q=0.1", "APPLICATION/JSON"])
def test_who_accepts_json_gets_the_stream_once_as_json(server: sse_fast.Server, accept: str) -> None:
    stream = server.stream("s", start="all")
    ids = [stream.publish({"n": n}, event="tick") for n in range(3)]
    head, body = fetch(server.port, "/streams/s", headers=[("Accept", accept)])
    assert head.status == 200
    assert head["content-type"].startswith("application/json")
    assert json.loads(body) == {
        "stream": "s",
        "last_id": ids[-1],
        "ended": False,
        "more": False,
        "snapshot": None,
        "gap": None,
        "events": [{"id": event_id, "event": "tick", "data": f'{{"n":{n}}}'} for n, event_id in enumerate(ids)],
    }


def test_json_continues_after_last_event_id_and_tells_gaps(server: sse_fast.Server) -> None:
    stream = server.stream("a/b", history=4, max_lag=4)
    ids = [stream.publish(n) for n in range(10)]

    def poll(query: str) -> dict[str, Any]:
        head, body = fetch(server.port, f"/streams/a/b{query}", headers=[("Accept", "application/json")])
        assert head.status == 200
        value: dict[str, Any] = json.loads(body)
        return value

    assert [event["id"] for event in poll(f"?last_event_id={ids[7]}")["events"]] == ids[8:]
    assert poll(f"?last_event_id={ids[-1]}")["events"] == []
    behind = poll(f"?last_event_id={ids[1]}")
    assert behind["gap"] == 4
    assert [event["id"] for event in behind["events"]] == ids[6:]
    # Where nothing says how many were missed, the number is there and is none.
    assert poll("?last_event_id=nonsense")["gap"] == -1
    stream.snapshot({"all": "of it"})
    behind = poll(f"?last_event_id={ids[1]}")
    assert behind["snapshot"]["id"] == ids[-1]
    assert behind["snapshot"]["data"] == '{"all":"of it"}'
    assert behind["events"] == []
    last = stream.end("over")
    assert poll(f"?last_event_id={ids[-1]}") == {
        "stream": "a/b",
        "last_id": last,
        "ended": True,
        "more": False,
        "snapshot": None,
        "gap": None,
        "events": [{"id": last, "event": "end", "data": "over"}],
    }


def test_head_answers_with_the_head_only(server: sse_fast.Server) -> None:
    server.stream("s")
    with Reader(server.port, method="HEAD") as reader:
        head = reader.read_head()
        assert head.status == 200
        assert head["content-type"] == "text/event-stream; charset=utf-8"
        reader.send(request("/streams/none", server.port, headers=[("Connection", "close")]))
        reader.read_eof()
        # The next response on the connection follows the head directly: HEAD had no body.
        assert bytes(reader.received[len(head.raw) :]).startswith(b"HTTP/1.1 404")
    assert fetch(server.port, "/streams/none", method="HEAD")[0].status == 404


def test_options_is_answered_and_says_what_is_allowed(server: sse_fast.Server) -> None:
    head, body = fetch(server.port, "/streams/s", method="OPTIONS")
    assert head.status in {200, 204}
    assert {"GET", "HEAD", "OPTIONS"} <= {word.strip() for word in head["allow"].split(",")}
    assert body == b""
    assert not [name for name, _ in head.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_other_methods_are_405_with_allow(server: sse_fast.Server, method: str) -> None:
    server.stream("s")
    head, body = fetch(server.port, "/streams/s", method=method)
    assert head.status == 405
    assert "GET" in head["allow"]
    error_of(head, body)


@pytest.mark.parametrize("path", ["/", "/nothing", "/streams/", "/stream/s", "//streams/s", "/streamss/s"])
def test_unknown_paths_are_404_with_a_json_body(server: sse_fast.Server, path: str) -> None:
    server.stream("s")
    head, body = fetch(server.port, path)
    assert head.status == 404
    error_of(head, body)


def test_a_stream_that_does_not_exist_is_404(server: sse_fast.Server) -> None:
    head, body = fetch(server.port, "/streams/none")
    assert head.status == 404
    error_of(head, body)


# ---- CORS --------------------------------------------------------------------------------


def test_a_listed_origin_gets_cors_headers_and_no_other(serve: Serve) -> None:
    server = serve(cors=["https://app.example"])
    server.stream("s")
    with Reader(server.port, headers=[("Origin", "https://app.example")]) as reader:
        head = reader.open().head
        assert head is not None
        assert head["access-control-allow-origin"] == "https://app.example"
        assert "origin" in head["vary"].lower()
    with Reader(server.port, headers=[("Origin", "https://evil.example")]) as reader:
        head = reader.read_head()
        assert "access-control-allow-origin" not in head
    head, _ = fetch(
        server.port,
        "/streams/s",
        method="OPTIONS",
        headers=[
            ("Origin", "https://app.example"),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "last-event-id"),
        ],
    )
    assert head.status in {200, 204}
    assert head["access-control-allow-origin"] == "https://app.example"
    assert "GET" in head["access-control-allow-methods"]
    assert "last-event-id" in head["access-control-allow-headers"].lower()


def test_errors_carry_cors_headers_too(serve: Serve) -> None:
    server = serve(cors=["https://app.example"])
    head, _ = fetch(server.port, "/streams/none", headers=[("Origin", "https://app.example")])
    assert (head.status, head["access-control-allow-origin"]) == (404, "https://app.example")


# ---- Host --------------------------------------------------------------------------------


def status_for_host(server: sse_fast.Server, host: str) -> int:
    head = exchange(server.port, f"GET /streams/none HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert head is not None
    return head.status


def test_loopback_names_are_hosts(server: sse_fast.Server) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST"):
        assert status_for_host(server, host) == 404, host
        assert status_for_host(server, f"{host}:{server.port}") == 404, host


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#localhost",
        "localhost evil",
        "",
        ":{port}",
    ],
)
def test_another_host_is_refused_on_loopback(server: sse_fast.Server, host: str) -> None:
    server.stream("none")
    assert status_for_host(server, host.format(port=server.port)) in {400, 403, 421}
    assert_alive(server)


def test_allowed_hosts_are_accepted_too(serve: Serve) -> None:
    server = serve(allowed_hosts=["app.example"])
    assert status_for_host(server, "app.example") == 404
    assert status_for_host(server, f"app.example:{server.port}") == 404
    assert status_for_host(server, "localhost") == 404
    assert status_for_host(server, "other.example") in {400, 403, 421}


def test_on_other_addresses_any_host_is_served_unless_there_is_a_list(serve: Serve) -> None:
    assert status_for_host(serve(host="0.0.0.0"), "app.example") == 404
    listed = serve(host="0.0.0.0", allowed_hosts=["app.example"])
    assert status_for_host(listed, "app.example") == 404
    assert status_for_host(listed, "other.example") in {400, 403, 421}


def test_the_host_is_checked_for_everything_that_is_served(server: sse_fast.Server) -> None:
    called = []
    server.stream("s")
    server.route("/route/{id}", "{id}")
    server.get("/handler")(lambda req: called.append(req.path))
    for path in ("/streams/s", "/route/s", "/handler", "/sse-fast.js", "/nothing"):
        head = exchange(server.port, f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
        assert head is not None
        assert head.status in {400, 403, 421}, path
        assert "access-control-allow-origin" not in head
    assert not called


def test_an_absolute_target_names_the_host_that_is_checked(server: sse_fast.Server) -> None:
    """RFC 9112, 3.2.2: a server ignores Host where the target has an authority."""
    server.stream("s")
    good = f"GET http://127.0.0.1:{server.port}/streams/s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with Reader(server.port, raw=good.encode()) as reader:
        reader.open()
    head = exchange(server.port, b"GET http://evil.example/streams/s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert head is not None
    assert head.status in {400, 403, 421}


def test_a_request_without_host_is_400(server: sse_fast.Server) -> None:
    server.stream("s")
    head = exchange(server.port, b"GET /streams/s HTTP/1.1\r\n\r\n")
    assert head is not None
    assert head.status == 400


def test_two_hosts_are_400(server: sse_fast.Server) -> None:
    server.stream("s")
    head = exchange(server.port, b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")
    assert head is not None
    assert head.status == 400


# ---- Bytes that are no good request ------------------------------------------------------

HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n\r\n\r\nNONSENSE\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /streams/s\r\n\r\n",
        b"GET /streams/s HTTP/9.9\r\n" + HOST + b"\r\n",
        b"GET /streams/s HTTP/1.1\r\n" + HOST + b"No colon\r\n\r\n",
        b"GET /streams/s HTTP/1.1\r\n" + HOST + b"Bad Name: x\r\n\r\n",
        b"GET /streams/s HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
        b"GET /streams/s HTTP/1.1\r\n" + HOST + b" folded: x\r\n\r\n",
        b"GET /streams/s HTTP/1.1\r\n" + HOST + b"X" * 70_000 + b": y\r\n\r\n",
        b"GET /streams/s HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 2_000_000 + b"\r\n\r\n",
        b"GET /streams/s HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)) + b"\r\n",
        b"GET /streams/" + b"s" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /streams/\0 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /streams/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /streams/s HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n",
        b"POST /streams/s HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"POST /streams/s HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /streams/s HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nnothex\r\nab\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100,
        b"\0" * 20_000,
    ],
    ids=lambda raw: repr(raw)[:70],
)
def test_a_malformed_request_gets_a_client_error_or_a_closed_connection(server: sse_fast.Server, raw: bytes) -> None:
    stream = server.stream("s")
    called = []

    @server.post("/echo")
    def echo(req: sse_fast.Request) -> str:
        called.append(req.body)
        return "called"

    try:
        head = exchange(server.port, raw)
    except (ConnectionResetError, BrokenPipeError):
        head = None  # It stopped reading before everything was sent.
    # A POST on a stream is a 405 only where its framing is read at all.
    assert head is None or 400 <= head.status < 500 or head.status in {501, 505}, head
    assert not called
    assert stream.subscribers == 0
    assert_alive(server)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (431, b"X: " + b"y" * 60_000),
        (431, b"\r\n".join(b"X-%d: y" % number for number in range(200))),
        (400, b"X : a"),
        (400, b"X: a\0b"),
        (400, b"Content-Length: 1\r\nContent-Length: 2"),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.parametrize("before", ["nothing", "a plain request", "a large response"])
def test_a_request_that_cannot_be_parsed_is_told_so_in_json(
    server: sse_fast.Server, status: int, line: bytes, before: str
) -> None:
    large = "z" * 3_000_000

    @server.get("/large")
    def answer(_req: sse_fast.Request) -> sse_fast.Response:
        return sse_fast.Response(large, headers={"X-Long": "x" * 20_000})

    raw = b"GET /streams/s HTTP/1.1\r\n" + HOST + line + b"\r\n\r\n"
    path = {"nothing": None, "a plain request": "/nothing", "a large response": "/large"}[before]
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as connection:
        if path is not None:
            # Both at once: the second head is parsed right behind the first response.
            raw = request(path, server.port) + raw
        connection.sendall(raw)
        with connection.makefile("rb") as file:
            received = file.read()
    if path == "/large":
        _, _, rest = received.partition(b"\r\n\r\n")
        assert rest.startswith(large.encode())
        received = rest[len(large) :]
    elif path is not None:
        received = received[received.rindex(b"HTTP/1.1 ") :]
    top, _, body = received.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 %d " % status), received
    fields = dict(line.split(b": ", 1) for line in top.lower().split(b"\r\n")[1:])
    assert fields[b"content-type"] == b"application/json"
    assert fields[b"connection"] == b"close"
    assert int(fields[b"content-length"]) == len(body)
    assert set(json.loads(body)) >= {"error", "detail"}
    assert_alive(server)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"X A": "b"}, "X A"),
        ({"X-A": "secret\r\nb: c"}, "X-A"),
        ({"Content-Length": "99"}, "Content-Length"),
        ({"content-length": "1"}, "content-length"),
        ({"Transfer-Encoding": "chunked"}, "Transfer-Encoding"),
    ],
)
def test_a_response_of_a_handler_that_cannot_be_written_is_500_and_the_log_says_why(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture, headers: dict[str, str], named: str
) -> None:
    @server.get("/h")
    def answer(_req: sse_fast.Request) -> sse_fast.Response:
        response = sse_fast.Response("x")
        # Behind the back of the class, which refuses these itself.
        response.headers = (*response.headers, *headers.items())
        return response

    with caplog.at_level(logging.ERROR, "sse_fast"):
        head, body = fetch(server.port, "/h?token=hidden")
        assert head.status == 500
        assert set(error_of(head, body)) == {"error", "detail"}
        until(lambda: caplog.records, what="a log record")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert named in record.getMessage()
    assert "/h" in record.getMessage()
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


SHORT_OF_FILES = """
import logging, os, resource, socket, time
import sse_fast

# How often threads of the engine went to sleep. The files stay open, because there will be no more of them.
def wakes():
    total = 0
    for status in statuses:
        status.seek(0)
        total += int(status.read().partition("\\nvoluntary_ctxt_switches:")[2].split()[0])
    return total

lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("sse_fast").addHandler(Keep())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
server = sse_fast.serve(0, max_connections=1000, shards=1)
main = str(os.getpid())
statuses = [open(f"/proc/self/task/{thread}/status") for thread in os.listdir("/proc/self/task") if thread != main]
hog, client = [], socket.socket()
try:
    while True:
        hog.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
client.connect(("127.0.0.1", server.port))
before = wakes()
while wakes() < before + 30:  # Time for as many attempts.
    time.sleep(0.01)
for file in hog:
    os.close(file)
client.settimeout(10)
client.sendall(b"GET /nothing HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
assert client.recv(100).startswith(b"HTTP/1.1 404"), "it accepts again"
server.close(0)
assert len([line for line in lines if "accepting failed" in line]) == 1, lines
"""


def test_a_system_short_of_files_is_said_once_and_not_twenty_times_a_second() -> None:
    child = subprocess.run(
        [sys.executable, "-c", SHORT_OF_FILES], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == 0, child.stderr


def test_a_head_that_takes_too_long_is_cut(serve: Serve) -> None:
    server = serve(header_timeout=0.5)
    server.stream("s")
    with Reader(server.port, raw=b"GET /streams/s HTTP/1.1\r\nHost: localh") as reader:
        received = reader.read_eof()
        assert received == b"" or received.startswith(b"HTTP/1.1 408"), received
    assert_alive(server)


def test_a_head_that_drips_is_cut_all_the_same(serve: Serve) -> None:
    server = serve(header_timeout=0.5)
    server.stream("s")
    with socket.create_connection(("127.0.0.1", server.port)) as drip:
        drip.settimeout(0.1)
        drip.sendall(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\n")
        end = time.monotonic() + 20
        while True:
            assert time.monotonic() < end, "a dripping head is never cut"
            try:
                drip.sendall(b"X: y\r\n")
                if not drip.recv(4096):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert_alive(server)


def test_a_connection_that_says_nothing_is_cut(serve: Serve) -> None:
    server = serve(header_timeout=0.5)
    with Reader(server.port, raw=b"") as reader:
        reader.read_eof()
    assert_alive(server)


def test_a_body_that_does_not_come_does_not_hold_the_connection(serve: Serve) -> None:
    # A body may take a second more for each 64 KiB that it may have, so this one may not have many.
    server = serve(header_timeout=0.5, max_body_bytes=1000)
    called = []

    @server.post("/echo")
    def echo(req: sse_fast.Request) -> str:
        called.append(req.body)
        return "called"

    with Reader(server.port, raw=b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc") as reader:
        received = reader.read_eof()
        assert received == b"" or received.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400")), received
    assert not called
    assert_alive(server)


def test_a_subscription_outlives_the_header_timeout(serve: Serve) -> None:
    server = serve(header_timeout=0.3)
    stream = server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        reader.assert_silent(0.9)
        stream.publish("still here")
        assert reader.next().data == "still here"


def test_a_request_in_pieces_is_read(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request("/streams/s", server.port):
            sock.sendall(bytes([byte]))
        until(lambda: stream.subscribers == 1)


def test_requests_follow_each_other_on_one_connection(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    with Reader(server.port, "/streams/none") as reader:
        head = reader.read_head()
        body = reader.read_to_end()
        assert head.status == 404
        used = len(head.raw) + len(body)
        reader.send(request("/streams/s", server.port))
        reader.read_until(lambda: b"\r\n\r\n" in reader.received[used:], what="second head")
        assert reader.received[used:].startswith(b"HTTP/1.1 200")
        stream.publish("after a 404")
        reader.read_until(lambda: b"data: after a 404\n\n" in reader.received[used:], what="event")


def test_a_pipelined_request_behind_a_subscription_does_not_disturb_it(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    with Reader(server.port, raw=request("/streams/s", server.port) * 2) as reader:
        reader.open()
        stream.publish("x")
        # By decision: the second request is ignored, or the connection ends; never a second head in the stream.
        try:
            assert reader.next().data == "x"
        except AssertionError:
            assert reader.eof
        assert bytes(reader.received).count(b"HTTP/1.1") == 1


def test_a_body_with_a_subscription_is_no_part_of_the_next_request(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    smuggled = request("/streams/none", server.port)
    raw = request("/streams/s", server.port, headers=[("Content-Length", str(len(smuggled)))]) + smuggled
    with Reader(server.port, raw=raw) as reader:
        head = reader.read_head()
        if head.status == 200:
            stream.publish("x")
            assert reader.next().data == "x"
        assert bytes(reader.received).count(b"HTTP/1.1") == 1


def test_expect_100_continue_is_answered_for_handlers(server: sse_fast.Server) -> None:
    @server.post("/echo")
    def echo(req: sse_fast.Request) -> Any:
        return req.json()

    raw = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with Reader(server.port, raw=raw) as reader:
        reader.read_until(lambda: b"\r\n\r\n" in reader.received, what="100 Continue")
        assert reader.received.startswith(b"HTTP/1.1 100")
        reader.send(b"{}")
        reader.read_until(lambda: b"HTTP/1.1 200" in reader.received, what="response")


# ---- Names in URLs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("s", "/streams/s"),
        ("runs/42", "/streams/runs/42"),
        ("runs/42", "/streams/runs%2F42"),
        ("a b", "/streams/a%20b"),
        ("a+b", "/streams/a+b"),
        ("größe/✓", "/streams/gr%C3%B6%C3%9Fe/%E2%9C%93"),
        ("100%", "/streams/100%25"),
        ("a?b", "/streams/a%3Fb"),
        ("a#b", "/streams/a%23b"),
        ("%41", "/streams/%2541"),
        ("a:b;c=d,e", "/streams/a:b;c=d,e"),
        ("x.json", "/streams/x.json"),
        ("trailing/", "/streams/trailing/"),
        ("s", "/streams/s?unknown=1"),
    ],
)
def test_a_name_is_its_percent_decoded_path(server: sse_fast.Server, name: str, path: str) -> None:
    stream = server.stream(name)
    with Reader(server.port, path) as reader:
        reader.open()
        stream.publish(name)
        assert reader.next().data == name


@pytest.mark.parametrize(
    "path",
    [
        "/streams/%00",
        "/streams/a%00b",
        "/streams/%FF",
        "/streams/%C3",
        "/streams/%",
        "/streams/%4",
        "/streams/%zz",
        "/streams/a%0Ab",
        "/streams/a%0D",
        "/streams/../etc/passwd",
        "/streams/%2e%2e/%2e%2e/etc/passwd",
        "/streams/..%2f..%2fetc%2fpasswd",
        "/../../etc/passwd",
        "/sse-fast.js/../../etc/passwd",
        "/static/../secret",
    ],
)
def test_a_name_that_cannot_be_is_a_client_error_and_makes_nothing(server: sse_fast.Server, path: str) -> None:
    head, body = fetch(server.port, path)
    assert head.status in {400, 404}
    error_of(head, body)
    assert b"root:" not in body
    assert server.streams() == []


def test_the_body_of_an_error_never_repeats_the_request_unescaped(server: sse_fast.Server) -> None:
    head, body = fetch(server.port, "/streams/%3Cscript%3Ealert(1)%3C/script%3E?token=secret")
    assert head.status == 404
    error_of(head, body)
    assert b"secret" not in body
    assert head["content-type"].startswith("application/json")


# ---- The browser module ------------------------------------------------------------------


def test_the_browser_module_is_served(server: sse_fast.Server) -> None:
    head, body = fetch(server.port, "/sse-fast.js")
    assert head.status == 200
    assert head["content-type"].startswith("text/javascript")
    assert b"export function connect" in body
    head, body = fetch(server.port, "/sse-fast.js", method="HEAD")
    assert (head.status, body) == (200, b"")
    assert fetch(server.port, "/sse-fast.js", method="POST")[0].status == 405


# ---- Shedding ----------------------------------------------------------------------------


def test_above_max_connections_an_event_stream_is_closed_and_json_gets_503(serve: Serve) -> None:
    server = serve(max_connections=3)
    stream = server.stream("s")
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(server.port)).open() for _ in range(3)]
        shed = stack.enter_context(Reader(server.port, headers=[("Accept", "text/event-stream")]))
        received = shed.read_eof()
        # Never a status that stops a browser for good: nothing at all, or 200 with retry.
        if received:
            assert shed.head is not None
            assert shed.head.status == 200
            assert b"retry: " in shed.body
        with Reader(server.port, headers=[("Accept", "application/json")]) as poller:
            # It may also be closed before its request was read: nobody knew what it would ask for.
            if not poller.eof and (head := exchange_on(poller)) is not None:
                assert head.status == 503
                assert int(head["retry-after"]) >= 0
        stream.publish("x")
        assert [reader.next().data for reader in readers] == ["x"] * 3
        readers[0].close()
        until(lambda: stream.subscribers == 2)

        def admitted() -> bool:
            with Reader(server.port) as again:
                return _opens(again)

        until(admitted)


def exchange_on(reader: Reader) -> Head | None:
    """The head of the answer, or None where the server only closes."""
    while reader.head is None and not reader.eof:
        reader.pump()
    return reader.head


def _opens(reader: Reader) -> bool:
    """Whether the request was answered with a subscription that stays open."""
    head = exchange_on(reader)
    return head is not None and head.status == 200 and b"retry" not in reader.body
