"""`sse_fast.asgi` and `sse_fast.wsgi`, with nothing but their protocols: what goes out, and when it is over.

Guards that an application's own port sends what the engine's port sends, to the byte, for every way to begin; that what
a client sends is never an error; and that a response which is over leaves nothing. Real servers and frameworks are in
hosts/test_bridge.py.
"""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

import sse_fast
from conftest import Serve
from sse_fast import asgi, wsgi
from support.deadline import DEADLINE, until
from support.reader import Reader, fetch
from support.sse import parse

Options = dict[str, Any]


class Asgi:
    """One request to an ASGI response, by hand: what was sent, and the client's leaving."""

    def __init__(
        self,
        response: asgi.EventSourceResponse,
        *,
        headers: Iterable[tuple[str, str]] = (),
        query: str = "",
        method: str = "GET",
    ) -> None:
        self.response = response
        self.scope = {
            "type": "http",
            "method": method,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        }
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        self.full = asyncio.Event()  # Once it is set nothing is taken any more.

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        self.sent.append(event)
        if self.full.is_set():
            await asyncio.Event().wait()

    async def run(self) -> Asgi:
        await asyncio.wait_for(self.response(self.scope, self.receive, self.send), DEADLINE)
        return self

    async def until(self, condition: Callable[[], object]) -> None:
        async def look() -> None:
            while not condition():  # noqa: ASYNC110 - the other side has no event for it
                await asyncio.sleep(0.001)

        await asyncio.wait_for(look(), DEADLINE)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def head(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent[1:])


def by_asgi(
    stream: sse_fast.Stream, headers: Iterable[tuple[str, str]], query: str, options: Options
) -> tuple[int, bytes]:
    async def request() -> tuple[int, bytes]:
        asked = await Asgi(asgi.EventSourceResponse(stream, **options), headers=headers, query=query).run()
        return asked.status, asked.body

    return asyncio.run(request())


def by_wsgi(
    stream: sse_fast.Stream, headers: Iterable[tuple[str, str]], query: str, options: Options
) -> tuple[int, bytes]:
    environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": query}
    for name, value in headers:
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value.encode().decode("latin-1")
    status: list[str] = []
    pieces = wsgi.EventSourceResponse(stream, **options)(environ, lambda line, _headers: status.append(line))
    try:
        body = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    return int(status[0].split()[0]), body


PROTOCOLS = [pytest.param(by_asgi, id="asgi"), pytest.param(by_wsgi, id="wsgi")]


# ---- The same as at the engine's port ------------------------------------------------------


def filled(server: sse_fast.Server, **options: Any) -> tuple[sse_fast.Stream, list[str]]:
    """A stream with every kind of event, ended; and the ids."""
    stream = server.stream("s", **options)
    ids = [
        stream.publish("text"),
        stream.publish("two\nlines\r\nand\rmore\n", event="lines"),
        stream.publish("", event="empty"),
        stream.publish({"n": 1, "text": "ü\u2028"}, event="json", retry=1.25),
        stream.publish("own", id="own id ü"),
        stream.publish("x" * 100_000, event="large"),
        stream.publish(" leading", snapshot=options.pop("snapshot", None)),
    ]
    ids.append(stream.end({"ok": True}, event="DONE"))
    return stream, ids


BEGINNINGS: list[Any] = [
    pytest.param({"start": "all"}, None, id="from the beginning"),
    pytest.param({"start": "last"}, None, id="the last"),
    pytest.param({"start": "new"}, None, id="what is new"),
    pytest.param({"start": "all", "history": 3, "max_lag": 3}, None, id="more than there is"),
    pytest.param({"start": "new"}, 2, id="resuming"),
    pytest.param({"start": "new"}, 4, id="resuming after an own id"),
    pytest.param({"history": 3, "max_lag": 3}, 1, id="resuming before the history"),
    pytest.param({"start": "all"}, "no-such-life-1", id="resuming in another life"),
    pytest.param({"start": "all"}, "é\u20ac", id="what is no id"),
    pytest.param({"start": "all", "ids": False}, None, id="without ids"),
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("options", "after"), BEGINNINGS)
def test_it_sends_what_the_engine_sends(serve: Serve, protocol: Any, options: Options, after: int | str | None) -> None:
    server = serve()
    stream, ids = filled(server, **options)
    last = ids[after] if isinstance(after, int) else after
    headers = [] if last is None else [("Last-Event-ID", last)]
    with Reader(server.port, headers=[(name, value.encode().decode("latin-1")) for name, value in headers]) as reader:
        expected = reader.open().read_to_end()
    assert expected
    assert protocol(stream, headers, "", {}) == (200, expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_snapshot_comes_first(serve: Serve, protocol: Any) -> None:
    server = serve()
    stream = server.stream("s", start="all")
    stream.publish("1")
    stream.snapshot({"all": 1})
    stream.publish("2")
    stream.end()
    with Reader(server.port) as reader:
        expected = reader.open().read_to_end()
    assert protocol(stream, [], "", {}) == (200, expected)
    assert [event.event for event in parse(expected)] == ["snapshot", "message", "end"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reader_that_has_everything_gets_204(serve: Serve, protocol: Any) -> None:
    stream, ids = filled(serve(), start="all")
    assert protocol(stream, [("Last-Event-ID", ids[-1])], "", {}) == (204, b"")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("header", "query"),
    [
        ("", "last_event_id={}"),
        ("", "a=b&lastEventId={}"),
        ("{}", "last_event_id=other"),
        ("", "last_event_id=&lastEventId={}"),
    ],
)
def test_an_id_comes_by_header_or_query_and_the_header_counts(
    serve: Serve, protocol: Any, header: str, query: str
) -> None:
    stream, ids = filled(serve(), start="all")
    _, body = protocol(stream, [("Last-Event-ID", header.format(ids[-2]))], query.format(ids[-2]), {})
    assert [event.event for event in parse(body)] == ["DONE"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_application_s_id_and_start_count(serve: Serve, protocol: Any) -> None:
    stream, ids = filled(serve(), start="new")
    _, body = protocol(stream, [], "", {"last_event_id": ids[-3]})
    assert len(parse(body)) == 2
    _, body = protocol(stream, [], "", {"start": "all"})
    assert len(parse(body)) == len(ids)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_retry_is_a_line_of_the_first_event(serve: Serve, protocol: Any) -> None:
    stream, ids = filled(serve(), start="all")
    _, body = protocol(stream, [("Last-Event-ID", ids[-3])], "", {"retry": 2.5})
    assert body.startswith(b"retry: 2500\n")
    assert [event.retry for event in parse(body)] == [2500, None]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_closed_server_has_browsers_come_back(serve: Serve, protocol: Any) -> None:
    server = serve()
    stream = server.stream("s")
    server.close()
    status, body = protocol(stream, [("Accept", "text/event-stream")], "", {})
    assert status == 200
    assert 2000 <= int(body.decode().removeprefix("retry: ")) <= 6000


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_long_history_is_read_whole_by_pieces(serve: Serve, protocol: Any) -> None:
    stream = serve().stream("s", start="all", history=5000, history_bytes=64 << 20)
    stream.publish_many([(f"{number}:{'x' * 1000}", None) for number in range(3000)])
    stream.end()
    _, body = protocol(stream, [], "", {})
    assert [event.data.partition(":")[0] for event in parse(body)][:-1] == [str(number) for number in range(3000)]


# ---- Arguments -----------------------------------------------------------------------------

WRONG: list[tuple[Options, type[Exception], str]] = [
    ({"stream": "s"}, sse_fast.ArgumentTypeError, "stream"),
    ({"start": "first"}, sse_fast.ArgumentTypeError, "start"),
    ({"heartbeat": 0}, sse_fast.SettingError, "heartbeat"),
    ({"retry": -1}, sse_fast.SettingError, "retry"),
    ({"comment": "a\nb"}, sse_fast.ArgumentTypeError, "comment"),
    ({"heartbeat_event": "a\rb"}, sse_fast.ArgumentTypeError, "heartbeat_event"),
    ({"on_close": 1}, sse_fast.ArgumentTypeError, "on_close"),
    ({"headers": {"Content-Type": "text/plain"}}, sse_fast.ResponseError, "content-type"),
    ({"headers": {"A": "b\nc"}}, sse_fast.ResponseError, "'A'"),
    ({"headers": "a"}, sse_fast.ArgumentTypeError, "headers"),
]


@pytest.mark.parametrize("kind", [asgi.EventSourceResponse, wsgi.EventSourceResponse], ids=["asgi", "wsgi"])
@pytest.mark.parametrize(("options", "error", "named"), WRONG)
def test_a_wrong_argument_is_named_where_it_is_given(
    serve: Serve, kind: Any, options: Options, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        kind(**{"stream": serve().stream("s"), **options})


def test_headers_of_the_application_stand_in_the_head(serve: Serve) -> None:
    stream, _ = filled(serve(), start="all")
    cookies = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=ü")]
    asked = asyncio.run(Asgi(asgi.EventSourceResponse(stream, headers=cookies)).run())
    assert asked.sent[0]["headers"][-2:] == [(b"set-cookie", b"a=1"), (b"set-cookie", "b=ü".encode())]
    heads: list[Any] = []
    wsgi.EventSourceResponse(stream, headers=cookies)({"REQUEST_METHOD": "GET"}, lambda *head: heads.append(head))
    assert heads[0][1][-2:] == [("set-cookie", "a=1"), ("set-cookie", "b=Ã¼")]


# ---- ASGI: while it lasts, and its end -----------------------------------------------------


def test_the_head_and_a_comment_go_out_before_there_is_an_event(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        assert asked.status == 200
        assert asked.head == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
        }
        assert asked.body == b":\n"
        stream.publish("first")
        await asked.until(lambda: len(asked.sent) == 3)
        assert [event.data for event in parse(asked.body)] == ["first"]
        stream.end()
        await running
        assert asked.sent[-1] == {"type": "http.response.body", "body": b""}

    asyncio.run(test())


def test_heartbeats_come_in_silence_as_comments_or_events(serve: Serve) -> None:
    server = serve()

    async def test(stream: sse_fast.Stream, **options: Any) -> bytes:
        asked = Asgi(asgi.EventSourceResponse(stream, heartbeat=0.02, **options))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) >= 5)
        stream.end()
        await running
        return asked.body

    assert asyncio.run(test(server.stream("a"))).startswith(b":\n: heartbeat\n: heartbeat\n: heartbeat\n")
    assert asyncio.run(test(server.stream("b"), comment="computing")).startswith(b":\n: computing\n: computing\n")
    beats = parse(asyncio.run(test(server.stream("c"), heartbeat_event="alive")))[:-1]
    assert {(beat.event, beat.own_id) for beat in beats} == {("alive", None)}
    assert abs(beats[0].json()["timestamp"] / 1000 - time.time()) < DEADLINE


def test_a_head_request_gets_the_head_alone(serve: Serve) -> None:
    stream = serve().stream("s")
    asked = asyncio.run(Asgi(asgi.EventSourceResponse(stream), method="HEAD").run())
    assert (asked.status, asked.body) == (200, b"")
    heads: list[Any] = []
    assert list(wsgi.EventSourceResponse(stream)({"REQUEST_METHOD": "HEAD"}, lambda *head: heads.append(head))) == []
    assert heads[0][0] == "200 OK"


def test_a_client_that_leaves_ends_it_and_is_told(serve: Serve) -> None:
    stream = serve().stream("s")
    closed: list[str] = []

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream, on_close=lambda: closed.append("closed")))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        assert not closed
        asked.gone.set()
        await running
        assert len(asked.sent) == 2
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(test())
    assert closed == ["closed"]


def test_a_send_that_fails_is_a_client_that_has_gone(serve: Serve) -> None:
    stream = serve().stream("s", start="all")
    stream.publish("1")

    class Broken(Asgi):
        async def send(self, event: Any) -> None:
            await super().send(event)
            if "body" in event:
                raise BrokenPipeError

    closed: list[str] = []
    asyncio.run(Broken(asgi.EventSourceResponse(stream, on_close=lambda: closed.append("closed"))).run())
    assert closed == ["closed"]


def test_what_a_server_raises_is_not_hidden(serve: Serve) -> None:
    class Wrong(Asgi):
        async def send(self, event: Any) -> None:
            if "body" in event:
                raise LookupError("no such state")

    with pytest.raises(LookupError):
        asyncio.run(Wrong(asgi.EventSourceResponse(serve().stream("s"))).run())


def test_a_reader_that_takes_nothing_is_given_up(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream, stall_timeout=0.1))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        asked.full.set()
        stream.publish("not taken")
        await running
        assert asked.sent[-1].get("more_body"), "a cut body must not look like a whole one"

    asyncio.run(test())


def test_a_silent_stream_is_no_reader_that_takes_nothing(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream, stall_timeout=0.01, heartbeat=None))
        running = asyncio.create_task(asked.run())
        await asyncio.wait({running}, timeout=0.2)
        assert not running.done()
        stream.end()
        await running

    asyncio.run(test())


def test_a_slow_reader_delays_no_publisher_and_is_told_what_it_missed(serve: Serve) -> None:
    stream = serve().stream("s", history=10, max_lag=10)

    async def test() -> bytes:
        asked = Asgi(asgi.EventSourceResponse(stream))
        may_go_on = asyncio.Event()
        send = asked.send

        async def slow(event: Any) -> None:
            await send(event)
            if b"first" in event.get("body", b""):
                await may_go_on.wait()

        asked.send = slow  # type: ignore[method-assign]
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        stream.publish("first")
        await asked.until(lambda: b"first" in asked.body)
        for number in range(100):
            stream.publish(number)
        stream.end()
        may_go_on.set()
        await running
        return asked.body

    events = parse(asyncio.run(test()))
    assert [event.event for event in events[:2]] == ["message", "gap"]
    assert events[1].json()["skipped"] + len(events) - 2 == 101
    assert events[-1].event == "end"


def test_the_closing_of_the_engine_ends_it(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s")

    async def test() -> None:
        asked = Asgi(asgi.EventSourceResponse(stream))
        running = asyncio.create_task(asked.run())
        await asked.until(lambda: len(asked.sent) == 2)
        await server.aclose()
        await running
        assert asked.sent[-1] == {"type": "http.response.body", "body": b""}

    asyncio.run(test())


def test_background_work_comes_after_the_response(serve: Serve) -> None:
    stream, _ = filled(serve(), start="all")
    order: list[str] = []

    async def later() -> None:
        order.append("background")

    response = asgi.EventSourceResponse(stream, background=later, on_close=lambda: order.append("closed"))  # type: ignore[arg-type]
    asyncio.run(Asgi(response).run())
    assert order == ["closed", "background"]


def test_responses_that_are_over_leave_nothing(serve: Serve) -> None:
    stream = serve().stream("s")

    async def test() -> weakref.ref[Any]:
        for _ in range(50):
            response = asgi.EventSourceResponse(stream)
            asked = Asgi(response)
            running = asyncio.create_task(asked.run())
            await asked.until(lambda asked=asked: len(asked.sent) == 2)  # type: ignore[misc]
            asked.gone.set()
            await running
        return weakref.ref(response._reading)

    threads = threading.active_count()
    reading = asyncio.run(test())
    gc.collect()
    assert reading() is None
    assert not asgi._bodies
    assert threading.active_count() == threads


def test_websockets_are_refused(serve: Serve) -> None:
    asked = Asgi(asgi.EventSourceResponse(serve().stream("s")))
    asked.scope["type"] = "websocket"
    with pytest.raises(RuntimeError, match="websocket"):
        asyncio.run(asked.run())


# ---- WSGI, by the server of the standard library -------------------------------------------


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
