"""The exact bytes of events, heartbeats, gaps and snapshots.

Guards the wire contract: field order, line ends, chunk framing, where `retry:`
goes, which events carry ids, and that nothing invalid is ever written.

Long, because every field of an event is tried with every value that may, or may not, be written.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sse_fast
from conftest import Open, Serve
from support.reader import Reader

# ---- One event ---------------------------------------------------------------------------


def only_event(reader: Reader) -> bytes:
    """The bytes of the first event and nothing else."""
    reader.open().next()
    return bytes(reader.body)


@pytest.mark.parametrize(
    ("data", "options", "wire"),
    [
        ("hello", {}, b"id: %ID\ndata: hello\n\n"),
        ("hello", {"event": "greeting"}, b"event: greeting\nid: %ID\ndata: hello\n\n"),
        ("hello", {"event": "e", "id": "own-7", "retry": 1.5}, b"event: e\nid: own-7\nretry: 1500\ndata: hello\n\n"),
        ("hello", {"retry": 0}, b"id: %ID\nretry: 0\ndata: hello\n\n"),
        ("hello", {"event": "größe ✓"}, "event: größe ✓\nid: %ID\ndata: hello\n\n".encode()),
        ("a\nb", {}, b"id: %ID\ndata: a\ndata: b\n\n"),
        ("a\rb", {}, b"id: %ID\ndata: a\ndata: b\n\n"),
        ("a\r\nb", {}, b"id: %ID\ndata: a\ndata: b\n\n"),
        ("a\n\rb", {}, b"id: %ID\ndata: a\ndata: \ndata: b\n\n"),
        ("a\n", {}, b"id: %ID\ndata: a\ndata: \n\n"),
        ("\n", {}, b"id: %ID\ndata: \ndata: \n\n"),
        ("", {}, b"id: %ID\ndata: \n\n"),
        (" one leading space", {}, b"id: %ID\ndata:  one leading space\n\n"),
        ("id: 7\nevent: evil", {}, b"id: %ID\ndata: id: 7\ndata: event: evil\n\n"),
        (": not a comment", {}, b"id: %ID\ndata: : not a comment\n\n"),
        ("\ufeffbom inside", {}, "id: %ID\ndata: \ufeffbom inside\n\n".encode()),
        ("nul \0 in data", {}, b"id: %ID\ndata: nul \0 in data\n\n"),
        ("next\u0085line\u2028separator\u2029", {}, "id: %ID\ndata: next\u0085line\u2028separator\u2029\n\n".encode()),
        (b"bytes\r\ntoo", {}, b"id: %ID\ndata: bytes\ndata: too\n\n"),
        ({"status": "COMPILING"}, {}, b'id: %ID\ndata: {"status":"COMPILING"}\n\n'),
        (["a", 1, None, True, 1.5], {}, b'id: %ID\ndata: ["a",1,null,true,1.5]\n\n'),
        (None, {}, b"id: %ID\ndata: null\n\n"),
        (0, {}, b"id: %ID\ndata: 0\n\n"),
        ({"text": "ä\n\u0085\u2028\u2029"}, {}, 'id: %ID\ndata: {"text":"ä\\n\\u0085\\u2028\\u2029"}\n\n'.encode()),
        ({"\u2028": 1}, {}, b'id: %ID\ndata: {"\\u2028":1}\n\n'),
    ],
)
def test_an_event_has_exactly_these_bytes(
    server: sse_fast.Server, read: Open, data: Any, options: dict[str, Any], wire: bytes
) -> None:
    reader = read().open()
    event_id = server.stream("s").publish(data, **options)
    assert only_event(reader) == normal(wire.replace(b"%ID", event_id.encode()), reader)


def normal(expected: bytes, reader: Reader) -> bytes:
    """An empty data line may be written with or without its optional space; both read the same."""
    body = bytes(reader.body)
    if b"data:\n" in body:
        return re.sub(rb"data: \n", b"data:\n", expected)
    return expected


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("\r\n \0:\u0085\u2028\ufeff"))))
def test_any_text_reads_back_with_line_ends_made_one(server: sse_fast.Server, text: str) -> None:
    stream = server.stream("any-text", start="new")
    with Reader(server.port, "/streams/any-text") as reader:
        reader.open()
        event_id = stream.publish(text)
        event = reader.next()
        assert event.data == text.replace("\r\n", "\n").replace("\r", "\n")
        assert event.own_id == event_id
        assert b"\r" not in reader.body


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from('\u0085\u2028\u2029"\\'))),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
        ),
        max_leaves=12,
    ).filter(lambda value: not isinstance(value, str))
)
def test_any_json_value_reads_back_and_takes_one_line(server: sse_fast.Server, value: Any) -> None:
    stream = server.stream("any-json", start="new")
    with Reader(server.port, "/streams/any-json") as reader:
        reader.open()
        stream.publish(value)
        event = reader.next()
        assert json.loads(event.data) == value
        # The line also survives clients that split with str.splitlines.
        assert len(event.data.splitlines()) == 1


# ---- Framing -----------------------------------------------------------------------------


def test_chunks_hold_whole_events_and_the_body_ends_with_the_last_chunk(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    reader = read().open()
    for number in range(50):
        stream.publish("x" * number, event="n")
    stream.end({"done": True})
    events = reader.rest()
    assert [event.event for event in events] == ["n"] * 50 + ["end"]
    assert len(reader.chunks) == 51
    assert all(chunk.endswith(b"\n\n") for chunk in reader.chunks)
    reader.read_eof()
    assert reader.received.endswith(b"\r\n0\r\n\r\n")


def test_a_close_delimited_response_has_no_chunk_framing(serve: Serve) -> None:
    server = serve(chunked=False)
    stream = server.stream("s")
    with Reader(server.port) as reader:
        head = reader.open().head
        assert head is not None
        assert "transfer-encoding" not in head
        assert "content-length" not in head
        assert head["connection"].lower() == "close"
        first = stream.publish("a")
        last = stream.end("b")
        reader.read_eof()
        assert bytes(reader.body) == f"id: {first}\ndata: a\n\nevent: end\nid: {last}\ndata: b\n\n".encode()


def test_http_1_0_gets_no_chunks(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    reader = read(version="HTTP/1.0").open()
    assert reader.head is not None
    assert "transfer-encoding" not in reader.head
    event_id = stream.end("bye")
    reader.read_eof()
    assert bytes(reader.body) == f"event: end\nid: {event_id}\ndata: bye\n\n".encode()


def test_ids_count_from_one_under_one_epoch(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    assert stream.last_id is None or stream.last_id.endswith("-0")
    reader = read().open()
    ids = [stream.publish(number) for number in range(5)]
    epoch = ids[0].rpartition("-")[0]
    assert epoch
    assert ids == [f"{epoch}-{number}" for number in range(1, 6)]
    assert [event.own_id for event in reader.take(5)] == ids
    assert stream.last_id == ids[-1]
    # A short printable id needs no preflight when a browser sends it back to another origin.
    assert all(re.fullmatch(r"[!-~]{1,64}", event_id) for event_id in ids)


def test_without_ids_no_event_carries_one(serve: Serve) -> None:
    server = serve()
    stream = server.stream("s", ids=False)
    with Reader(server.port) as reader:
        reader.open()
        stream.publish("a", event="e")
        stream.end("b")
        reader.rest()
        assert bytes(reader.body) == b"event: e\ndata: a\n\nevent: end\ndata: b\n\n"


# ---- retry -------------------------------------------------------------------------------


def test_the_stream_s_retry_is_a_line_of_the_first_event(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", retry=2.5)
    reader = read().open()
    first = stream.publish("a")
    second = stream.publish("b")
    reader.take(2)
    assert bytes(reader.body) == f"retry: 2500\nid: {first}\ndata: a\n\nid: {second}\ndata: b\n\n".encode()


def test_every_subscriber_gets_retry_ahead_of_its_own_first_event(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", retry=1.0, start="all")
    ids = [stream.publish(number) for number in range(3)]
    everything = read().open()
    resumed = read(last_event_id=ids[1]).open()
    assert [event.retry for event in everything.take(3)] == [1000, None, None]
    assert resumed.next().retry == 1000
    assert bytes(resumed.body).startswith(f"retry: 1000\nid: {ids[2]}\n".encode())


def test_retry_with_heartbeats_never_makes_a_block_of_its_own(serve: Serve) -> None:
    for ids in (True, False):
        server = serve()
        stream = server.stream("s", retry=1.0, heartbeat=0.05, ids=ids)
        with Reader(server.port) as reader:
            reader.open()
            reader.read_until(lambda r=reader: len(r.parser.comments) >= 2, what="heartbeats")
            stream.publish("x")
            event = reader.next()
            assert event.retry == 1000
            blocks = bytes(reader.body).split(b"\n\n")
            assert not [block for block in blocks if b"retry" in block and b"data" not in block]


# ---- Heartbeats --------------------------------------------------------------------------


def test_a_heartbeat_is_one_comment_line_without_a_blank_one(server: sse_fast.Server, read: Open) -> None:
    server.stream("s", heartbeat=0.05)
    reader = read().open()
    reader.read_until(lambda: len(reader.parser.comments) >= 3, what="three heartbeats")
    assert bytes(reader.body) == b": heartbeat\n" * len(reader.parser.comments)


def test_without_ids_a_heartbeat_has_its_blank_line(server: sse_fast.Server, read: Open) -> None:
    server.stream("s", heartbeat=0.05, ids=False)
    reader = read().open()
    reader.read_until(lambda: len(reader.parser.comments) >= 3, what="three heartbeats")
    assert bytes(reader.body) == b": heartbeat\n\n" * len(reader.parser.comments)


def test_a_named_heartbeat_is_an_event_without_id(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=0.05, heartbeat_event="heartbeat")
    reader = read().open()
    first, second = reader.take(2)
    assert bytes(reader.body[: bytes(reader.body).index(b"\n\n") + 2]) == (
        f"event: heartbeat\ndata: {first.data}\n\n".encode()
    )
    assert first.event == "heartbeat"
    assert first.own_id is None
    assert list(first.json()) == ["timestamp"]
    assert isinstance(first.json()["timestamp"], int)
    assert second.json()["timestamp"] > first.json()["timestamp"] > 1_600_000_000_000
    event_id = stream.publish("x")
    reader.read_until(lambda: any(event.data == "x" for event in reader.parser.events), what="event")
    later = reader.take(len(reader.parser.events) - 2)
    assert [event.own_id for event in later if event.event != "heartbeat"] == [event_id]
    assert event_id.endswith("-1"), "heartbeats must not count as events"


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_a_heartbeat_comment_must_be_one_line(server: sse_fast.Server, bad: str) -> None:
    stream = server.stream("s")
    with pytest.raises(ValueError, match="comment"), stream.heartbeat(every=1.0, comment=bad):
        pass


# ---- Gaps and snapshots ------------------------------------------------------------------

GAP = re.compile(rb'event: gap\ndata: \{"skipped": ?(\d+|null), ?"from": ?("[^"]*"|null), ?"to": ?("[^"]*"|null)\}\n\n')


def test_a_gap_is_announced_before_what_follows_it(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=4, max_lag=4)
    ids = [stream.publish(number) for number in range(10)]
    reader = read(last_event_id=ids[0]).open()
    gap, *tail = reader.take(5)
    match = GAP.match(bytes(reader.body))
    assert match, bytes(reader.body)
    assert gap.json() == {"skipped": 5, "from": ids[1], "to": ids[5]}
    assert gap.own_id is None
    assert [event.own_id for event in tail] == ids[6:]


def test_an_unreadable_position_is_a_gap_of_unknown_size(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    stream.publish("before")
    reader = read(last_event_id="what is this").open()
    stream.publish("after")
    gap, after = reader.take(2)
    assert GAP.match(bytes(reader.body)), bytes(reader.body)
    assert gap.event == "gap"
    assert gap.json()["skipped"] is None
    assert gap.own_id is None
    assert after.data == "after"


def test_a_snapshot_carries_the_id_of_its_position(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    stream.publish(1)
    second = stream.publish(2)
    stream.snapshot({"sum": 3})
    third = stream.publish(3)
    reader = read().open()
    reader.take(2)
    assert bytes(reader.body) == (
        f'event: snapshot\nid: {second}\ndata: {{"sum":3}}\n\nid: {third}\ndata: 3\n\n'.encode()
    )


def test_a_snapshot_before_anything_was_published_stands_at_zero(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    stream.snapshot("empty", event="initial")
    reader = read().open()
    snapshot = reader.next()
    first = stream.publish("x")
    epoch = first.rpartition("-")[0]
    assert bytes(reader.body) == f"event: initial\nid: {epoch}-0\ndata: empty\n\n".encode()
    assert snapshot.own_id == f"{epoch}-0"


def test_publish_with_snapshot_sets_both_in_one_step(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s")
    event_id = stream.publish({"add": 1}, event="change", snapshot={"sum": 1})
    reader = read().open()
    later = stream.publish({"add": 2}, event="change", snapshot={"sum": 3})
    snapshot, change = reader.take(2)
    assert (snapshot.event, snapshot.data, snapshot.own_id) == ("snapshot", '{"sum":1}', event_id)
    assert (change.event, change.data, change.own_id) == ("change", '{"add":2}', later)


# ---- The terminal event ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "event", "data"),
    [
        ((), {}, "end", None),
        (("bye",), {}, "end", "bye"),
        (({"s": 1},), {"event": "BENCHMARKED"}, "BENCHMARKED", '{"s":1}'),
    ],
)
def test_the_terminal_event_always_carries_data_and_its_blank_line(
    server: sse_fast.Server,
    read: Open,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    event: str,
    data: str | None,
) -> None:
    stream = server.stream("s")
    reader = read().open()
    event_id = stream.end(*arguments, **options)
    (terminal,) = reader.rest()
    assert (terminal.event, terminal.own_id) == (event, event_id)
    if data is not None:
        assert terminal.data == data
    assert re.search(rb"\ndata: ?\S", bytes(reader.body)), "a terminal event without data is invisible to browsers"
    assert bytes(reader.body).endswith(b"\n\n")


# ---- What is refused ---------------------------------------------------------------------

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        *[
            ({"data": "x", field: bad}, field)
            for field in ("event", "id")
            for bad in ("a\nb", "a\rb", "a\0b", "\n", "ab\r\n")
        ],
        ({"data": "x", "id": ""}, "id"),
        ({"data": "x", "id": "x" * 100_000}, "id"),
        ({"data": "x", "retry": -1}, "retry"),
        ({"data": "x", "retry": -0.001}, "retry"),
        ({"data": "x", "retry": float("nan")}, "retry"),
        ({"data": "x", "retry": float("inf")}, "retry"),
        ({"data": "x", "retry": 3600.001}, "retry: 3600.001 is above 3600: it is in seconds, not milliseconds"),
        ({"data": "x", "retry": 5000}, "not milliseconds"),
        ({"data": b"ab\xff"}, "data"),
        ({"data": b"\xed\xa0\x80"}, "data"),
        ({"data": "x" * (MEBIBYTE + 1)}, "data"),
        ({"data": b"x" * (MEBIBYTE + 1)}, "data"),
        ({"data": ["x" * MEBIBYTE]}, "data"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_bad_argument_is_a_value_error_naming_it_and_nothing_is_written(
    server: sse_fast.Server, read: Open, arguments: dict[str, Any], field: str
) -> None:
    stream = server.stream("s")
    reader = read().open()
    with pytest.raises(ValueError, match=field) as caught:
        stream.publish(**arguments)
    assert isinstance(caught.value, sse_fast.SseFastError)
    assert len(str(caught.value)) < 1000, "the message must not repeat a megabyte"
    good = stream.publish("good")
    assert good.endswith("-1")
    assert reader.next().data == "good"
    assert bytes(reader.body) == f"id: {good}\ndata: good\n\n".encode()


@pytest.mark.parametrize(
    ("field", "bad", "position"),
    [("event", "ab\ncd", 2), ("id", "abc\rd", 3), ("id", "\0", 0), ("event", "äö\0", None)],
)
def test_the_error_names_the_position(server: sse_fast.Server, field: str, bad: str, position: int | None) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        server.stream("s").publish("x", **{field: bad})
    assert re.search(r"\d", str(caught.value))
    if position is not None:
        assert re.search(rf"\b{position}\b", str(caught.value)), caught.value


def test_an_event_too_large_with_its_name_says_which_of_the_two_is(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    with pytest.raises(ValueError, match=rf"^data.*\b{MEBIBYTE}\b.*\b{MEBIBYTE - 10}\b"):
        stream.publish("x" * MEBIBYTE, event="e" * 10)
    with pytest.raises(ValueError, match=rf"^event.*\b{MEBIBYTE}\b.*\b{MEBIBYTE - 1}\b"):
        stream.publish("x", event="e" * MEBIBYTE)


def test_invalid_utf_8_is_named_with_its_position(server: sse_fast.Server) -> None:
    with pytest.raises(ValueError, match=r"data.*\b3\b"):
        server.stream("s").publish(b"abc\xff\xfe")


def test_what_has_no_json_is_a_type_error(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    with pytest.raises(TypeError):
        stream.publish(object())
    assert stream.publish("good").endswith("-1")


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_snapshot_and_end_refuse_the_same(server: sse_fast.Server, read: Open, bad: str) -> None:
    stream = server.stream("s")
    reader = read().open()
    with pytest.raises(ValueError, match="event"):
        stream.snapshot("x", event=bad)
    with pytest.raises(ValueError, match="event"):
        stream.end("x", event=bad)
    assert not stream.ended
    stream.publish("good")
    assert reader.next().data == "good"


def test_an_event_of_almost_a_mebibyte_goes_out_whole(server: sse_fast.Server, read: Open) -> None:
    data = "ä" * (MEBIBYTE // 2 - 1024)
    reader = read().open()
    server.stream("s").publish(data)
    assert reader.next().data == data
