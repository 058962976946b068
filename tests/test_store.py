"""Streams that are kept in a folder: what a reader finds after the server was killed, and what nobody may find.

Guards that what `publish` returned is there after a kill, under the same ids; that an id never means two events; and
that what was removed, or whose time was over, stays away.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

import sse_fast
from support.deadline import until
from support.kept import Kept, reopened, texts
from support.reader import Reader, fetch

DURABLE = pytest.mark.parametrize("durable", ["process", "disk"])


@DURABLE
def test_a_stream_is_after_a_kill_what_it_was_before(tmp_path: Path, durable: str) -> None:
    source = """
        server.stream("empty")
        stream = server.stream("a/b", start="all", history=5, linger=500.0, retry=2.0)
        ids = [stream.publish({"n": number}, event="step") for number in range(8)]
        ids.append(stream.publish("own", id="my id", snapshot={"up to": "own"}))
        ids.append(stream.publish("last"))
        ended = server.stream("ended")
        ended.publish_many([("x", "line")] * 100)
        ended.end({"done": True})
        server.stream("private", private=True).publish("secret")
        server.stream("named").snapshot("as it is", event="picture")
        say("ids", json.dumps([ids, ended.last_id]))
    """
    with Kept(tmp_path, source, durable=durable) as killed:
        ids, end = json.loads(killed.line_with("ids"))
        killed.kill()
    with reopened(tmp_path, durable=durable) as server:
        names = {stream.name for stream in server.streams()}
        assert names == {"a/b", "ended", "private", "named", "empty"}
        with Reader(server.port, "/streams/a/b", last_event_id=ids[-3]) as reader:
            own, last = reader.open().take(2)
            assert (own.data, own.last_event_id, last.data, last.last_event_id) == ("own", "my id", "last", ids[-1])
        with Reader(server.port, "/streams/a/b", last_event_id="my id") as reader:
            assert reader.open().next().data == "last"
        with Reader(server.port, "/streams/a/b") as reader:
            snapshot, last = reader.open().take(2)
            assert (snapshot.event, json.loads(snapshot.data), last.data) == ("snapshot", {"up to": "own"}, "last")
            assert b"retry: 2000" in bytes(reader.body)
        # Older than history: the gap is exact, and ids go on.
        with Reader(server.port, "/streams/a/b", last_event_id=ids[0]) as reader:
            gap = reader.open().next()
            assert (gap.event, json.loads(gap.data)["skipped"]) == ("gap", 8)
        epoch, number = ids[-1].rsplit("-", 1)
        assert server.stream("a/b").publish("more") == f"{epoch}-{int(number) + 1}"
        assert server.stream("ended").ended
        assert server.stream("ended").last_id == end
        assert fetch(server.port, "/streams/ended?last_event_id=" + end)[0].status == 204
        assert fetch(server.port, "/streams/private")[0].status == 404
        picture = next(server.stream("named").events(timeout=5.0))
        assert (picture.event, picture.data) == ("picture", "as it is")
        with pytest.raises(sse_fast.StreamEnded):
            server.stream("ended").publish("more")


def test_options_given_later_and_those_of_the_next_server_count(tmp_path: Path) -> None:
    with reopened(tmp_path, history=10) as server:
        stream = server.stream("s")
        stream.publish_many([{"data": str(number)} for number in range(10)])
        server.stream("s", history=3, start="all")
        server.stream("d").publish_many([{"data": str(number)} for number in range(10)])
    with reopened(tmp_path, history=4, streams={"s": {"start": "last"}}) as server:
        assert texts(server, "s") == ["7", "8", "9"]
        assert texts(server, "d") == ["6", "7", "8", "9"]
        server.stream("s", history=1)
    with reopened(tmp_path) as server:
        assert texts(server, "s") == ["9"]


def test_what_was_removed_or_is_over_stays_away_and_names_begin_anew(tmp_path: Path) -> None:
    with reopened(tmp_path) as server:
        server.stream("removed").publish("x")
        before = server.stream("removed").last_id
        server.stream("removed").remove()
        server.stream("over", linger=0.2).end()
        server.stream("expired", expire=0.05).publish("x")
        until(lambda: "expired" not in {stream.name for stream in server.streams()})
        server.stream(None).publish("x")

        @server.get("/generated")
        def generated(_request: sse_fast.Request) -> object:
            yield "x"

        with Reader(server.port, "/generated") as reader:
            reader.open().next()
    until(lambda: _seconds_since(tmp_path / "session.json") > 0.3)
    with reopened(tmp_path) as server:
        assert [stream.name for stream in server.streams()] == []
        again = server.stream("removed")
        assert again.publish("y") != before
        assert before is not None
        with Reader(server.port, "/streams/removed", last_event_id=before) as reader:
            gap = reader.open().next()
            assert (gap.event, json.loads(gap.data)["skipped"]) == ("gap", None)


def _seconds_since(path: Path) -> float:
    return time.time() - path.stat().st_mtime


@DURABLE
def test_a_run_that_died_with_its_server_is_ended(tmp_path: Path, durable: str) -> None:
    source = """
        child = "import time; from sse_fast.runner import emit; emit('COMPILING', {'a': 1}); time.sleep(600)"
        server.run([sys.executable, "-c", child], stream="run", on_event=lambda event: say("event", event.id))
        server.stream("open").publish("x")
    """
    with Kept(tmp_path, source, durable=durable) as killed:
        last = killed.line_with("event")
        killed.kill()
    with (
        reopened(tmp_path, durable=durable) as server,
        Reader(server.port, "/streams/run", last_event_id=last) as reader,
    ):
        (end,) = reader.open().rest()
        assert end.event == "end"
        assert json.loads(end.data) == {
            "exit_code": None,
            "signal": None,
            "status": "COMPILING",
            "result": {"a": 1},
            "duration_s": None,
            "error": "the server died",
        }
        assert not server.stream("open").ended


def test_runs_that_the_server_ended_itself_are_not_ended_twice(tmp_path: Path) -> None:
    with reopened(tmp_path) as server:
        run = server.run([sys.executable, "-c", "pass"], stream="run")
        assert run.wait(timeout=20.0) == 0
    with reopened(tmp_path) as server:
        (end,) = server.stream("run").events(timeout=5.0, start="all")
        assert json.loads(str(end.data))["exit_code"] == 0


#: Two threads publish into streams of their own and say what they know to be published; one sends lists.
LOAD = """
    def publish(number):
        stream = server.stream(f"s{number}", history=100_000, history_bytes=1 << 26)
        begin = stream.stats().published
        while True:
            if number == 2:
                ids = stream.publish_many([{"data": f"{begin + place}"} for place in range(50)])
                begin += 50
            else:
                ids = [stream.publish(str(begin))]
                begin += 1
            os.write(1, f"{number} {ids[-1]}\\n".encode())
    for number in range(3):
        threading.Thread(target=publish, args=(number,), daemon=True).start()
"""


def kill_again_and_again(folder: Path, durable: str, times: int, seed: int) -> None:
    """Kill a server under load so many times; nothing that it said was published may be lost or be there twice."""
    chance = random.Random(seed)
    known: dict[str, str] = {}
    for _ in range(times):
        with Kept(folder, LOAD, durable=durable) as killed:
            for _ in range(chance.randrange(1, 400)):
                number, last = killed.line().split()
                known[number] = last
            killed.send_signal(signal.SIGKILL)
            for line in killed.read_to_end():
                if line.count(" ") == 1 and not line.startswith("port") and "-" in line:
                    number, last = line.split()
                    known[number] = last
        with reopened(folder, durable=durable) as server:
            for number, last in known.items():
                stream = server.stream(f"s{number}")
                assert stream.last_id is not None
                (epoch, had), (now, there) = last.rsplit("-", 1), stream.last_id.rsplit("-", 1)
                assert now == epoch, "a kill costs no life"
                assert int(there) >= int(had), f"{last} was published and is lost"
                got = texts(server, f"s{number}")
                assert got == [str(place) for place in range(int(there) - len(got), int(there))]


@DURABLE
def test_nothing_is_lost_where_a_server_is_killed_under_load(tmp_path: Path, durable: str) -> None:
    kill_again_and_again(tmp_path, durable, int(os.environ.get("RUN_KILLS", "3")), seed=7)


@DURABLE
def test_closing_leaves_everything_in_the_folder_and_readers_have_it(tmp_path: Path, durable: str) -> None:
    with reopened(tmp_path, durable=durable) as server:
        stream = server.stream("s")
        with Reader(server.port) as reader:
            reader.open()
            until(lambda: stream.subscribers == 1)
            stream.publish_many([{"data": str(number)} for number in range(200)])
            server.close()
            assert [event.data for event in reader.rest()] == [str(number) for number in range(200)]
        with pytest.raises(sse_fast.ServerClosed):
            stream.publish("late")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".json", ".segment"]
    with reopened(tmp_path, durable=durable) as server:
        assert texts(server, "s") == [str(number) for number in range(200)]


def test_coroutines_publish_into_a_disk(tmp_path: Path) -> None:
    async def publish(stream: sse_fast.Stream) -> tuple[str, list[str], str]:
        first = await stream.apublish("0")
        ids = await stream.apublish_many([{"data": str(number)} for number in range(1, 200)])
        await stream.asnapshot("picture")
        return first, ids, await stream.aend("200")

    with reopened(tmp_path, durable="disk") as server:
        stream = server.stream("s", history=1000)
        first, ids, end = asyncio.run(publish(stream))
        assert stream.last_id == end
        assert len({first, *ids, end}) == 201
        assert server.stats().store_syncs < 50, "events are kept in groups"
    with reopened(tmp_path, durable="disk") as server:
        picture, last = server.stream("s").events(timeout=5.0)
        assert (picture.data, last.data) == ("picture", "200")


def test_a_power_cut_begins_lives_anew_where_the_disk_may_lack_the_newest(tmp_path: Path) -> None:
    """As the next start of the machine looks to a server: another boot, and nobody has closed the store."""
    with reopened(tmp_path, history=50) as server:
        stream = server.stream("open", start="all")
        stream.publish("a")
        last = stream.publish("b", snapshot="picture")
        stream.publish("c", id="own")
        ended = server.stream("ended").end("over")
    session = tmp_path / "session.json"
    session.write_text(json.dumps({**json.loads(session.read_text()), "boot": "another", "closed": None}))
    with reopened(tmp_path) as server:
        assert server.stream("ended").last_id == ended
        stream = server.stream("open")
        with Reader(server.port, "/streams/open", last_event_id=last) as reader:
            gap, picture, own = reader.open().take(3)
            assert (gap.event, json.loads(gap.data)["skipped"]) == ("gap", None)
            assert (picture.data, own.data, own.last_event_id) == ("picture", "c", "own")
            assert picture.last_event_id.split("-")[0] > last.split("-")[0]
        following = stream.publish("d")
    with reopened(tmp_path) as server:
        assert server.stream("open").last_id == following, "and this life goes on"
