"""Streams over lives: what a server that comes back has kept of them, and what is over.

Each test has servers of its own: it kills and starts them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

import sse_fast
from support.backplane import KINDS, BackplaneServer
from support.deadline import until
from support.reader import Reader, fetch

Serve = Callable[..., "sse_fast.Server"]
JSON = [("Accept", "application/json")]


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    with BackplaneServer(request.param) as server:
        yield server


def exists(server: sse_fast.Server, name: str) -> bool:
    return fetch(server.port, f"/streams/{name}", headers=JSON)[0].status == 200


def ready(server: sse_fast.Server) -> bool:
    return fetch(server.port, "/readyz")[0].status == 200


def test_a_server_that_comes_back_with_its_data_has_snapshots_and_history(
    shared: BackplaneServer, serve: Serve
) -> None:
    one, other = serve(backplane=shared.url, backplane_timeout=10.0), serve(backplane=shared.url)
    stream = one.stream("s", start="all")
    first = stream.publish("a", snapshot="of a")
    second = stream.publish("b")
    here = other.stream("s").events(start="all")
    assert [next(here).data for _ in range(2)] == ["of a", "b"]
    shared.command("SAVE")
    shared.kill()
    shared.start()
    third = stream.publish("c")
    assert third.partition("-")[0] != first.partition("-")[0]
    assert third.partition("-")[2] == "3"
    for server in (one, other):
        until(lambda server=server: server.stream("s").last_id == third)
        with Reader(server.port, last_event_id=second) as reader:
            got = [(event.event, event.data) for event in reader.open().take(4)]
            assert (got[0][0], json.loads(got[0][1])["skipped"]) == ("gap", None)
            assert got[1:] == [("snapshot", "of a"), ("message", "b"), ("message", "c")]
        with Reader(server.port) as reader:
            events = reader.open().take(3)
            assert [event.data for event in events] == ["of a", "b", "c"]
            assert {event.last_event_id.partition("-")[0] for event in events} == {third.partition("-")[0]}
    gap, event = next(here), next(here)
    assert (gap.event, event.data, event.id) == ("gap", "c", third), "a reader in the process has had the others"


def test_what_is_over_is_forgotten_in_every_process_and_its_name_is_free(shared: BackplaneServer, serve: Serve) -> None:
    one, other = serve(backplane=shared.url), serve(backplane=shared.url)
    last = one.stream("ended", linger=0.2).end("over")
    assert exists(other, "ended")
    one.stream("open", expire=0.2).publish("a")
    assert exists(other, "open")
    for server in (one, other):
        until(lambda server=server: not exists(server, "ended"))
        until(lambda server=server: not exists(server, "open"))
    again = other.stream("ended").publish("again")
    assert last is not None
    assert again.partition("-")[0] != last.partition("-")[0]
    one.stream("read")
    with Reader(one.port, "/streams/read") as reader:
        reader.open()
        until(lambda: other.stream("read").subscribers == 1)
        one.stream("read", expire=0.2)
        one.stream("gone", expire=0.2)
        until(lambda: not exists(other, "gone"))
        other.stream("read").publish("it is read")
        assert reader.next().data == "it is read"


def test_a_server_that_comes_back_empty_leaves_streams_to_those_that_hold_them(
    shared: BackplaneServer, serve: Serve
) -> None:
    one, other = serve(backplane=shared.url, backplane_timeout=10.0), serve(backplane=shared.url)
    held = one.stream("held", start="all", history=50)
    first = held.publish("a")
    elsewhere = other.stream("held")
    assert elsewhere.last_id == first
    here = other.stream("held").events(start="all")
    assert next(here).data == "a"
    shared.kill()
    shared.start()
    until(lambda: ready(one) and ready(other))
    second = held.publish("b")
    assert second.partition("-")[0] != first.partition("-")[0]
    until(lambda: elsewhere.last_id == second)
    third = elsewhere.publish("c")
    assert third.partition("-")[0] == second.partition("-")[0]
    gap, *events = (next(here) for _ in range(3))
    assert gap.event == "gap"
    assert [event.data for event in events] == ["b", "c"]


def test_a_key_is_known_beyond_the_life_that_it_was_used_in(shared: BackplaneServer, serve: Serve) -> None:
    one, other = serve(backplane=shared.url, backplane_timeout=10.0), serve(backplane=shared.url)
    stream = one.stream("s", start="all")
    before = stream.publish("before", idempotency_key="before")
    shared.command("SAVE")
    shared.kill()
    shared.start()
    until(lambda: ready(one) and ready(other))
    first = stream.publish("first of the next life", idempotency_key="first")
    for server in (one, other, one):
        again = server.stream("s")
        assert again.publish("first of the next life", idempotency_key="first") == first
        assert again.publish("before", idempotency_key="before") == before
        with pytest.raises(sse_fast.KeyReused):
            again.publish("another", idempotency_key="first")
    with Reader(other.port) as reader:
        assert [event.data for event in reader.open().take(2)] == ["before", "first of the next life"]
    assert stream.last_id == first


def test_a_removal_that_the_server_has_forgotten_leaves_no_name_stuck(shared: BackplaneServer, serve: Serve) -> None:
    one, other = serve(backplane=shared.url, backplane_timeout=10.0), serve(backplane=shared.url)
    for turn in range(3):
        name = f"s{turn}"
        stream = one.stream(name, start="all")
        stream.publish("a")
        other.stream(name)
        shared.command("SAVE")
        stream.remove()
        shared.kill()  # It comes back with what it had before the removal.
        shared.start()
        until(lambda: ready(one) and ready(other))
        last = one.stream(name).publish("b")
        for server in (one, other):
            until(lambda server=server, last=last, name=name: server.stream(name).last_id == last)
            assert exists(server, name)


def test_an_own_id_of_another_life_is_a_gap_and_what_is_there(shared: BackplaneServer, serve: Serve) -> None:
    server = serve(backplane=shared.url, backplane_timeout=10.0)
    stream = server.stream("s", start="all")
    for number in (1, 2):
        stream.publish(str(number), id=f"own{number}")
    shared.command("SAVE")
    stream.publish("3", id="own3")  # The server will have lost it.
    shared.kill()
    shared.start()
    until(lambda: ready(server))
    stream.publish("4", id="own4")
    with Reader(server.port, last_event_id="own2") as reader:
        events = reader.open().take(4)
    assert events[0].event == "gap"
    assert json.loads(events[0].data)["skipped"] is None
    assert [event.data for event in events[1:]] == ["1", "2", "4"]
    with Reader(server.port, last_event_id="own4") as reader:
        stream.publish("5", id="own5")
        assert reader.open().next().data == "5"
    page = json.loads(fetch(server.port, "/streams/s?last_event_id=own2", headers=JSON)[1])
    assert page["gap"] == -1
    assert [event["data"] for event in page["events"]] == ["1", "2", "4", "5"]
