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
        assert raised.value.published is False
        for change in (lambda: stream.snapshot({"n": 1}), stream.remove, lambda: server.stream("s", history=5)):
            with pytest.raises(sse_fast.BackplaneUnavailable) as raised:
                change()
            assert raised.value.published is False, "nothing was sent, and will not be"
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


def test_what_a_server_that_stands_still_may_yet_do_is_in_doubt(shared: BackplaneServer, serve: Serve) -> None:
    server = serve(backplane=shared.url, backplane_timeout=0.3)
    stream, other = server.stream("s", start="all"), server.stream("other")
    stream.publish("a")
    shared.pause()
    sent = (
        lambda: stream.publish("b"),
        lambda: other.snapshot({"n": 1}),
        lambda: server.stream("s", history=5),
        stream.remove,
    )
    for change in sent:
        with pytest.raises(sse_fast.BackplaneUnavailable) as raised:
            change()
        assert raised.value.published is None, "it was sent, and nobody can say"
    # Behind those, and never sent: a call waits for the one before, and a name is subscribed before it is read.
    for change in (lambda: other.publish("c"), lambda: server.stream("made")):
        with pytest.raises(sse_fast.BackplaneUnavailable) as raised:
            change()
        assert raised.value.published is False, "and will not be"
    shared.go_on()
    until(lambda: fetch(server.port, "/streams/s", headers=JSON)[0].status == 404)
    until(lambda: json.loads(fetch(server.port, "/streams/other", headers=JSON)[1])["snapshot"] is not None)
    assert fetch(server.port, "/streams/made", headers=JSON)[0].status == 404
    assert json.loads(fetch(server.port, "/streams/other", headers=JSON)[1])["events"] == []


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
        path = f"/streams/s?last_event_id={last}"
        # It may be ready for a moment longer, and away for one after that.
        until(lambda: fetch(one.port, path, headers=JSON)[0].status == 200)
        back = json.loads(fetch(one.port, path, headers=JSON)[1])
        assert (back["gap"], back["events"]) == (None, [])
