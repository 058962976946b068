"""No query, no header and no password of a client is in the log, whatever bytes it came in; what helps an operator is.

Guards every line that shows something of a request: of bytes that are none, refused hosts and origins, the access log,
handlers that fail, streams that do not exist, rights that are missing.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.reader import Reader
from support.requests import converse

SECRET = "hunter2"
#: What is sent, settings, and what a line says of it.
ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a body longer than it says": (
        "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nuser=ann&password=hunter2\r\n\r\n",
        {},
        r"bytes that begin with no request line\)",
    ),
    "a header in place of the request line": (
        "Authorization: Bearer hunter2\r\nHost: localhost\r\n\r\n",
        {},
        r"from 127\.0\.0\.1:\d+: \d+ bytes that begin with no request line",
    ),
    "a password in a target that is none": (
        "GET http:/ann:hunter2@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {},
        r"invalid URI \(from 127\.0\.0\.1:\d+\)",
    ),
    "a password in the target": (
        "GET http://ann:hunter2@localhost/s HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {},
        r'target\'s host "\.\.\.@localhost" is not',
    ),
    "a password in a target that is cut": ("GET http://ann:hunter2", {}, 'from .*: "GET"'),
    "a password in the path": (
        "GET /http://ann:hunter2@localhost/s HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {},
        r'"/http://\.\.\.@localhost/s" 404',
    ),
    "a password in the path of no request": (
        "GET /http://ann:hunter2@localhost/s HTTP/9.9\r\n\r\n",
        {},
        r'"GET /http://\.\.\.@localhost/s HTTP/9\.9"',
    ),
    "an encoded query": (
        "GET /streams/s%3Fticket=hunter2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {"authorize": lambda _request, _names: False},
        r'\["s\?\.\.\."\] was refused',
    ),
    "an encoded query of a reader that is to come back": (
        "GET /streams/s%3Fticket=hunter2 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
        {"settle": 60.0},
        r'"/streams/s\?\.\.\." is not known',
    ),
    "a query in a name": (
        "GET /streams?name=a&name=s?ticket=hunter2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {"authorize": lambda _request, _names: False},
        r'\["a", "s\?\.\.\."\] was refused',
    ),
    "an encoded query of a handler that fails": (
        "GET /fails/a%3Fticket=hunter2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {},
        r"the handler of GET '/fails/a\?\.\.\.' failed",
    ),
    "a password in the path of a handler that fails": (
        "GET /fails/ann:hunter2%40localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {},
        r"the handler of GET '/fails/\.\.\.@localhost' failed",
    ),
    "an encoded query of a stream that a route makes": (
        "GET /made/a%3Fticket=hunter2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {"max_streams": 1},
        r'cannot make stream "made/a\?\.\.\."',
    ),
    "an encoded query of a stream that a route waits for": (
        "GET /waits/a%3Fticket=hunter2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        {},
        r'stream "waits/a\?\.\.\." did not appear',
    ),
    "an encoded query of a request whose body is too long": (
        "POST /fails/a%3Fticket=hunter2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n",
        {"max_body_bytes": 1000},
        r'the body for "/fails/a\?\.\.\." has more',
    ),
    "a password in Host": (
        "GET /s HTTP/1.1\r\nHost: ann:hunter2@localhost\r\n\r\n",
        {},
        r'Host "\.\.\.@localhost" is not allowed',
    ),
    "something else in Host": (
        "GET /s HTTP/1.1\r\nHost: evil.example/hunter2\r\n\r\n",
        {},
        r'Host "evil\.example\.\.\."',
    ),
    "a password in a forwarded host": (
        "GET /s HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: ann:hunter2@evil.example\r\n\r\n",
        {"trusted_proxies": ["127.0.0.1"]},
        r'the forwarded host "\.\.\.@evil\.example" is not allowed',
    ),
    "a query in Origin": (
        "POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: https://x/?token=hunter2\r\nContent-Length: 0\r\n\r\n",
        {},
        r'Origin "https://x\.\.\." is not allowed',
    ),
    "a token in Origin": (
        "POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: hunter2\r\nContent-Length: 0\r\n\r\n",
        {},
        r'Origin "\.\.\." is not allowed',
    ),
    "a token in Sec-Fetch-Site": (
        "POST /login HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: hunter2\r\nContent-Length: 0\r\n\r\n",
        {},
        r'Sec-Fetch-Site "\.\.\." is not allowed',
    ),
    "the PROXY protocol": (
        "PROXY TCP4 hunter2 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n\r\n",
        {},
        "this is the PROXY protocol",
    ),
    "an address that a proxy passes on": (
        "GET /s HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: hunter2\r\n\r\n",
        {"trusted_proxies": ["127.0.0.1"]},
        r'"/s" 404 client=127\.0\.0\.1:',
    ),
}


@pytest.mark.parametrize(("raw", "settings", "said"), ROWS.values(), ids=ROWS)
def test_no_secret_is_logged_and_what_helps_is(
    serve: Serve, caplog: pytest.LogCaptureFixture, raw: str, settings: dict[str, Any], said: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="sse_fast")
    server = serve(**{"access_log": True, "settle": 0, **settings})
    server.stream("only")

    @server.post("/login")
    def login(_request: sse_fast.Request) -> dict[str, str]:
        return {}

    @server.get("/fails/{name}")
    @server.post("/fails/{name}")
    def fails(_request: sse_fast.Request) -> NoReturn:
        raise ZeroDivisionError

    server.route("/made/{name}", "made/{name}", create=True)
    server.route("/waits/{name}", "waits/{name}", wait=0.01)
    assert converse(server.port, raw.encode())
    until(lambda: any(re.search(said, record.getMessage()) for record in caplog.records), what=f"a line with {said}")
    server.close(0.0)
    assert SECRET not in caplog.text


def test_a_stream_that_is_named_after_a_path_shows_no_more_of_it(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(stall_after=0.1)
    gate = threading.Event()

    @server.get("/tells/{name}")
    def tells(_request: sse_fast.Request) -> Iterator[str]:
        yield "begun"
        gate.wait(DEADLINE)

    server.route("/made/{name}", "made/{name}", create=True)
    with Reader(server.port, "/made/a%3Fticket=hunter2") as made, Reader(server.port, "/tells/ann:hunter2@x") as told:
        made.open()
        told.open()
        for name in ('"made/a?..." is stalled', '"/tells/...@x" is stalled'):
            until(lambda: name in caplog.text, what=name)  # noqa: B023 - it is called here
        gate.set()
    server.close(0.0)
    assert SECRET not in caplog.text
