"""Another version of sse_fast shares the backplane, as during a deployment: what it may have written or pushed that
this one does not know stops nothing.

The guide's promise: versions share a backplane across one minor version (`docs/guides/processes.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import sse_fast
from support.backplane import KINDS, BackplaneServer
from support.deadline import until
from support.reader import Reader

Serve = Callable[..., "sse_fast.Server"]


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    with BackplaneServer(request.param) as server:
        yield server


def channel_of(shared: BackplaneServer, name: str) -> str:
    """The channel of a stream, as the server names it: the version before the name is not this test's business."""
    channels = shared.command("PUBSUB", "CHANNELS", f"*c:{name}")
    assert isinstance(channels, list)
    assert len(channels) == 1
    assert isinstance(channels[0], bytes)
    return channels[0].decode()


def key_of(channel: str, kind: str) -> str:
    prefix, _, name = channel.rpartition("c:")
    return f"{prefix}{kind}:{name}"


# What goes to a stream's channel.
PUSHED = [
    pytest.param("Z 1 2 3\nof a later version", id="a-kind-of-news"),
    pytest.param("E", id="a-head-without-end"),
    pytest.param("E 1 2\n", id="an-append-that-lacks-fields"),
    pytest.param("E 9999999999999999 9 9 9 9 0 - 0\n", id="an-append-whose-events-are-missing"),
    pytest.param("O 9999999999999999 1 1\nnothing that is an option", id="options-that-are-none"),
    pytest.param("P 1 2\n", id="a-count-that-lacks-fields"),
    pytest.param("\n\n\n", id="nothing"),
    pytest.param("", id="an-empty-one"),
]


@pytest.mark.parametrize("pushed", PUSHED)
def test_news_that_cannot_be_read_are_passed_over(shared: BackplaneServer, serve: Serve, pushed: str) -> None:
    shared.command("FLUSHALL")
    pair = serve(backplane=shared.url), serve(backplane=shared.url)
    streams = [server.stream("s", start="all") for server in pair]
    streams[0].publish("a")
    with Reader(pair[1].port) as reader:
        assert [event.data for event in reader.open().take(1)] == ["a"]
        assert shared.command("PUBLISH", channel_of(shared, "s"), pushed) == 2
        ids = [streams[number % 2].publish(str(number)) for number in range(10)]
        got = reader.take(10)
    assert [event.data for event in got] == [str(number) for number in range(10)]
    assert [event.last_event_id for event in got] == ids
    assert {id_.partition("-")[0] for id_ in ids} == {streams[0].last_id.partition("-")[0]}, "it is one life"
    for server in pair:
        assert server.stats().backplane.reconnects == 0


def test_news_for_every_process_that_cannot_be_read_are_passed_over(shared: BackplaneServer, serve: Serve) -> None:
    shared.command("FLUSHALL")
    pair = serve(backplane=shared.url), serve(backplane=shared.url)
    streams = [server.stream("s", start="all") for server in pair]
    streams[0].publish("a")
    every = channel_of(shared, "s").rpartition("c:")[0] + "all:"
    for pushed in ("Z 1 2\nof a later version", "D not-a-number\nann", "D", ""):
        assert shared.command("PUBLISH", every, pushed) == 2
    with Reader(pair[1].port) as reader:
        streams[0].publish("b")
        assert [event.data for event in reader.open().take(2)] == ["a", "b"]
    for server in pair:
        assert server.stats().backplane.reconnects == 0


def test_what_a_later_version_keeps_beside_a_stream_stays_there_and_disturbs_nobody(
    shared: BackplaneServer, serve: Serve
) -> None:
    shared.command("FLUSHALL")
    one = serve(backplane=shared.url)
    stream = one.stream("s", start="all")
    stream.publish("a", snapshot="of a")
    channel = channel_of(shared, "s")
    meta, log, readers = (key_of(channel, kind) for kind in "mlr")
    shared.command("HSET", meta, "zz", "of a later version", "o8", "an option")
    # An event that nobody heard of, with a field more, behind the one that is known.
    epoch = shared.command("HGET", meta, "e")
    assert isinstance(epoch, bytes)
    shared.command("XADD", log, f"{epoch.decode()}-2", "f", "\x00\x01x", "g", "more")
    shared.command("HSET", meta, "n", 2)
    shared.command("HSET", readers, "another process", "readers in words that nobody here knows")
    other = serve(backplane=shared.url)
    with Reader(other.port) as reader:
        assert [event.data for event in reader.open().take(2)] == ["of a", "x"]
        stream.publish("b")
        assert reader.take(1)[0].data == "b"
        until(lambda: stream.subscribers == 1)
    other.stream("s", history=7)
    stream.publish("c")
    assert shared.command("HGET", meta, "zz") == b"of a later version", "options, events and readers leave it alone"
    stream.end("d")
    with Reader(other.port) as reader:
        assert [event.data for event in reader.open().take(5)] == ["of a", "x", "b", "c", "d"]
