"""Resuming: every event once, in order, across any number of reconnects.

Guards the resume rules of the wire contract and the end of a stream: what a new
subscriber gets first, what each kind of Last-Event-ID gets, how an ended stream
answers, and that snapshot and tail never lose or double an event between them.

Long, because a reader can come back in many places, and each is one test of a few lines.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sse_fast
from conftest import Open, Serve
from support.deadline import DEADLINE, until
from support.reader import Reader, fetch
from support.sse import Event


def position(event_id: str) -> int:
    return int(event_id.rpartition("-")[2])


def epoch(event_id: str) -> str:
    return event_id.rpartition("-")[0]


# ---- Within history ----------------------------------------------------------------------


def test_resuming_after_every_position_gives_exactly_the_rest(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    ids = [stream.publish(number, event="tick") for number in range(30)]
    first = stream.last_id
    assert first is not None
    for index, event_id in enumerate(ids[:-1]):
        reader = read(last_event_id=event_id).open()
        assert [event.own_id for event in reader.take(29 - index)] == ids[index + 1 :]
        reader.close()
    # Before the first: the place that a snapshot of an empty stream has.
    reader = read(last_event_id=f"{epoch(first)}-0").open()
    assert [event.own_id for event in reader.take(30)] == ids
    # After the newest: only what comes.
    reader = read(last_event_id=ids[-1]).open()
    last = stream.publish("new")
    assert reader.next().own_id == last


@pytest.mark.parametrize("on_lag", ["skip", "latest", "disconnect"])
def test_a_replay_longer_than_max_lag_and_than_any_socket_buffer_is_whole(
    server: sse_fast.Server, read: Open, on_lag: Any
) -> None:
    """A replay fills the socket; that is not lag, because nothing is published during it."""
    stream = server.stream("s", history=2000, history_bytes=32 << 20, max_lag=16, on_lag=on_lag)
    ids = [stream.publish("x" * 8000) for _ in range(2000)]
    stream.end("over")
    reader = read(last_event_id=ids[1], receive_buffer=4096).open()
    events = reader.rest(60)
    assert [event.own_id for event in events[:-1]] == ids[2:]
    assert events[-1].data == "over"


def test_the_query_resumes_as_the_header_does(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    ids = [stream.publish(number) for number in range(5)]
    reader = read(f"/streams/s?last_event_id={ids[1]}").open()
    assert [event.own_id for event in reader.take(3)] == ids[2:]
    reader = read(f"/streams/s?token=x&last_event_id={ids[2]}&z=1").open()
    assert [event.own_id for event in reader.take(2)] == ids[3:]


def test_the_header_beats_the_query(server: sse_fast.Server, read: Open) -> None:
    """A browser keeps its URL and sends the newer id in the header when it reconnects."""
    stream = server.stream("s")
    ids = [stream.publish(number) for number in range(5)]
    reader = read(f"/streams/s?last_event_id={ids[0]}", last_event_id=ids[3]).open()
    assert reader.next().own_id == ids[4]


def test_a_reader_killed_at_every_event_misses_and_repeats_nothing(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")
    total = 200
    published: list[str] = []
    ahead = threading.Semaphore(
        8
    )  # The publisher stays so close to the reader that connections are cut while it goes on.

    def publish() -> None:
        for number in range(total):
            assert ahead.acquire(timeout=DEADLINE)
            published.append(stream.publish(number))
        published.append(stream.end("over"))

    thread = threading.Thread(target=publish)
    thread.start()
    seen: list[Event] = []
    last: str | None = None
    number = 0
    while not seen or seen[-1].event != "end":
        number += 1
        with Reader(server.port, last_event_id=last) as reader:
            reader.open()
            taken = reader.take(1 + number % 4 if len(seen) < total - 4 else 1)
            (reader.reset if number % 2 else reader.close)()
        seen += taken
        ahead.release(len(taken))
        last = taken[-1].last_event_id
    thread.join()
    assert [event.own_id for event in seen] == published
    assert [event.data for event in seen] == [*map(str, range(total)), "over"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.integers(1, 12),
    published=st.integers(0, 25),
    after=st.integers(0, 25),
    more=st.integers(0, 5),
    snapshot_at=st.one_of(st.none(), st.integers(0, 25)),
)
def test_what_a_resuming_reader_gets_follows_from_the_contract(
    server: sse_fast.Server, history: int, published: int, after: int, more: int, snapshot_at: int | None
) -> None:
    """Against a model in ten lines, over real sockets."""
    name = f"model-{time.monotonic_ns()}"
    stream = server.stream(name, history=history, max_lag=history, start="new")
    after = min(after, published)
    for number in range(published + 1):
        if number:
            stream.publish(number)
        if snapshot_at is not None and number == min(snapshot_at, published):
            stream.snapshot(f"snapshot {number}")
    probe = stream.last_id or ""
    life = epoch(probe) if probe else ""
    if not life:
        stream.publish("a life needs an event to be told")
        published, life = 1, epoch(stream.last_id or "")
    with Reader(server.port, f"/streams/{name}", last_event_id=f"{life}-{after}") as reader:
        reader.open()
        for number in range(more):
            stream.publish(published + number + 1)
        stream.end("over")
        events = reader.rest()
    oldest = max(1, published + 1 - history)
    assert events[-1].event == "end"
    if after + 1 >= oldest:
        # Within history: right after it, snapshot or not.
        assert [position(event.own_id or "") for event in events] == list(range(after + 1, published + more + 2))
    else:
        gap, *rest = events
        assert gap.event == "gap"
        assert position(gap.json()["from"]) == after + 1
        # A snapshot older than what the reader has would set it back: it is left out.
        snapshots = [event.event for event in rest].count("snapshot")
        assert snapshots == (snapshot_at is not None and min(snapshot_at, published) >= after)
        if snapshots:
            assert rest[0].event == "snapshot"
        else:
            assert gap.json()["skipped"] == oldest - 1 - after
        assert told_up_to(events, after) == published + more + 1


def told_up_to(events: list[Event], at: int) -> int:
    """Walk from a position: each event is the next one, given, covered by a snapshot, or announced as missing."""
    for event in events:
        if event.event == "gap":
            gap = event.json()
            assert event.own_id is None
            assert position(gap["from"]) == at + 1
            assert position(gap["to"]) == at + gap["skipped"]
            at += gap["skipped"]
        elif event.event == "snapshot":
            at = max(at, position(event.own_id or ""))
        else:
            assert position(event.own_id or "") == at + 1, f"{event} does not follow position {at} in {events}"
            at += 1
    return at


# ---- Outside history ---------------------------------------------------------------------


def test_an_id_older_than_history_gets_gap_snapshot_and_tail(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=5, max_lag=5)
    ids = [stream.publish(number) for number in range(10)]
    stream.snapshot("state after ten")
    tail = [stream.publish(number) for number in range(10, 12)]
    reader = read(last_event_id=ids[1]).open()
    gap, snapshot, *rest = reader.take(4)
    assert gap.event == "gap"
    assert gap.own_id is None
    assert gap.json()["skipped"] > 0
    assert (snapshot.event, snapshot.data, snapshot.own_id) == ("snapshot", "state after ten", ids[-1])
    assert [event.own_id for event in rest] == tail


def test_an_id_within_history_skips_the_snapshot(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    ids = [stream.publish(number) for number in range(5)]
    stream.snapshot("state")
    reader = read(last_event_id=ids[2]).open()
    assert [event.own_id for event in reader.take(2)] == ids[3:]


@pytest.mark.parametrize(
    "strange",
    [
        "zzzzzz-3",
        "0-0",
        "nonsense",
        "-",
        "-1",
        "1-",
        "--",
        "1.5",
        "a" * 5000,
        "x-99999999999999999999999",
        "\u00e9\u00e8",
        "00-01",
        "<script>",
        "a, b",
        "\t",
        "%00",
        "'; drop table",
    ],
)
@pytest.mark.parametrize("with_snapshot", [False, True])
def test_another_epoch_or_an_unreadable_id_gets_an_unknown_gap_then_what_a_new_subscriber_gets(
    server: sse_fast.Server, read: Open, strange: str, with_snapshot: bool
) -> None:
    stream = server.stream("s", start="last")
    ids = [stream.publish(number) for number in range(3)]
    if with_snapshot:
        stream.snapshot("state")
    reader = read(headers=[("Last-Event-ID", strange)]).open()
    if strange.strip():
        gap = reader.next()
        assert gap.event == "gap"
        assert gap.json()["skipped"] is None
        assert gap.own_id is None
    first = reader.next()
    assert (first.event, first.own_id) == ("snapshot" if with_snapshot else "message", ids[-1])


def test_an_id_from_the_future_of_this_epoch_is_unreadable_not_an_error(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", start="all")
    first = stream.publish("a")
    reader = read(last_event_id=f"{epoch(first)}-999").open()
    gap, event = reader.take(2)
    assert (gap.event, gap.json()["skipped"]) == ("gap", None)
    assert event.own_id == first


def test_an_empty_last_event_id_is_none(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", start="all")
    first = stream.publish("a")
    for reader in (read(last_event_id=""), read("/streams/s?last_event_id=")):
        assert reader.open().next().own_id == first


# ---- The caller's own ids ----------------------------------------------------------------


def test_the_caller_s_own_ids_are_resumable(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    for name in ("alpha", "beta", "gamma"):
        assert stream.publish(name, id=f"order/{name} №1") == f"order/{name} №1"
    generated = stream.publish("delta")
    assert position(generated) == 4, "n counts every event of the stream"
    with Reader(
        server.port,
        raw="".join(
            [
                "GET /streams/s HTTP/1.1\r\n",
                f"Host: 127.0.0.1:{server.port}\r\n",
                "Last-Event-ID: order/alpha №1\r\n\r\n",
            ]
        ).encode(),
    ) as reader:
        reader.open()
        assert [event.data for event in reader.take(3)] == ["beta", "gamma", "delta"]
    reader = read(last_event_id=generated).open()
    stream.publish("epsilon", id="e")
    assert reader.next().own_id == "e"
    assert stream.last_id == "e"


@pytest.mark.parametrize("own", ["\x01", "a\x1f", "ab\x7f", " lead", "trail ", "\t", "a\t"], ids=repr)
def test_an_own_id_that_no_header_brings_back_is_refused(server: sse_fast.Server, own: str) -> None:
    stream = server.stream("s")
    with pytest.raises(sse_fast.SseFastError, match=r"id.*position \d+.*Last-Event-ID") as caught:
        stream.publish("x", id=own)
    assert isinstance(caught.value, ValueError)
    assert stream.publish("x").endswith("-1"), "nothing was published"


@pytest.mark.parametrize("own", ["a b", "a\tb", "№ 1"])
def test_an_own_id_with_blanks_inside_is_resumed(server: sse_fast.Server, own: str) -> None:
    stream = server.stream("s", start="all")
    assert stream.publish("first", id=own) == own
    stream.publish("second")
    head = f"GET /streams/s HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nLast-Event-ID: {own}\r\n\r\n"
    with Reader(server.port, raw=head.encode()) as reader:
        assert reader.open().next().data == "second"


def test_of_equal_own_ids_the_newest_counts(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    for number in range(4):
        stream.publish(number, id="same" if number in {0, 2} else None)
    assert read(last_event_id="same").open().next().data == "3"


def test_an_own_id_that_history_has_forgotten_is_an_unknown_gap(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=2, max_lag=2, start="all")
    for number in range(5):
        stream.publish(number, id=f"own {number}")
    gap, *rest = read(last_event_id="own 0").open().take(3)
    assert (gap.event, gap.json()["skipped"]) == ("gap", None)
    assert [event.own_id for event in rest] == ["own 3", "own 4"]


# ---- A new subscriber --------------------------------------------------------------------


@pytest.mark.parametrize(("start", "expected"), [("new", []), ("last", [4]), ("all", [0, 1, 2, 3, 4])])
def test_start_says_what_a_new_subscriber_gets_first(
    server: sse_fast.Server, read: Open, start: Any, expected: list[int]
) -> None:
    stream = server.stream("s", start=start)
    for number in range(5):
        stream.publish(number)
    reader = read().open()
    stream.publish("live")
    assert [event.data for event in reader.take(len(expected) + 1)] == [*map(str, expected), "live"]


@pytest.mark.parametrize("start", ["new", "last", "all"])
def test_a_snapshot_comes_first_and_covers_what_precedes_it(server: sse_fast.Server, read: Open, start: Any) -> None:
    stream = server.stream("s", start=start)
    for number in range(3):
        stream.publish(number)
    stream.snapshot("three")
    reader = read().open()
    stream.publish("live")
    assert [event.data for event in reader.take(2)] == ["three", "live"]
    # The tail since the snapshot belongs to it, whatever `start` says: without it the state would be wrong.
    assert [event.data for event in read().open().take(2)] == ["three", "live"]


def test_start_on_an_empty_stream_waits_for_the_first_event(server: sse_fast.Server, read: Open) -> None:
    for start in ("new", "last", "all"):
        stream = server.stream(start, start=start)  # type: ignore[arg-type]
        reader = read(f"/streams/{start}").open()
        stream.publish("first")
        assert reader.next().data == "first"


def test_start_all_gives_what_is_retained(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", start="all", history=3, max_lag=3)
    for number in range(8):
        stream.publish(number)
    stream.end("over")
    events = [event for event in read().open().rest() if event.event != "gap"]
    assert [event.data for event in events] == ["6", "7", "over"]


# ---- Snapshot and tail are atomic --------------------------------------------------------


def test_no_event_is_lost_or_doubled_between_snapshot_and_tail(server: sse_fast.Server) -> None:
    """A counter whose snapshot is its value: every subscriber must be able to rebuild it at any moment."""
    stream = server.stream("counter", history=4096, max_lag=4096)
    value, over = 0, False
    more = threading.Semaphore(1)  # So that the interpreter is left to the readers now and then.

    def count() -> None:
        nonlocal value
        while more.acquire() and not over:
            value += 1
            stream.publish(value, event="add", snapshot=value)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        until(lambda: value > 0)
        for _ in range(300):
            more.release(50)  # They are published while the reader comes.
            with Reader(server.port, "/streams/counter") as reader:
                reader.open()
                more.release(4)  # What it reads has to follow what it is given first.
                first, *tail = reader.take(4)
                assert first.event == "snapshot"
                assert position(first.own_id or "") == int(first.data)
                assert [int(event.data) for event in tail] == [int(first.data) + 1 + n for n in range(3)]
    finally:
        over = True
        more.release()
        thread.join()


# ---- The end -----------------------------------------------------------------------------


def test_an_ended_stream_replays_what_the_reader_lacks_then_closes(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", start="all")
    ids = [stream.publish(number) for number in range(4)]
    last = stream.end({"ok": True}, event="BENCHMARKED")
    assert [event.own_id for event in read().open().rest()] == [*ids, last]
    events = read(last_event_id=ids[1]).open().rest()
    assert [event.own_id for event in events] == [*ids[2:], last]
    assert events[-1].event == "BENCHMARKED"
    # The position right before the terminal event lacks only that one.
    assert [event.event for event in read(last_event_id=ids[-1]).open().rest()] == ["BENCHMARKED"]


@pytest.mark.parametrize("start", ["new", "last", "all"])
def test_a_late_reader_of_an_ended_stream_gets_at_least_the_terminal_event(
    server: sse_fast.Server, read: Open, start: Any
) -> None:
    stream = server.stream("s", start=start)
    stream.publish("before")
    stream.end("over")
    events = read().open().rest()
    assert events[-1].data == "over"
    assert len(events) == (2 if start == "all" else 1)


def test_who_already_has_the_terminal_event_gets_204(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.publish("a")
    last = stream.end("over")
    for path, headers in (("/streams/s", [("Last-Event-ID", last)]), (f"/streams/s?last_event_id={last}", [])):
        head, body = fetch(server.port, path, headers=headers)
        assert (head.status, body) == (204, b"")
        assert "transfer-encoding" not in head


def test_a_terminal_event_with_an_own_id_is_recognised_by_it(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.publish("a", id="one")
    stream.publish("b", id="two")
    last = stream.end("over")
    assert fetch(server.port, "/streams/s", headers=[("Last-Event-ID", last)])[0].status == 204
    assert fetch(server.port, "/streams/s", headers=[("Last-Event-ID", "two")])[0].status == 200


def test_the_connection_is_usable_after_a_204(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    last = stream.end("over")
    with Reader(server.port, last_event_id=last) as reader:
        assert reader.read_head().status == 204
        assert not reader.body


def test_an_ended_stream_lingers_then_is_forgotten(serve: Serve) -> None:
    server = serve(linger=0.3)
    stream = server.stream("s")
    stream.publish("a")
    stream.end("over")
    with Reader(server.port) as reader:
        assert reader.open().rest()[-1].data == "over"
    until(lambda: fetch(server.port, "/streams/s")[0].status == 404)
    until(lambda: server.streams() == [])
    fresh = server.stream("s")
    assert not fresh.ended
    fresh.publish("a new life")


def test_a_reader_that_connects_in_the_moment_of_the_end_always_gets_it(server: sse_fast.Server) -> None:
    for number in range(150):
        name = f"race-{number}"
        stream = server.stream(name, start="all")
        stream.publish("a")
        ender = threading.Thread(target=stream.end, args=("over",))
        with Reader(server.port, f"/streams/{name}") as reader:
            ender.start()
            assert [event.data for event in reader.open().rest()] == ["a", "over"]
        ender.join()


# ---- Lives of a name ---------------------------------------------------------------------


def test_a_removed_stream_is_404_and_its_next_life_has_a_new_epoch(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", start="all")
    old = [stream.publish(number) for number in range(3)]
    subscribed = read().open()
    subscribed.take(3)
    stream.remove()
    subscribed.read_eof()
    assert fetch(server.port, "/streams/s")[0].status == 404
    assert server.streams() == []
    again = server.stream("s", start="all")
    new = again.publish("new life")
    assert epoch(new) != epoch(old[0])
    assert position(new) == 1
    gap, event = read(last_event_id=old[1]).open().take(2)
    assert (gap.event, gap.json()["skipped"]) == ("gap", None)
    assert event.own_id == new


def test_publishing_into_a_removed_stream_is_an_error(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.remove()
    with pytest.raises(sse_fast.StreamEnded):
        stream.publish("x")
    stream.remove()


def test_a_restarted_server_has_another_epoch(serve: Serve) -> None:
    first = serve()
    old = first.stream("s").publish("a")
    first.close(drain=0)
    second = serve(start="all")
    new = second.stream("s").publish("b")
    assert epoch(new) != epoch(old)
    with Reader(second.port, last_event_id=old) as reader:
        gap, event = reader.open().take(2)
        assert (gap.event, gap.json()["skipped"], event.own_id) == ("gap", None, new)


def test_an_idle_stream_with_expire_is_forgotten(serve: Serve) -> None:
    server = serve()
    kept = server.stream("kept")
    gone = server.stream("gone", expire=0.3)
    with Reader(server.port, "/streams/gone") as reader:
        reader.open()
        reader.assert_silent(1.0)
        assert gone.name in {stream.name for stream in server.streams()}
    until(lambda: [stream.name for stream in server.streams()] == ["kept"])
    kept.publish("still open")
