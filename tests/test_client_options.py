"""The options of a stream that a client of another process gives, and `POST /streams/{name}?history=…` beneath it.

Guards that they act as those of `Server.stream` do, whatever way they come; that one which is refused there is refused
here, with nothing published; and that only who has a key gives any. Several processes: test_backplane_publishing.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.publishing import KEY, Elsewhere
from support.reader import Reader, fetch
from support.signed import SECRET, claims, token

#: Gives a stream options, and publishes one event after another.
Way = Callable[[sse_fast.Server, str, int, dict[str, Any], str], None]


@pytest.fixture(scope="module")
def server() -> Iterator[sse_fast.Server]:
    """A server whose defaults are not those of the options below; each test has streams of its own."""
    with sse_fast.serve(0, publish_key=KEY, heartbeat=10.0, retry=3.0, expire=300.0, drain=0.5) as server:
        yield server


def in_process(server: sse_fast.Server, name: str, events: int, options: dict[str, Any], _query: str) -> None:
    for number in range(events):
        server.stream(name, **options).publish(f"e{number}")


def by_client(server: sse_fast.Server, name: str, events: int, options: dict[str, Any], _query: str) -> None:
    with sse_fast.connect(server.url, key=KEY) as client:
        stream = client.stream(name, **options)
        for number in range(events):
            stream.publish(f"e{number}")


def by_async_client(server: sse_fast.Server, name: str, events: int, options: dict[str, Any], _query: str) -> None:
    async def publish() -> None:
        async with sse_fast.AsyncClient(server.url, key=KEY) as client:
            stream = client.stream(name, **options)
            for number in range(events):
                await stream.publish(f"e{number}")

    asyncio.run(publish())


def by_http(server: sse_fast.Server, name: str, events: int, _options: dict[str, Any], query: str) -> None:
    with Elsewhere(server.port) as elsewhere:
        for number in range(events):
            assert elsewhere.post({"data": f"e{number}"}, f"{name}?{query}").status == 201


WAYS = [in_process, by_client, by_async_client, by_http]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "there before"])
def test_options_act_as_those_of_a_server_s_stream(server: sse_fast.Server, way: Way, is_new: bool) -> None:
    name = f"{way.__name__}-{is_new}"
    if not is_new:
        server.stream(name).publish("before")
    options = {"history": 3, "start": "all", "retry": 1.5, "heartbeat": 0.05, "heartbeat_event": "none", "ids": False}
    way(server, name, 5, options, "history=3&start=all&retry=1500ms&heartbeat=50ms&heartbeat_event=none&ids=off")
    assert server.stream(name).stats().retained == 3
    with Reader(server.port, f"/streams/{name}") as reader:
        gap, *events = reader.open().take(4)
        assert (gap.event, gap.retry) == ("gap", 1500)
        assert [(event.data, event.own_id) for event in events] == [("e2", None), ("e3", None), ("e4", None)]
        assert reader.next().event == "none"
    way(server, name, 1, {"heartbeat": None, "retry": None, "ids": True}, "heartbeat=none&retry=&ids=1")
    with Reader(server.port, f"/streams/{name}") as reader:
        gap, *_, last = reader.open().take(4)
        assert (last.data, gap.retry, last.own_id is None) == ("e0", None, False)


@pytest.mark.parametrize("way", WAYS)
def test_options_of_a_stream_s_life_act_too(server: sse_fast.Server, way: Way) -> None:
    name = f"life-{way.__name__}"
    way(server, name, 1, {"private": True, "expire": None}, "private=1&expire=none")
    assert fetch(server.port, f"/streams/{name}", headers=[("Accept", "application/json")])[0].status == 404
    way(server, name, 1, {"private": False, "history_bytes": 1 << 16}, "private=0&history_bytes=64KiB")
    assert fetch(server.port, f"/streams/{name}", headers=[("Accept", "application/json")])[0].status == 200
    way(server, name, 1, {"expire": 0.05}, "expire=50ms")
    until(lambda: name not in [stream.name for stream in server.streams()], what="the end of its life")
    way(server, name, 1, {"linger": 0.0}, "linger=0")
    server.stream(name).end()
    until(lambda: name not in [stream.name for stream in server.streams()], what="its end, with nothing lingering")


def test_whatever_publishes_carries_the_options(server: sse_fast.Server) -> None:
    with sse_fast.connect(server.url, key=KEY) as client:
        stream = client.stream("every", history=300)
        assert len(stream.publish_many([(number, "n") for number in range(300)])) == 300
        assert server.stream("every").stats().retained == 300
        client.stream("every", history=2).snapshot("state")
        assert server.stream("every").stats().retained == 2
        client.stream("every", history=1).end()
        assert server.stream("every").stats().retained == 1
        assert client.stream("few", history=2).publish_many([("a", None), ("b", None), ("c", None)])
        assert [event.data for event in client.stream("every").events(timeout=DEADLINE)]


# ---- What is refused -----------------------------------------------------------------------

#: Options that are refused, what the text says, and the query of a client that does not look.
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"history": 0}, "history must be a whole number from 1", "history=0"),
    ({"history": True}, "history must be a whole number from 1", "history=true"),
    ({"history_bytes": -1}, "history_bytes must be a size in bytes", "history_bytes=-1"),
    ({"start": "newest"}, 'start must be one of "new", "last", "all"', "start=newest"),
    ({"start": None}, 'start must be one of "new", "last", "all"', "start="),
    ({"on_lag": "drop"}, 'on_lag must be one of "skip", "latest", "disconnect"', "on_lag=drop"),
    ({"heartbeat": 0}, "heartbeat must be seconds from 0.001", "heartbeat=0"),
    ({"heartbeat": float("nan")}, "heartbeat must be seconds from 0.001", "heartbeat=nan"),
    ({"retry": 5000}, "not milliseconds", "retry=5000"),
    ({"ids": None}, "ids must be", "ids=none"),
    ({"linger": None}, "linger must be seconds from 0", "linger=none"),
    ({"expire": 0}, "expire must be seconds from 0.001", "expire=0"),
    ({"histroy": 5}, "there is no stream option", "histroy=5"),
    ({"history": 10, "max_lag": 11}, "max_lag must not exceed history", "history=10&max_lag=11"),
    ({"max_lag": 257}, "max_lag must not exceed history", "max_lag=257"),
    ({"heartbeat_event": "a\nb"}, "heartbeat_event must not contain LF", "heartbeat_event=a%0Ab"),
    ({"heartbeat_comment": ""}, "heartbeat_comment must be", "heartbeat_comment="),
]


@pytest.mark.parametrize(("options", "text", "query"), BAD, ids=repr)
def test_what_a_server_refuses_is_refused_and_nothing_is_published(
    server: sse_fast.Server, options: dict[str, Any], text: str, query: str
) -> None:
    names = ["new", "there"]
    server.stream("there")
    with sse_fast.connect(server.url, key=KEY) as client, Elsewhere(server.port) as elsewhere:
        for name in names:
            with pytest.raises(sse_fast.SettingError, match=text):
                server.stream(name, **options)
            with pytest.raises(sse_fast.SettingError, match=text):
                client.stream(name, **options).publish("never")
            answer = elsewhere.post({"data": "never"}, f"{name}?{query}")
            assert (answer.status, answer.error) == (400, "bad_option")
            assert text in answer.body["detail"]
    assert server.stream("there").last_id is None
    assert "new" not in [stream.name for stream in server.streams()]


@pytest.mark.parametrize("query", ["history=1&history=1", "history=%ff", "lossless=1", "ticket=x", "=", "%zz"])
def test_a_query_that_gives_no_options_is_refused(server: sse_fast.Server, query: str) -> None:
    with Elsewhere(server.port) as elsewhere:
        assert elsewhere.post({"data": 1}, f"queried?{query}").error == "bad_option"
    assert "queried" not in [stream.name for stream in server.streams()]


def test_options_that_are_given_with_what_is_no_event_change_nothing(server: sse_fast.Server) -> None:
    stream = server.stream("kept")
    for number in range(5):
        stream.publish(str(number))
    with Elsewhere(server.port) as elsewhere:
        for body in (b"{", {"data": 1, "event": "a\nb"}, [{"data": 1}] * 3):
            assert elsewhere.post(body, "kept?history=2").status in {400, 413}
    assert stream.stats().retained == 5


def test_options_that_are_given_to_a_stream_that_has_ended_change_nothing(server: sse_fast.Server) -> None:
    stream = server.stream("over")
    for number in range(5):
        stream.publish(str(number))
    stream.end()
    with Elsewhere(server.port) as elsewhere:
        answer = elsewhere.post({"data": 1}, "over?history=2&private=1")
        assert (answer.status, answer.error) == (409, "ended")
    assert stream.stats().retained == 6


def test_a_key_of_idempotency_has_no_part_of_the_options(server: sse_fast.Server) -> None:
    with sse_fast.connect(server.url, key=KEY) as client:
        first = client.stream("keyed", history=5).publish("once", idempotency_key="k")
        assert client.stream("keyed", history=6).publish("once", idempotency_key="k") == first
        assert client.stream("keyed").publish("once", idempotency_key="k") == first
    assert server.stream("keyed").stats().published == 1


def test_a_token_gives_no_options(serve: Serve) -> None:
    """It grants publishing; making a private stream public would be more."""
    server = serve(tokens=sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)]), publish_key=KEY)
    server.stream("s", private=True)
    good = token("HS256", {**claims(), "sse": {"publish": ["**"]}})
    with sse_fast.connect(server.url, token=good) as client:
        client.stream("s").publish("fine")
        with pytest.raises(sse_fast.AccessDenied, match="options of a stream need one of publish_key"):
            client.stream("s", private=False).publish("never")
    assert server.stream("s").stats().published == 1
    with Elsewhere(server.port, good) as elsewhere:
        assert elsewhere.post({"data": 1}, "s?nothing").error == "forbidden"
    with Elsewhere(server.port, None) as elsewhere:
        assert elsewhere.post({"data": 1}, "s?nothing").error == "unauthorized"
