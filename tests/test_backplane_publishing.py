"""Publishing over HTTP, and under keys, into streams that several processes share.

Guards that a key is known in every process: who repeats what was published under it, there or elsewhere, gets the
first ids, and who uses it for something else is refused; and that what is posted is appended where the log is, whole,
with its snapshot and its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

import sse_fast
from support.backplane import KINDS, BackplaneServer
from support.deadline import until
from support.publishing import KEY, Elsewhere
from support.reader import Reader, fetch

Serve = Callable[..., "sse_fast.Server"]
Pair = tuple[sse_fast.Server, sse_fast.Server]
LIST = [sse_fast.Event("b"), sse_fast.Event("c")]


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    with BackplaneServer(request.param) as server:
        yield server


@pytest.fixture
def pair(shared: BackplaneServer, serve: Serve) -> Pair:
    """Two servers that share their streams, and take the same key of publishers."""
    shared.command("FLUSHALL")
    return (
        serve(backplane=shared.url, publish_key=KEY, start="all"),
        serve(backplane=shared.url, publish_key=KEY, start="all"),
    )


def datas(server: sse_fast.Server, count: int) -> list[str]:
    with Reader(server.port) as reader:
        return [event.data for event in reader.open().take(count)]


def test_a_key_of_one_process_is_known_in_the_other(pair: Pair) -> None:
    one, other = (server.stream("s") for server in pair)
    first = one.publish("a", idempotency_key="k")
    many = one.publish_many(LIST, idempotency_key="k2")
    assert other.publish("a", idempotency_key="k") == first
    assert other.publish_many(LIST, idempotency_key="k2") == many
    assert one.publish("d") != first
    assert datas(pair[1], 4) == ["a", "b", "c", "d"]


def test_a_key_that_stands_for_something_else_is_refused_in_the_other_process(pair: Pair) -> None:
    one, other = (server.stream("s") for server in pair)
    one.publish("a", idempotency_key="k")
    with pytest.raises(sse_fast.KeyReused):
        other.publish("b", idempotency_key="k")
    with pytest.raises(sse_fast.KeyReused):
        other.publish_many(LIST, idempotency_key="k")
    assert one.stats().published == 1


def test_a_coroutine_of_the_other_process_gets_the_first_ids(pair: Pair) -> None:
    one, other = (server.stream("s") for server in pair)

    async def publish() -> None:
        first = await one.apublish("a", idempotency_key="k")
        many = await one.apublish_many(LIST, idempotency_key="k2")
        assert await other.apublish("a", idempotency_key="k") == first
        assert await other.apublish_many(LIST, idempotency_key="k2") == many
        with pytest.raises(sse_fast.KeyReused):
            await other.apublish("b", idempotency_key="k")

    asyncio.run(publish())
    assert datas(pair[1], 3) == ["a", "b", "c"]


def test_a_request_repeated_to_the_other_process_is_answered_alike(pair: Pair) -> None:
    with Elsewhere(pair[0].port) as one, Elsewhere(pair[1].port) as other:
        first = one.post([{"data": "a"}, {"data": {"n": 1}}], Idempotency_Key="k")
        again = other.post([{"data": "a"}, {"data": {"n": 1}}], Idempotency_Key="k")
        assert (first.status, again.status) == (201, 201)
        assert first.body == again.body
        changed = other.post([{"data": "b"}], Idempotency_Key="k")
        assert (changed.status, changed.error) == (422, "key_reused")
    assert datas(pair[1], 2) == ["a", '{"n":1}']


def test_options_that_a_publisher_gives_are_in_force_in_every_process(pair: Pair) -> None:
    with sse_fast.connect(pair[0].url, key=KEY) as client:
        stream = client.stream("s", history=3, start="last", expire=None)
        for number in range(5):
            stream.publish(str(number))
        assert datas(pair[1], 1) == ["4"]
        assert pair[1].stream("s").stats().retained == 3
        # A process that has a copy, and the one that has the log's newest options from elsewhere.
        with sse_fast.connect(pair[1].url, key=KEY) as other:
            other.stream("s", history=2, max_lag=2, start="all").publish("5")
            with pytest.raises(sse_fast.SettingError, match="max_lag must not exceed history"):
                other.stream("s", max_lag=3).publish("never")
        until(lambda: pair[0].stream("s").stats().retained == 2, what="the options of the other process")
        with pytest.raises(sse_fast.SettingError, match="max_lag must not exceed history"):
            client.stream("s", max_lag=3).publish("never")
        assert datas(pair[0], 3)[1:] == ["4", "5"]  # Behind the gap of what is no longer retained.
        client.stream("t", private=True).publish("a")
        assert fetch(pair[1].port, "/streams/t", headers=[("Accept", "application/json")])[0].status == 404
        client.stream("t", private=False).publish("b")
        until(lambda: fetch(pair[1].port, "/streams/t", headers=[("Accept", "application/json")])[0].status == 200)


def test_a_list_with_a_snapshot_and_an_end_is_appended_where_the_log_is(pair: Pair) -> None:
    with Elsewhere(pair[0].port) as one:
        posted = [{"data": "a"}, {"data": "b", "snapshot": "both"}, {"data": "over", "event": "end", "end": True}]
        answer = one.post(posted)
        assert answer.status == 201
        late = one.post({"data": "late"})
        assert (late.status, late.error) == (409, "ended")
    with Reader(pair[1].port) as reader:
        got = [(event.event, event.data) for event in reader.open().take(2)]
    assert got == [("snapshot", "both"), ("end", "over")]
    assert len(answer.body["ids"]) == 3


def test_a_snapshot_alone_is_set_in_every_process(pair: Pair) -> None:
    with Elsewhere(pair[0].port) as one:
        one.post({"data": "a"})
        assert one.post({"snapshot": "state"}).status == 201
    with Reader(pair[1].port) as reader:
        (event,) = reader.open().take(1)
    assert (event.event, event.data) == ("snapshot", "state")


def test_what_is_deleted_in_one_process_is_gone_in_the_other(pair: Pair) -> None:
    one = pair[0].stream("s")
    one.publish("a")
    with Elsewhere(pair[1].port) as other:
        assert other.delete().status == 204
        assert other.delete().status == 404
    until(lambda: "s" not in [stream.name for stream in pair[0].streams()])
    with pytest.raises(sse_fast.StreamEnded):
        one.publish("b")


def test_while_the_backplane_is_away_a_request_is_told_to_come_back(shared: BackplaneServer, serve: Serve) -> None:
    with BackplaneServer(shared.kind) as own:
        server = serve(backplane=own.url, backplane_timeout=0.2, publish_key=KEY)
        with Elsewhere(server.port) as elsewhere:
            assert elsewhere.post({"data": "a"}).status == 201
            own.kill()
            answer = elsewhere.post({"data": "b"})
            assert (answer.status, answer.error) == (503, "backplane_away")
            assert int(answer.headers["retry-after"]) > 0
            own.start()
            until(lambda: elsewhere.post({"data": "c"}).status == 201)
