"""`sse_fast.asgi` and `sse_fast.wsgi`, with nothing but their protocols: what goes out, and when it is over.

Guards that an application's own port sends what the engine's port sends, to the byte, for every way to begin; and that
what a client sends is never an error. Real servers and frameworks are in
hosts/test_bridge.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from sse_fast import asgi, wsgi
from support.asgi import Asgi, filled
from support.reader import Reader
from support.sse import parse

Options = dict[str, Any]


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
