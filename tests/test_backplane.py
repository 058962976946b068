"""Streams that several processes share through a Redis or Valkey server, over real ones.

Two servers in one test process share nothing in it (`ARCHITECTURE.md`, "Invariants"): to the backplane they are two
processes. `test_backplane_processes.py` has what needs real ones, `test_backplane_away.py` what happens while the
backplane is away.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator

import pytest

import sse_fast
from support.backplane import KINDS, BackplaneServer
from support.deadline import until
from support.reader import Reader, fetch

Serve = Callable[..., "sse_fast.Server"]


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    """A server of each kind, empty at the beginning of each test that asks for `pair`."""
    with BackplaneServer(request.param) as server:
        yield server


@pytest.fixture
def pair(shared: BackplaneServer, serve: Serve) -> tuple[sse_fast.Server, sse_fast.Server]:
    """Two servers that share their streams."""
    shared.command("FLUSHALL")
    return serve(backplane=shared.url), serve(backplane=shared.url)


Pair = tuple[sse_fast.Server, sse_fast.Server]


def batch(*data: str) -> list[sse_fast.Event]:
    return [sse_fast.Event(each) for each in data]


def datas(reader: Reader, count: int) -> list[str]:
    return [event.data for event in reader.take(count)]


def test_what_one_process_publishes_readers_of_both_get_in_one_order(pair: Pair) -> None:
    one, other = pair
    streams = [server.stream("s", start="all") for server in pair]
    with Reader(one.port) as here, Reader(other.port) as there:
        here.open(), there.open()
        ids = [streams[number % 2].publish(str(number)) for number in range(50)]
        got = [[(event.last_event_id, event.data) for event in reader.take(50)] for reader in (here, there)]
    assert got[0] == got[1] == [(id_, str(number)) for number, id_ in enumerate(ids)]
    epoch = ids[0].partition("-")[0]
    assert ids == [f"{epoch}-{number + 1}" for number in range(50)]


def test_a_request_opens_a_stream_that_exists_only_elsewhere(pair: Pair) -> None:
    one, other = pair
    one.stream("s", start="all").publish_many(batch("a", "b"))
    with Reader(other.port) as reader:
        assert datas(reader.open(), 2) == ["a", "b"]
    head, body = fetch(other.port, "/streams/s", headers=[("Accept", "application/json")])
    assert head.status == 200
    assert [event["data"] for event in json.loads(body)["events"]] == ["a", "b"]
    assert fetch(other.port, "/streams/unknown", headers=[("Accept", "application/json")])[0].status == 404


def test_a_reader_goes_on_in_another_process_without_loss_or_repeat(pair: Pair) -> None:
    one, other = pair
    stream = one.stream("s", start="all")
    other.stream("s")
    with Reader(one.port) as reader:
        for number in range(20):
            stream.publish(str(number))
        last = reader.open().take(10)[-1].last_event_id
    with Reader(other.port, last_event_id=last) as reader:
        assert datas(reader.open(), 10) == [str(number) for number in range(10, 20)]


def test_the_end_reaches_everybody_and_who_has_it_gets_204(pair: Pair) -> None:
    one, other = pair
    stream, elsewhere = one.stream("s", start="all"), other.stream("s")
    with Reader(other.port) as reader:
        reader.open()
        stream.publish("a")
        last = elsewhere.end("over")
        assert [event.data for event in reader.rest()] == ["a", "over"]
    with pytest.raises(sse_fast.StreamEnded):
        stream.publish("late")
    assert [stream.ended, elsewhere.ended] == [True, True]
    assert all(fetch(server.port, "/streams/s", headers=[("Last-Event-ID", last)])[0].status == 204 for server in pair)


def test_removing_ends_readers_everywhere_and_the_next_life_has_another_epoch(pair: Pair) -> None:
    one, other = pair
    stream = one.stream("s", start="all")
    first = stream.publish("a")
    with Reader(other.port) as reader:
        assert datas(reader.open(), 1) == ["a"]
        stream.remove()
        assert reader.rest() == []
    with pytest.raises(sse_fast.StreamEnded):
        stream.publish("late")
    again = other.stream("s", start="all").publish("b")
    assert again.partition("-")[0] != first.partition("-")[0]
    with Reader(one.port, last_event_id=first) as reader:
        gap, event = reader.open().take(2)
        assert (gap.event, json.loads(gap.data)["skipped"], event.data) == ("gap", None, "b")


def test_a_snapshot_stands_for_the_past_in_every_process(pair: Pair) -> None:
    one, other = pair
    stream = one.stream("s")
    stream.publish("a")
    stream.snapshot({"state": 1})
    stream.publish("b")
    with Reader(other.port) as reader:
        got = [(event.event, event.data) for event in reader.open().take(2)]
        assert got == [("snapshot", '{"state":1}'), ("message", "b")]
        stream.publish("c", snapshot={"state": 2})
        assert reader.next().data == "c"
    with Reader(other.port) as reader:
        assert reader.open().next().data == '{"state":2}'


def test_options_given_later_are_everywhere_and_private_is_unknown(pair: Pair) -> None:
    one, other = pair
    one.stream("s", start="all").publish_many(batch("a", "b", "c"))
    stream = other.stream("s", history=2)
    assert stream.stats().retained == 2
    until(lambda: one.stream("s").stats().retained == 2)
    one.stream("s", private=True)
    until(lambda: fetch(other.port, "/streams/s", headers=[("Accept", "application/json")])[0].status == 404)


def test_events_keep_every_field_on_the_way(pair: Pair) -> None:
    one, other = pair
    stream = one.stream("s", start="all")
    given = stream.publish("a\nb\r\u2028é", event="e", id="own", retry=2.5)
    stream.publish({"n": [1, None]})
    with Reader(other.port) as reader:
        first, second = reader.open().take(2)
    assert (given, first.last_event_id, first.event, first.data, first.retry) == (
        "own",
        "own",
        "e",
        "a\nb\n\u2028é",
        2500,
    )
    assert (second.event, second.data) == ("message", '{"n":[1,null]}')
    with Reader(other.port, last_event_id="own") as reader:
        assert reader.open().next().data == '{"n":[1,null]}'


def test_coroutines_publish_end_and_set_snapshots(pair: Pair) -> None:
    one, other = pair
    stream = one.stream("s", start="all")

    async def publish() -> list[str]:
        ids = [await stream.apublish("0")]
        ids += await stream.apublish_many(batch(*map(str, range(1, 600))))
        await stream.asnapshot({"all": 600})
        return [*ids, await stream.aend("over")]

    ids = asyncio.run(publish())
    assert [id_.rpartition("-")[2] for id_ in ids] == [str(number) for number in range(1, 602)]
    with Reader(other.port) as reader:
        assert [event.data for event in reader.open().rest()] == ['{"all":600}', "over"]


def test_readers_in_a_process_see_what_others_publish(pair: Pair) -> None:
    one, other = pair
    stream = one.stream("s", start="all")
    events = other.stream("s").events(timeout=20.0)
    stream.publish_many(batch("a", "b"))
    stream.end()
    assert [event.data for event in events] == ["a", "b", "null"]


def test_subscribers_and_readers_count_all_processes(pair: Pair) -> None:
    one, other = pair
    streams = [server.stream("s") for server in pair]
    empty = []
    streams[0].on_empty(lambda: empty.append(1), after=0.1)
    with Reader(one.port) as here, Reader(other.port) as there:
        here.open(), there.open()
        until(lambda: [stream.subscribers for stream in streams] == [2, 2])
        assert streams[0].readers() == {None: 2}
        here.close()
        until(lambda: [stream.subscribers for stream in streams] == [1, 1])
        assert not empty
    until(lambda: [stream.subscribers for stream in streams] == [0, 0])
    until(lambda: empty)


def test_several_streams_on_one_connection_come_from_everywhere(pair: Pair) -> None:
    one, other = pair
    one.stream("a", start="all").publish("1")
    one.stream("b", start="all").publish("2")
    with Reader(other.port, "/streams?name=a&name=b") as reader:
        first = sorted(datas(reader.open(), 2))
        last = reader.parser.events[-1].last_event_id
    assert first == ["1", "2"]
    one.stream("a").publish("3")
    with Reader(other.port, "/streams?name=a&name=b", last_event_id=last) as reader:
        assert datas(reader.open(), 1) == ["3"]


def test_a_route_waits_for_what_another_process_makes(pair: Pair) -> None:
    one, other = pair
    other.route("/jobs/{id}", "job/{id}", wait=15.0)
    with Reader(other.port, "/jobs/7") as reader:
        until(lambda: other.stats().requests > 0)
        one.stream("job/7", start="all").publish("made")
        assert datas(reader.open(), 1) == ["made"]


def test_disconnecting_a_reader_reaches_every_process(shared: BackplaneServer, serve: Serve) -> None:
    shared.command("FLUSHALL")
    one, other = (serve(backplane=shared.url, authorize=lambda _request, _names: "ann") for _ in range(2))
    other.stream("s")
    with Reader(other.port) as reader:
        reader.open()
        until(lambda: one.stream("s").readers() == {"ann": 1})
        one.disconnect("ann")
        assert reader.rest() == []


def test_tickets_need_a_key_that_every_process_has(shared: BackplaneServer, serve: Serve) -> None:
    with pytest.raises(sse_fast.SettingError, match="ticket_key"):
        serve(backplane=shared.url).ticket(["s"])
    assert serve(backplane=shared.url, ticket_key="k" * 32).ticket(["s"]).startswith("sse1.")


def test_nameless_streams_stay_here(pair: Pair) -> None:
    one, _ = pair

    @one.get("/own")
    def own(_request: sse_fast.Request) -> sse_fast.Stream:
        stream = one.stream(None, start="all")
        stream.publish("mine")
        stream.end()
        return stream

    with Reader(one.port, "/own") as reader:
        assert [event.data for event in reader.open().rest()] == ["mine", "null"]


def test_a_run_publishes_for_every_process(pair: Pair) -> None:
    one, other = pair
    run = one.run(["sort"], stream="sorted", stdin="pear\nfig\n", lines="log")
    with Reader(other.port, "/streams/sorted") as reader:
        events = reader.open().rest()
    assert [event.data for event in events][:2] == ["fig", "pear"]
    assert run.wait(20.0) == 0


def test_the_numbers_say_how_the_backplane_is(pair: Pair) -> None:
    one, _ = pair
    one.stream("s").publish("a")

    def counted() -> bool:
        stats = one.stats().backplane
        assert stats is not None
        return stats.up and stats.requests > 0 and stats.pushed > 0

    until(counted)
    assert fetch(one.port, "/readyz")[0].status == 200


def test_a_name_that_is_removed_and_made_all_the_time_is_never_taken_for_an_outage(pair: Pair) -> None:
    """What else may happen there is that the stream was removed before the event came."""
    failures: list[sse_fast.SseFastError] = []

    def publish(server: sse_fast.Server, number: int) -> None:
        stream = server.stream("s")
        stream.publish(str(number))
        if number % 3 == 0:
            stream.remove()

    def use(server: sse_fast.Server) -> None:
        for number in range(200):
            try:
                publish(server, number)
            except sse_fast.SseFastError as error:  # noqa: PERF203 - each is one of many
                failures.append(error)

    threads = [threading.Thread(target=use, args=(server,)) for server in pair for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error for error in failures if not isinstance(error, sse_fast.StreamEnded)] == []
