"""What happens while the backplane's server is away, and when it comes back with its data, without, or with less.

Each test has servers of its own: it kills, stops and empties them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import sse_fast
from support.backplane import KINDS, BackplaneServer
from support.deadline import until
from support.proxy import Proxy
from support.reader import Reader, fetch

Serve = Callable[..., "sse_fast.Server"]
JSON = [("Accept", "application/json")]
SSE = [("Accept", "text/event-stream")]


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    with BackplaneServer(request.param) as server:
        yield server


def exists(server: sse_fast.Server, name: str) -> bool:
    return fetch(server.port, f"/streams/{name}", headers=JSON)[0].status == 200


def ready(server: sse_fast.Server) -> bool:
    return fetch(server.port, "/readyz")[0].status == 200


def test_nobody_there_at_the_start_says_what_was_attempted_and_no_password(
    shared: BackplaneServer, serve: Serve
) -> None:
    shared.kill()
    with pytest.raises(sse_fast.BackplaneUnavailable, match=str(shared.port)) as raised:
        serve(backplane=f"redis://ann:secret@127.0.0.1:{shared.port}")
    assert "secret" not in str(raised.value)
    assert isinstance(raised.value, ConnectionError)
    for wrong in ("http://127.0.0.1", "redis://", "redis://host/x", 7):
        with pytest.raises(sse_fast.SettingError) as refused:
            serve(backplane=wrong)
        assert "http" not in str(refused.value), "its value may hold a password"


def test_while_it_is_away_readers_stay_and_history_is_served(shared: BackplaneServer, serve: Serve) -> None:
    server = serve(backplane=shared.url, backplane_timeout=0.2)
    stream = server.stream("s", start="all")
    first = stream.publish("a")
    with Reader(server.port) as reader:
        assert reader.open().next().data == "a"
        shared.kill()
        until(lambda: not ready(server))
        with pytest.raises(sse_fast.BackplaneUnavailable) as raised:
            stream.publish("lost")
        assert raised.value.published in {False, None}
        with Reader(server.port) as late:
            assert late.open().next().last_event_id == first
        assert fetch(server.port, "/streams/unknown", headers=JSON)[0].status == 503
        head, body = fetch(server.port, "/streams/unknown", headers=SSE)
        assert (head.status, body.startswith(b"retry:")) == (200, True)
        assert fetch(server.port, "/healthz")[0].status == 200
        with pytest.raises(sse_fast.BackplaneUnavailable):
            server.stream("another")
        shared.start()
        until(lambda: ready(server))
        stream.publish("b")
        # The server came back without anything: a life begins anew, and its readers come back to it.
        assert reader.rest() == []
    with Reader(server.port, last_event_id=first) as reader:
        gap, event = reader.open().take(2)
        assert (gap.event, json.loads(gap.data)["skipped"], event.data) == ("gap", None, "b")
    assert stream.last_id is not None
    assert stream.last_id != first


def test_a_publish_waits_for_a_server_that_is_away_for_a_moment(shared: BackplaneServer, serve: Serve) -> None:
    server = serve(backplane=shared.url, backplane_timeout=15.0)
    stream = server.stream("s", start="all")
    shared.pause()
    ids: list[str] = []
    publishing = threading.Thread(target=lambda: ids.append(stream.publish("a")))
    publishing.start()
    publishing.join(0.2)
    assert publishing.is_alive()
    shared.go_on()
    publishing.join(20.0)
    assert [id_.rpartition("-")[2] for id_ in ids] == ["1"]
    with Reader(server.port) as reader:
        assert reader.open().next().data == "a"


def test_a_server_that_stands_still_is_away_and_back(shared: BackplaneServer, serve: Serve) -> None:
    one, other = serve(backplane=shared.url, backplane_timeout=0.3), serve(backplane=shared.url)
    stream = one.stream("s", start="all")
    stream.publish("0")
    with Reader(other.port) as reader:
        assert reader.open().next().data == "0"
        reconnects = one.stats().backplane.reconnects
        shared.pause()
        with pytest.raises(sse_fast.BackplaneUnavailable) as raised:
            stream.publish("perhaps")
        assert raised.value.published is None
        until(lambda: not ready(one), what="it says so, long before the connection is given up")
        assert one.stats().backplane.reconnects == reconnects
        shared.go_on()
        until(lambda: ready(one))
        last = until(lambda: _published(stream, "after"))
        while reader.next().last_event_id != last:
            pass


def _published(stream: sse_fast.Stream, data: str) -> str | None:
    try:
        return stream.publish(data)
    except sse_fast.BackplaneUnavailable:
        return None


def test_connections_that_are_cut_lose_and_repeat_nothing(shared: BackplaneServer, serve: Serve) -> None:
    one, other = serve(backplane=shared.url, backplane_timeout=15.0), serve(backplane=shared.url)
    stream = one.stream("s", start="all", history=4096)
    done = threading.Event()

    def cut() -> None:
        while not done.wait(0.03):
            shared.command("CLIENT", "KILL", "TYPE", "pubsub")
            shared.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    cutting = threading.Thread(target=cut)
    with Reader(other.port) as reader:
        reader.open()
        cutting.start()
        try:
            ids = [stream.publish(str(number)) for number in range(300)]
        finally:
            done.set()
            cutting.join()
        got = reader.take(300)
    assert [event.data for event in got] == [str(number) for number in range(300)]
    assert [event.last_event_id for event in got] == ids
    stats = one.stats().backplane
    assert stats is not None
    assert stats.reconnects > 0


def test_flushed_scripts_and_streams(shared: BackplaneServer, serve: Serve) -> None:
    server = serve(backplane=shared.url)
    stream = server.stream("s", start="all")
    first = stream.publish("a")
    shared.command("SCRIPT", "FLUSH")
    second = stream.publish("b")
    assert second.partition("-")[0] == first.partition("-")[0]
    with Reader(server.port) as reader:
        assert [event.data for event in reader.open().take(2)] == ["a", "b"]
        shared.command("FLUSHALL")
        third = stream.publish("c")
        assert third.partition("-")[0] != first.partition("-")[0]
        assert reader.rest() == []
    with Reader(server.port, last_event_id=second) as reader:
        assert [event.event for event in reader.open().take(2)] == ["gap", "message"]


def test_a_publish_in_an_event_loop_is_warned_of_once(
    shared: BackplaneServer, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    stream = serve(backplane=shared.url).stream("s")

    async def publish() -> None:
        stream.publish("a")
        stream.publish("b")
        await stream.apublish("c")

    with caplog.at_level(logging.WARNING, logger="sse_fast"):
        asyncio.run(publish())
    assert [record.getMessage().count("apublish") for record in caplog.records] == [1]


def test_closing_leaves_nothing_and_takes_no_longer_where_the_server_is_away(
    shared: BackplaneServer, serve: Serve
) -> None:
    before = {thread.name for thread in threading.enumerate()}
    server = serve(backplane=shared.url, backplane_timeout=0.2)
    server.stream("s").publish("a")
    shared.kill()
    server.close(drain=0.2)
    until(lambda: {thread.name for thread in threading.enumerate()} <= before)
    with pytest.raises(sse_fast.ServerClosed):
        server.stream("s")


def test_a_server_that_closes_gives_its_readers_back(shared: BackplaneServer, serve: Serve) -> None:
    one, other = serve(backplane=shared.url), serve(backplane=shared.url)
    stream = one.stream("s")
    with Reader(other.port) as reader:
        other.stream("s")
        reader.open()
        until(lambda: stream.subscribers == 1)
        began = time.monotonic()
        other.close(drain=0.2)
        until(lambda: stream.subscribers == 0)
        assert time.monotonic() - began < 9.0, "its lease was given back, not waited for"


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


def test_what_a_replica_refuses_was_not_published(shared: BackplaneServer, serve: Serve) -> None:
    server = serve(backplane=shared.url, backplane_timeout=0.3)
    stream = server.stream("s", start="all")
    stream.publish("a")
    shared.command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(sse_fast.BackplaneUnavailable) as raised:
        stream.publish("b")
    assert raised.value.published is False
    until(lambda: not ready(server))
    shared.command("REPLICAOF", "NO", "ONE")
    last = until(lambda: _published(stream, "c"))
    with Reader(server.port) as reader:
        assert [event.data for event in reader.open().take(2)] == ["a", "c"]
    assert stream.last_id == last


def test_a_user_without_a_right_is_told_which_at_the_start(shared: BackplaneServer, serve: Serve) -> None:
    shared.command("ACL", "SETUSER", "ann", "on", ">secret", "~*", "&*", "+@all", "-xadd", "-pexpire")
    with pytest.raises(sse_fast.BackplaneUnavailable, match="xadd, pexpire") as raised:
        serve(backplane=f"redis://ann:secret@127.0.0.1:{shared.port}")
    assert "secret" not in str(raised.value)


def test_a_server_that_evicts_is_warned_of(
    shared: BackplaneServer, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    shared.command("CONFIG", "SET", "maxmemory", "100mb")
    shared.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING, "sse_fast"):
        serve(backplane=shared.url)
        until(lambda: any("allkeys-lru" in record.getMessage() for record in caplog.records))


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
    assert [(event.event, event.data) for event in (next(here), next(here), next(here))][1:] == [
        ("message", "b"),
        ("message", "c"),
    ]


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


def test_a_reader_that_is_ahead_of_a_process_without_backplane_comes_back(
    shared: BackplaneServer, serve: Serve
) -> None:
    with Proxy(shared.port) as proxy:
        one = serve(backplane=f"redis://127.0.0.1:{proxy.port}", backplane_timeout=0.3)
        other = serve(backplane=shared.url)
        stream = other.stream("s", start="all")
        first = stream.publish("a")
        until(lambda: one.stream("s").last_id == first)
        proxy.keeping_answers = True  # It hears nothing any more, and does not know it yet.
        last = stream.publish("b")
        for path in (f"/streams/s?last_event_id={last}", f"/streams/s?last_event_id={last}x"):
            status = fetch(one.port, path, headers=JSON)[0].status
            assert status == (503 if path.endswith(last) else 200), "nobody knows what it has missed here"
        here = json.loads(fetch(one.port, f"/streams/s?last_event_id={first}", headers=JSON)[1])
        assert (here["gap"], here["events"]) == (None, []), "copied history is served"
        proxy.keeping_answers = False
        proxy.cut()
        until(lambda: ready(one))
        back = json.loads(fetch(one.port, f"/streams/s?last_event_id={last}", headers=JSON)[1])
        assert (back["gap"], back["events"]) == (None, [])
