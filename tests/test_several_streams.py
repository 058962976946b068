"""Several streams over one connection: `GET /streams?name=a&name=b`.

Guards the ids of such a connection and what a reader resumes with them, over real sockets: every cut between two
events, names that are added, lost, unknown and made later, streams that end, and the JSON form of the same request.

Long, because each of these is a test of a few lines, and all of them read the same ids.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import until
from support.reader import Reader, fetch
from support.sse import Event

BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def path_of(names: Iterable[str]) -> str:
    return "/streams?" + "&".join(f"name={quote(name, safe='')}" for name in names)


def life(name: str, own_id: str) -> str:
    """The seven digits that ids know a life by, worked out from the stream's own id as the reference says."""
    epoch = own_id.rpartition("-")[0]
    number = int.from_bytes(hashlib.sha256(f"{name}\0{epoch}".encode()).digest()[:8], "big") % 36**7
    digits = ""
    for _ in range(7):
        number, digit = divmod(number, 36)
        digits = BASE_36[digit] + digits
    return digits


def source_of(event: Event) -> int:
    assert event.own_id is not None
    return int(event.own_id.partition("_")[0], 36)


def entries_of(event: Event) -> list[str]:
    assert event.own_id is not None
    return event.own_id.partition("_")[2].split("~")


def poll(port: int, names: Iterable[str], last_event_id: str | None = None) -> dict[str, Any]:
    headers = [("Accept", "application/json")]
    if last_event_id is not None:
        headers.append(("Last-Event-ID", last_event_id))
    head, body = fetch(port, path_of(names), headers=headers)
    assert head.status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


# ---- Ids ---------------------------------------------------------------------------------


def test_each_event_says_where_its_reader_is_with_every_name(server: sse_fast.Server, read: Open) -> None:
    a, b = server.stream("a"), server.stream("b/c", ids=False)
    begun = a.publish("before")
    b.publish("before")
    reader = read(path_of(["a", "b/c"])).open()
    until(lambda: a.subscribers == b.subscribers == 1)
    first = life("a", begun)
    a.publish("1", event="tick")
    second = entries_of(tick := reader.next())[1]
    assert (tick.event, tick.data, tick.own_id) == ("tick", "1", f"0_{first}-2~{second}")
    assert second.endswith("-1")
    assert second[:7] != first
    b.publish("2")
    assert reader.next().own_id == f"1_{first}-2~{second[:-1]}2"
    # The line stands before the event's name, and the stream's own id is not sent.
    assert b"id: 0_" + f"{first}-2~{second}".encode() + b"\nevent: tick\ndata: 1\n\n" in bytes(reader.body)
    assert begun.partition("-")[0].encode() not in bytes(reader.body)


def test_a_cut_after_any_event_loses_and_doubles_nothing(server: sse_fast.Server, read: Open) -> None:
    names = ["a", "b", "c"]
    streams = [server.stream(name, start="all") for name in names]
    for number in range(12):
        streams[number % 3].publish(f"{number}")
    whole = read(path_of(names)).open().take(12)
    for cut, event in enumerate(whole[:-1]):
        reader = read(path_of(names), last_event_id=event.own_id).open()
        rest = reader.take(11 - cut)
        for name in range(3):
            got = [other.data for other in [*whole[: cut + 1], *rest] if source_of(other) == name]
            assert got == [str(number) for number in range(12) if number % 3 == name]
        reader.close()


def test_a_snapshot_carries_the_connection_s_id_and_comes_again_where_it_was_not_reached(
    server: sse_fast.Server, read: Open
) -> None:
    for name in ("a", "b"):
        stream = server.stream(name)
        stream.snapshot({"of": name})
        stream.publish(f"{name}1")
    reader = read(path_of(["a", "b"])).open()
    events = reader.take(4)
    assert sorted((source_of(event), event.event) for event in events) == [
        (0, "message"), (0, "snapshot"), (1, "message"), (1, "snapshot"),
    ]  # fmt: skip
    # A reader that has only the first of a has b's snapshot still to come.
    assert (events[0].event, entries_of(events[0])[1]) == ("snapshot", "-")
    again = read(path_of(["a", "b"]), last_event_id=events[0].own_id).open().take(3)
    assert [(source_of(event), event.event) for event in again] == [(0, "message"), (1, "snapshot"), (1, "message")]


def test_a_gap_names_its_stream_and_has_no_id(server: sse_fast.Server, read: Open) -> None:
    a, b = server.stream('a "quoted"', history=2, max_lag=2), server.stream("b")
    names = ['a "quoted"', "b"]
    reader = read(path_of(names)).open()
    until(lambda: b.subscribers == 1)
    b.publish("b1")
    last = reader.next().own_id
    reader.close()
    until(lambda: b.subscribers == 0)
    ids = [a.publish(f"{number}") for number in range(5)]
    gap, *events = read(path_of(names), last_event_id=last).open().take(3)
    assert (gap.event, gap.own_id, [event.data for event in events]) == ("gap", None, ["3", "4"])
    assert json.loads(gap.data) == {"skipped": 3, "from": ids[0], "to": ids[2], "stream": 'a "quoted"'}


# ---- Names that come and go -----------------------------------------------------------------


def test_names_are_found_wherever_they_stand_and_one_that_was_added_begins_as_new(
    server: sse_fast.Server, read: Open
) -> None:
    streams = {name: server.stream(name, start="all") for name in "abc"}
    for name, stream in streams.items():
        stream.publish(f"{name}1")
    last = read(path_of("ab")).open().take(2)[-1].own_id
    for name, stream in streams.items():
        stream.publish(f"{name}2")
    events = read(path_of("cba"), last_event_id=last).open().take(4)
    assert sorted(event.data for event in events) == ["a2", "b2", "c1", "c2"]
    assert not [event for event in events if event.event == "gap"]


@pytest.mark.parametrize("last", ["nonsense", "0_aaaaaaa-1", "1_aaaaaaa-1~bbbbbbb-1", "é", "0_" + "aaaaaaa-1~" * 800])
def test_an_id_that_is_not_theirs_is_a_gap_of_unknown_size_for_each(
    server: sse_fast.Server, read: Open, last: str
) -> None:
    for name in "ab":
        server.stream(name, start="all").publish(name)
    events = read(path_of("ab"), last_event_id=last).open().take(4)
    gaps = [json.loads(event.data) for event in events if event.event == "gap"]
    assert gaps == [{"skipped": None, "from": None, "to": None, "stream": name} for name in "ab"]
    assert [event.data for event in events if event.event != "gap"] == ["a", "b"]


def test_a_new_life_of_one_name_is_lost_and_the_others_go_on(server: sse_fast.Server, read: Open) -> None:
    a, b = server.stream("a", start="all"), server.stream("b", start="all")
    a.publish("a1")
    b.publish("b1")
    last = read(path_of("ab")).open().take(2)[-1].own_id
    a.remove()
    server.stream("a", start="all").publish("new life")
    b.publish("b2")
    gap, *events = read(path_of("ab"), last_event_id=last).open().take(3)
    assert (gap.event, json.loads(gap.data)["stream"]) == ("gap", "a")
    assert sorted(event.data for event in events) == ["b2", "new life"]


def test_a_name_that_is_not_known_is_404_without_an_id(serve: Serve) -> None:
    server = serve(settle=0)
    server.stream("a")
    for accept in ("text/event-stream", "application/json"):
        head, body = fetch(server.port, path_of(["a", "gone"]), headers=[("Accept", accept)])
        assert (head.status, json.loads(body)["error"]) == (404, "unknown_stream")
        assert "gone" in json.loads(body)["detail"]
    settling = serve()
    settling.stream("a")
    head, body = fetch(settling.port, path_of(["a", "gone"]), headers=[("Accept", "text/event-stream")])
    assert (head.status, body.startswith(b"retry: ")) == (200, True)


def test_with_an_id_the_known_ones_are_served_and_the_connection_ends_when_the_other_is_made(serve: Serve) -> None:
    server = serve(settle=0)
    a, b = server.stream("a"), server.stream("b", start="all")
    b.publish("b1")
    with Reader(server.port, path_of("ab")) as reader:
        last = reader.open().next()
    b.remove()
    until(lambda: a.subscribers == 0)
    with Reader(server.port, path_of("ab"), last_event_id=last.own_id) as reader:
        reader.open()
        until(lambda: a.subscribers == 1)
        a.publish("a1")
        event = reader.next()
        assert (event.data, entries_of(event)[1]) == ("a1", entries_of(last)[1])
        server.stream("b", start="all").publish("new life")
        assert reader.rest() == []
    with Reader(server.port, path_of("ab"), last_event_id=event.own_id) as reader:
        gap, again = reader.open().take(2)
        assert (json.loads(gap.data)["stream"], again.data) == ("b", "new life")


def test_a_stream_that_is_removed_ends_the_connection_so_that_its_reader_comes_back(
    server: sse_fast.Server, read: Open
) -> None:
    a, b = server.stream("a"), server.stream("b")
    reader = read(path_of("ab")).open()
    until(lambda: a.subscribers == b.subscribers == 1)
    a.publish("last of this life")
    a.remove()
    assert [event.data for event in reader.rest()] == ["last of this life"]
    until(lambda: b.subscribers == 0)


def test_requests_that_cannot_be_meant_are_refused(serve: Serve) -> None:
    server = serve(settle=0)
    server.stream("a")
    for path, status, error in (
        ("/streams", 400, "missing_parameter"),
        ("/streams?last_event_id=x", 400, "missing_parameter"),
        ("/streams?name=a&name=a", 400, "name_twice"),
        ("/streams?name=a&name=", 400, "bad_stream_name"),
        ("/streams?name=%00", 400, "bad_stream_name"),
        ("/streams?name=a&name=%ff", 400, "bad_request"),
        ("/streams?name=%ef%bf%bd&of-another-kind=x", 404, "unknown_stream"),
        ("/streams/?name=a&name=a", 400, "name_twice"),
        (path_of(str(number) for number in range(33)), 400, "too_many_names"),
    ):
        head, body = fetch(server.port, path)
        assert (head.status, json.loads(body)["error"]) == (status, error), path
    for path in ("/streams?name=a", "/streams/?name=a"):
        assert fetch(server.port, path, method="POST")[0].status == 405
        assert fetch(server.port, path, method="OPTIONS")[0].status == 204
        assert fetch(server.port, path, method="HEAD")[0].status == 200
        assert fetch(server.port, path, headers=[("Accept", "image/png")])[0].status == 406


def test_a_slash_at_the_end_of_the_path_changes_nothing(serve: Serve) -> None:
    server = serve(settle=0)
    for name in "ab":
        server.stream(name, start="all").publish(name)
        server.stream(name).end("over")
    for accept in ("text/event-stream", "application/json"):
        plain, slashed = (
            fetch(server.port, f"{path}?name=a&name=b", headers=[("Accept", accept)])
            for path in ("/streams", "/streams/")
        )
        assert (slashed[0].status, slashed[1]) == (plain[0].status, plain[1])
        assert b"over" in slashed[1]
    assert fetch(server.port, "/streams/")[0].status == 404
    # What the application has at the path is its own.
    server.get("/streams")(lambda _request: sse_fast.Response("no", 403))
    assert fetch(server.port, "/streams?name=a")[0].status == 403
    for path in ("/streams/?name=a", "/streams%2f?name=a", "/%73treams/?n%61me=a"):
        assert fetch(server.port, path)[0].status == 404


def test_a_route_of_the_application_comes_first(server: sse_fast.Server) -> None:
    server.get("/streams")(lambda request: {"own": request.query})
    head, body = fetch(server.port, "/streams?name=a")
    assert (head.status, json.loads(body)) == (200, {"own": {"name": "a"}})


def test_names_that_are_not_known_are_waited_for(serve: Serve) -> None:
    server = serve(settle=0, wait=20.0)
    a = server.stream("a", start="all")
    a.publish("a1")
    with Reader(server.port, path_of("ab")) as reader:
        reader.assert_silent(0.2)
        server.stream("b", start="all").publish("b1")
        assert sorted(event.data for event in reader.open().take(2)) == ["a1", "b1"]


# ---- Ends ----------------------------------------------------------------------------------


def test_an_ended_stream_drops_out_and_with_the_last_one_the_connection_ends(
    server: sse_fast.Server, read: Open
) -> None:
    a, b = server.stream("a"), server.stream("b")
    reader = read(path_of("ab")).open()
    until(lambda: a.subscribers == b.subscribers == 1)
    a.end("a ends")
    end = reader.next()
    assert (end.event, end.data, source_of(end)) == ("end", "a ends", 0)
    until(lambda: a.subscribers == 0)
    b.publish("b goes on")
    goes_on = reader.next()
    assert entries_of(goes_on)[0] == entries_of(end)[0]
    b.end("b ends")
    last = reader.rest()[-1]
    assert last.data == "b ends"
    # What is finished is not given again, and once all are the reader stays away.
    between = read(path_of("ab"), last_event_id=goes_on.own_id).open()
    assert [event.data for event in between.rest()] == ["b ends"]
    assert fetch(server.port, path_of("ab"), headers=[("Last-Event-ID", last.own_id or "")])[0].status == 204
    assert server.stats().resumes.finished == 1
    # A new reader gets both ends.
    assert sorted(event.data for event in read(path_of("ab")).open().rest()) == ["a ends", "b ends"]


def test_a_server_that_closes_gives_every_stream_s_events_first(serve: Serve) -> None:
    server = serve()
    streams = [server.stream(name) for name in "abc"]
    with Reader(server.port, path_of("abc")) as reader:
        reader.open()
        until(lambda: all(stream.subscribers for stream in streams))
        for stream in streams:
            stream.publish(stream.name)
        closing = threading.Thread(target=server.close, kwargs={"drain": 10.0})
        closing.start()
        assert sorted(event.data for event in reader.rest()) == ["a", "b", "c"]
        closing.join()


def read_before_one_is_removed(server: sse_fast.Server) -> tuple[sse_fast.Stream, str]:
    """The stream that stays, and the id of a reader of both that comes back."""
    a, b = server.stream("a", start="all"), server.stream("b", start="all")
    a.publish("a1")
    with Reader(server.port, path_of("ab")) as reader:
        last = reader.open().next().own_id
    b.remove()
    assert last is not None
    return a, last


def test_closing_does_not_wait_for_a_name_that_is_not_known(serve: Serve) -> None:
    server = serve(settle=0)
    a, last = read_before_one_is_removed(server)
    with Reader(server.port, path_of("ab"), last_event_id=last) as reader:
        reader.open()
        until(lambda: a.subscribers == 1)
        a.publish("a2")
        server.close(drain=60.0)
        assert [event.data for event in reader.rest()] == ["a2"]


def test_a_name_that_is_not_known_keeps_its_reader_when_the_others_have_ended(serve: Serve) -> None:
    server = serve(settle=0)
    a, last = read_before_one_is_removed(server)
    with Reader(server.port, path_of("ab"), last_event_id=last) as reader:
        reader.open()
        until(lambda: a.subscribers == 1)
        a.end("a ends")
        end = reader.next()
        assert end.data == "a ends"
        reader.assert_silent(0.2)
        # One that was cut off in between comes back to the same.
        with Reader(server.port, path_of("ab"), last_event_id=end.own_id) as again:
            again.open()
            head, _ = fetch(server.port, path_of("ab"), method="HEAD", headers=[("Last-Event-ID", end.own_id or "")])
            assert head.status == 200
            again.assert_silent(0.2)
            server.stream("b", start="all").publish("new life")
            assert again.rest() == []
        assert reader.rest() == []
    with Reader(server.port, path_of("ab"), last_event_id=end.own_id) as reader:
        gap, event = reader.open().take(2)
        assert (gap.event, event.data) == ("gap", "new life")


def test_where_no_name_is_known_one_that_is_made_is_served_at_once_and_else_it_is_404(serve: Serve) -> None:
    server = serve(settle=0, wait=20.0, start="all")
    unknown = "0_0000000-1~0000001-1"
    with Reader(server.port, path_of("ab"), last_event_id=unknown) as reader:
        reader.assert_silent(0.2)
        b = server.stream("b")
        b.publish("b1")
        assert reader.open().take(2)[1].data == "b1"
    impatient = serve(settle=0, wait=0.2)
    head, body = fetch(impatient.port, path_of("ab"), headers=[("Last-Event-ID", unknown)])
    answer = json.loads(body)
    assert (head.status, answer["error"]) == (404, "unknown_stream")
    assert answer["waited"] >= 0.2


def test_a_reader_that_shuts_its_side_gets_what_there_is(server: sse_fast.Server, read: Open) -> None:
    for name in "ab":
        server.stream(name, start="all").publish(name)
    reader = read(path_of("ab")).open()
    reader.socket.shutdown(1)
    assert sorted(event.data for event in reader.rest()) == ["a", "b"]


# ---- Heartbeat, retry, framing ----------------------------------------------------------------


def test_one_heartbeat_for_the_connection_the_most_frequent_and_without_blank_line(
    server: sse_fast.Server, read: Open
) -> None:
    server.stream("a", heartbeat=0.2, ids=False)
    server.stream("b", heartbeat=60.0)
    server.stream("c", heartbeat=None)
    reader = read(path_of("abc")).open()
    reader.read_until(lambda: bytes(reader.body).count(b": heartbeat\n") >= 3, what="three heartbeats")
    assert bytes(reader.body) == b": heartbeat\n" * bytes(reader.body).count(b": heartbeat\n")


def test_retry_is_told_once_the_longest(server: sse_fast.Server, read: Open) -> None:
    for name, retry in (("a", 2.0), ("b", 5.0), ("c", None)):
        server.stream(name, retry=retry, start="all").publish(name)
    reader = read(path_of("abc")).open()
    reader.take(3)
    assert bytes(reader.body).count(b"retry:") == 1
    assert bytes(reader.body).startswith(b"retry: 5000\nid: 0_")


def test_a_client_of_http_1_0_and_the_setting_get_plain_bodies(server: sse_fast.Server) -> None:
    for name in "ab":
        server.stream(name, start="all").end(name)
    with Reader(server.port, path_of("ab"), version="HTTP/1.0") as reader:
        assert sorted(event.data for event in reader.open().rest()) == ["a", "b"]


# ---- Slow readers ------------------------------------------------------------------------------


def test_a_reader_that_stops_reading_is_told_what_each_stream_lost(serve: Serve) -> None:
    server = serve(publish_wait=0)
    streams = [server.stream(name, history=20, max_lag=20) for name in "ab"]
    with Reader(server.port, path_of("ab"), receive_buffer=4096) as reader:
        reader.open()
        until(lambda: all(stream.subscribers for stream in streams))
        data = "x" * 10_000
        for number, stream in itertools.product(range(1500), streams):
            stream.publish(f"{number} {data}")
        for stream in streams:
            stream.end("end")
        events = reader.rest()
    for index, name in enumerate("ab"):
        own = [event for event in events if event.event != "gap" and source_of(event) == index]
        gaps = [json.loads(event.data) for event in events if event.event == "gap"]
        gaps = [gap for gap in gaps if gap["stream"] == name]
        positions = [int(entries_of(event)[index].partition("-")[2]) for event in own]
        missing = [int(gap[key].rpartition("-")[2]) for gap in gaps for key in ("from", "to")]
        skipped = [
            position
            for first, last in zip(missing[::2], missing[1::2], strict=True)
            for position in range(first, last + 1)
        ]
        assert sorted(positions + skipped) == list(range(1, 1502))
        assert positions == sorted(positions)
        assert skipped, "a socket that takes 4 KiB is full"
        assert own[-1].data == "end"


# ---- The JSON form ------------------------------------------------------------------------------


def test_the_same_request_once_as_json(server: sse_fast.Server) -> None:
    a, b = server.stream("a", start="all"), server.stream("b/c", start="all")
    a.publish("a1", event="tick")
    b.publish("b1")
    b.snapshot({"b": 1})
    b.publish("b2")
    answer = poll(server.port, ["a", "b/c"])
    assert list(answer) == ["streams", "last_id", "ended", "more", "events"]
    about_a, about_b = answer["streams"]
    assert about_a == {"stream": "a", "known": True, "ended": False, "gap": None, "snapshot": None}
    assert (about_b["stream"], about_b["snapshot"]["data"], about_b["gap"]) == ("b/c", '{"b":1}', None)
    got = [(event["stream"], event["event"], event["data"]) for event in answer["events"]]
    assert got == [("a", "tick", "a1"), ("b/c", "message", "b2")]
    assert answer["events"][-1]["id"] == "1" + answer["last_id"][1:]
    nothing = poll(server.port, ["a", "b/c"], answer["last_id"])
    assert (nothing["events"], nothing["last_id"], nothing["more"]) == ([], answer["last_id"], False)
    # Polling and streaming go on after each other.
    a.end("a ends")
    with Reader(server.port, path_of(["a", "b/c"]), last_event_id=answer["last_id"]) as reader:
        end = reader.open().next()
        assert end.data == "a ends"
    after = poll(server.port, ["a", "b/c"], end.own_id)
    assert ([about["ended"] for about in after["streams"]], after["ended"], after["events"]) == (
        [True, False],
        False,
        [],
    )
    b.end("b ends")
    last = poll(server.port, ["a", "b/c"], end.own_id)
    assert ([event["data"] for event in last["events"]], last["ended"]) == (["b ends"], True)


def test_pages_of_several_streams_join_without_loss(server: sse_fast.Server) -> None:
    names = ["a", "b", "c"]
    for name in names:
        stream = server.stream(name, start="all", history=1000)
        stream.publish_many([sse_fast.Event(f"{name}{number} {'x' * 4000}") for number in range(60)])
    got: list[str] = []
    last, sizes = None, []
    while True:
        answer = poll(server.port, names, last)
        got += [event["data"].partition(" ")[0] for event in answer["events"]]
        sizes.append(sum(len(event["data"]) for event in answer["events"]))
        last = answer["last_id"]
        if not answer["more"]:
            break
    assert got == [f"{name}{number}" for name in names for number in range(60)]
    assert len(sizes) == 3
    assert max(sizes) <= 256 * 1024


def test_an_unknown_name_with_an_id_is_said_in_json(serve: Serve) -> None:
    server = serve(settle=0)
    server.stream("a", start="all").publish("a1")
    b = server.stream("b")
    last = poll(server.port, "ab")["last_id"]
    b.remove()
    answer = poll(server.port, "ab", last)
    assert [about["known"] for about in answer["streams"]] == [True, False]
    assert answer["last_id"] == last


# ---- Many at once -------------------------------------------------------------------------------


def follow(server: sse_fast.Server, names: list[str], cuts: Iterator[int]) -> list[tuple[int, str]]:
    """Reads until every stream has ended, over connections that are each cut after so many events."""
    got: list[tuple[int, str]] = []
    last = None
    while True:
        with Reader(server.port, path_of(names), last_event_id=last) as reader:
            if reader.read_head().status == 204:
                return got
            events, wanted = reader.parser.events, next(cuts)
            while len(events) < wanted and reader.pump():
                pass
            for event in events[:wanted]:
                assert event.event != "gap", event
                got.append((source_of(event), event.data))
                last = event.own_id


@pytest.mark.parametrize("cuts", [[1], [2, 7, 1], [40, 3]])
def test_32_streams_published_from_threads_come_whole_across_cuts(serve: Serve, cuts: list[int]) -> None:
    server = serve()
    names = [f"s/{number}" for number in range(32)]
    streams = [server.stream(name, start="all", history=2000) for name in names]

    def publish(part: list[sse_fast.Stream]) -> None:
        for number in range(10):
            for stream in part:
                stream.publish(f"{number}")
        for stream in part:
            stream.end("end")

    threads = [threading.Thread(target=publish, args=(streams[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    got = follow(server, names, itertools.cycle(cuts))
    for thread in threads:
        thread.join()
    for index in range(32):
        assert [data for source, data in got if source == index] == [*map(str, range(10)), "end"]


@pytest.mark.parametrize(
    "path",
    ["/streams?name=guarded", "/%73treams?name=guarded", "/streams?n%61me=guarded&name=s", "/streams/?name=guarded"],
)
def test_no_name_leads_around_a_door_of_the_application(server: sse_fast.Server, path: str) -> None:
    for name in ("guarded", "s"):
        server.stream(name, start="all").publish("secret" if name == "guarded" else "x")
    server.get("/streams/guarded")(lambda _request: sse_fast.Response("no", 403))
    for method in ("GET", "HEAD"):
        for accept in ("text/event-stream", "application/json"):
            head, body = fetch(server.port, path, method=method, headers=[("Accept", accept)])
            assert (head.status in {200, 404}, b"secret" in body) == (True, False)
            assert head.status == 404 or b"retry" in body, "within settle a page is told to come back"
