"""`sse_fast.wsgi`, by the server of the standard library.

Guards that events come as they happen, that leaving is noticed, and that the end is told once. What goes out is in
test_bridge.py, real servers and frameworks in hosts/test_bridge.py.
"""

from __future__ import annotations

import json
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

import sse_fast
from conftest import Serve
from sse_fast import wsgi
from support.asgi import filled
from support.deadline import DEADLINE, until
from support.reader import Reader, fetch


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port_of() -> Iterator[Callable[[Any], int]]:
    """Serves one request of a WSGI application at a time, on a thread."""
    servers = []

    def start(application: Any) -> int:
        server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server.server_port

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join(DEADLINE)
        server.server_close()


def test_a_wsgi_server_sends_head_events_and_end(serve: Serve, port_of: Callable[[Any], int]) -> None:
    stream = serve().stream("s")
    with Reader(port_of(wsgi.EventSourceResponse(stream)), "/any") as reader:
        assert reader.open().head is not None
        assert reader.head["cache-control"] == "no-cache, no-transform"
        stream.publish({"n": 1}, event="STEP")
        assert json.loads(reader.next().data) == {"n": 1}
        stream.end(event="DONE")
        assert [event.event for event in reader.rest()] == ["DONE"]


def test_a_wsgi_reader_that_leaves_is_noticed_at_a_heartbeat(serve: Serve, port_of: Callable[[Any], int]) -> None:
    stream = serve().stream("s")
    closed = threading.Event()
    port = port_of(wsgi.EventSourceResponse(stream, heartbeat=0.02, on_close=closed.set))
    with Reader(port, "/any") as reader:
        reader.open()
        reader.read_until(lambda: len(reader.parser.comments) > 2, what="heartbeats")
        assert not closed.is_set()
        reader.reset()
    until(closed.is_set, what="the end of the response")


def test_closing_it_twice_tells_once(serve: Serve) -> None:
    closed: list[str] = []
    response = wsgi.EventSourceResponse(serve().stream("s"), on_close=lambda: closed.append("closed"))
    pieces: Any = response({"REQUEST_METHOD": "GET"}, lambda *_: None)
    assert next(pieces) == b":\n"
    pieces.close()
    pieces.close()
    assert list(pieces) == []
    assert closed == ["closed"]


def test_what_is_finished_has_no_content_type(serve: Serve, port_of: Callable[[Any], int]) -> None:
    stream, ids = filled(serve(), start="all")
    head, body = fetch(port_of(wsgi.EventSourceResponse(stream)), "/any", headers=[("Last-Event-ID", ids[-1])])
    assert (head.status, body) == (204, b"")
    assert "content-type" not in head


def test_a_request_of_asgi_is_told_the_right_response(serve: Serve) -> None:
    with pytest.raises(sse_fast.ArgumentTypeError, match=r"sse_fast\.asgi\.django_response"):
        wsgi.django_response(types.SimpleNamespace(scope={}), serve().stream("s"))


def test_a_head_request_gets_the_head_alone(serve: Serve) -> None:
    heads: list[Any] = []
    response = wsgi.EventSourceResponse(serve().stream("s"))
    assert list(response({"REQUEST_METHOD": "HEAD"}, lambda *head: heads.append(head))) == []
    assert heads[0][0] == "200 OK"
