"""What can be wrong with a store's folder: full disks, other processes, files that are damaged or cut.

Guards that a full disk refuses an event and goes on when there is room; that a folder is one server's at a time, also
while a forked child lives; and that damage never costs the start, nor a stream that is not damaged. This file is long
because so much can be wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from support.deadline import until
from support.kept import Kept, may_mount, reopened, small_disk, texts
from support.publishing import KEY, Elsewhere
from support.reader import Reader, fetch

BIG = "x" * 500_000


def fill(stream: sse_fast.Stream) -> tuple[str, sse_fast.StoreFull]:
    """Publish until the disk is full: the last id, and the refusal."""

    def publish() -> None:
        for _ in range(100):
            stream.publish(BIG)

    with pytest.raises(sse_fast.StoreFull) as refused:
        publish()
    assert stream.last_id is not None
    return stream.last_id, refused.value


@pytest.mark.parametrize("durable", ["process", "disk"])
def test_a_full_disk_refuses_events_until_there_is_room(tmp_path: Path, durable: str) -> None:
    if not may_mount():
        limited(tmp_path, durable)
        return
    with small_disk(tmp_path / "disk", 28) as disk:
        settings: dict[str, Any] = {"history": 1000, "history_bytes": 1 << 30, "metrics": True, "publish_key": KEY}
        with reopened(disk / "store", durable=durable, **settings) as server:
            stream = server.stream("s")
            last, error = fill(stream)
            assert (error.errno, stream.last_id) == (errno.ENOSPC, last)
            assert fetch(server.port, "/readyz")[0].status == 503
            assert fetch(server.port, "/healthz")[0].status == 200
            assert b"sse_fast_store_writable 0" in fetch(server.port, "/metrics")[1]
            assert server.stats().store_refused >= 1
            with pytest.raises(sse_fast.StoreFull):
                stream.publish(BIG)
            with Elsewhere(server.port) as elsewhere:
                answer = elsewhere.post({"data": BIG}, "s")
                assert (answer.status, answer.error) == (503, "store")
                assert answer.body["detail"].count("nothing was published") == 1
            # The server stays: what is there is read, and a stream that goes makes room.
            with Reader(server.port, last_event_id=last) as reader:
                reader.open()
                stream.stats()
                server.stream("s", history=2)
                until(lambda: fetch(server.port, "/readyz")[0].status == 200, what="room")
                following = stream.publish("small")
                assert reader.next().last_event_id == following
            count = stream.stats().published
        with reopened(disk / "store", durable=durable) as server:
            assert server.stream("s").last_id == following
            assert server.stream("s").stats().published == count


def limited(folder: Path, durable: str) -> None:
    """The same where no disk can be made: a limit on the size of files refuses them (EFBIG)."""
    source = """
        import resource, signal
        stream = server.stream("s", history=1000, history_bytes=1 << 30)
        first = stream.publish("x")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 22, resource.RLIM_INFINITY))
        try:
            while True:
                stream.publish("x" * 500_000)
        except sse_fast.StoreFull as error:
            say("refused", error.errno)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        last = stream.publish("small")
        say("last", last)
    """
    with Kept(folder / "store", source, durable=durable) as killed:
        assert killed.line_with("refused") == str(errno.EFBIG)
        last = killed.line_with("last")
        killed.kill()
    with reopened(folder / "store", durable=durable) as server:
        assert server.stream("s").last_id == last


def test_a_limit_on_files_refuses_events_likewise(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    limited(tmp_path, "process")


@pytest.mark.parametrize("durable", ["process", "disk"])
@pytest.mark.parametrize("limit", [1 << 15, 1 << 22], ids=["no file", "smaller files"])
def test_readiness_is_what_publishing_finds(tmp_path: Path, durable: str, limit: int) -> None:
    """Under a limit that refuses the file in use: ready is who can publish, and who is ready can publish."""
    source = f"""
        import resource, signal
        limit, none = {limit}, resource.RLIM_INFINITY
        lift = lambda *_: resource.setrlimit(resource.RLIMIT_FSIZE, (none, none))
        signal.signal(signal.SIGUSR1, lift)
        signal.signal(signal.SIGUSR2, lambda *_: say("last", stream.publish("y" * 500_000)))
        stream = server.stream("s", history=1000, history_bytes=1 << 30)
        stream.publish_many([{{"data": "x" * 1000}}] * 100)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, none))
        try:
            while True:
                stream.publish("x" * 500_000)
        except sse_fast.StoreFull:
            say("refused", stream.last_id)
    """
    with Kept(tmp_path, source, durable=durable) as server:
        last = server.line_with("refused")

        def ready() -> bool:
            return fetch(server.port, "/readyz")[0].status == 200

        if limit == 1 << 15:
            tried = 0

            def tries() -> int:
                """How often it has looked for room: each time a file comes and goes."""
                nonlocal tried, before
                now = tmp_path.stat().st_mtime_ns
                tried, before = tried + (now != before), now
                return tried

            before = tmp_path.stat().st_mtime_ns
            until(lambda: tries() >= 2, what="two looks for room")
            assert not ready(), "publishing would be refused"
            server.send_signal(signal.SIGUSR1)
        until(ready, what="room, without a publish")
        server.send_signal(signal.SIGUSR2)
        epoch, number = last.rsplit("-", 1)
        assert server.line_with("last") == f"{epoch}-{int(number) + 1}"
        assert ready()


@pytest.mark.parametrize("publish", ["publish", "publish_many", "snapshot", "end", "keyed"])
def test_a_publish_that_waits_for_the_disk_in_an_event_loop_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, publish: str
) -> None:
    with reopened(tmp_path, durable="disk") as server:
        streams = [server.stream("one"), server.stream("two")]

        async def go() -> None:
            for stream in streams:
                await stream.apublish("a")
                if publish == "keyed":
                    stream.publish("b", idempotency_key="k")
                else:
                    getattr(stream, publish)([("b", None)] if publish == "publish_many" else "b")

        with caplog.at_level(logging.WARNING, "sse_fast"):
            asyncio.run(go())
            streams[0].remove()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "waits for the disk" in said
    assert said.count("apublish") == 1


def test_a_publish_that_waits_for_no_disk_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def go(stream: sse_fast.Stream) -> None:
        stream.publish("b")
        stream.snapshot("b")

    with reopened(tmp_path) as server, caplog.at_level(logging.WARNING, "sse_fast"):
        asyncio.run(go(server.stream("s")))
        stream = server.stream(None)
        asyncio.run(go(stream))
    assert caplog.records == []


def test_a_folder_is_one_servers_at_a_time(tmp_path: Path) -> None:
    with Kept(tmp_path) as other:
        with pytest.raises(sse_fast.StoreLocked, match=f"process {other.pid} has it") as refused:
            sse_fast.serve(0, store=tmp_path)
        assert isinstance(refused.value, BlockingIOError)
        other.kill()
    with reopened(tmp_path), pytest.raises(sse_fast.StoreLocked, match="another server of this process"):
        sse_fast.serve(0, store=tmp_path)


@pytest.mark.parametrize("durable", ["process", "disk"])
def test_a_folder_that_is_removed_or_moved_refuses_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, durable: str
) -> None:
    folder, moved = tmp_path / "store", tmp_path / "moved"
    with caplog.at_level(logging.WARNING, "sse_fast"), reopened(folder, durable=durable) as server:

        def is_ready() -> bool:
            return fetch(server.port, "/readyz")[0].status == 200

        stream = server.stream("s")
        stream.publish("x")
        folder.rename(moved)
        with reopened(folder) as other:
            theirs = other.stream("theirs").publish("x")
            until(lambda: not is_ready(), what="the server notices")
            with pytest.raises(sse_fast.StoreError, match="removed or moved"):
                stream.publish("y")
        with reopened(folder) as other:
            assert other.stream("theirs").last_id == theirs
        shutil.rmtree(folder)
        moved.rename(folder)
        until(is_ready, what="the folder is back")
        last = stream.publish("z")
        assert len(caplog.records) == 1
    with reopened(folder, durable=durable) as server:
        assert server.stream("s").last_id == last
        shutil.rmtree(folder)
        until(lambda: fetch(server.port, "/readyz")[0].status == 503, what="the server notices")
        with pytest.raises(sse_fast.StoreError):
            server.stream("s").publish("y")
    assert not folder.exists()


def test_a_forked_child_does_not_hold_the_folder(tmp_path: Path) -> None:
    source = """
        server.stream("s").publish("x")
        child = os.fork()
        if not child:
            time.sleep(600)
        say("child", child)
    """
    with Kept(tmp_path, source) as killed:
        child = int(killed.line_with("child"))
        try:
            killed.kill()
            until(lambda: not _holds(child, tmp_path), what="the child's letting go")
            with reopened(tmp_path) as server:
                assert texts(server, "s") == ["x"]
        finally:
            os.kill(child, 9)


def _holds(pid: int, folder: Path) -> bool:
    held = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # It is letting go at this moment.
            held.append(str(descriptor.readlink()))
    return any(path.startswith(str(folder)) for path in held)


def test_a_folder_that_cannot_be_one_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(sse_fast.StoreError, match="making it") as refused:
        sse_fast.serve(0, store=tmp_path / "file")
    assert refused.value.errno in {errno.EEXIST, errno.ENOTDIR}
    with pytest.raises(sse_fast.SettingError, match="durable"):
        sse_fast.serve(0, store=tmp_path, durable="ram")  # type: ignore[arg-type]
    with pytest.raises(sse_fast.SettingError, match="store"):
        sse_fast.serve(0, store=7)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="how to become another user differs")
def test_a_folder_without_permission_is_said_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                tmp_path.chmod(0o755)
                os.setgid(65534)
                os.setuid(65534)
            else:
                folder.chmod(0o500)
            try:
                sse_fast.serve(0, store=folder)
            except sse_fast.StoreDenied as error:
                code = 0 if error.errno == errno.EACCES else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in {0, 3}


def written(folder: Path) -> dict[str, list[str]]:
    """Three streams of fifty events; what each has."""
    with reopened(folder) as server:
        for number in range(50):
            for name in ("a", "b", "c"):
                server.stream(name, start="all").publish(f"{name}{number}", event="step")
        return {name: texts(server, name) for name in ("a", "b", "c")}


def segment(folder: Path) -> Path:
    return min(folder.glob("*.segment"))


def test_turned_bits_cost_their_own_stream_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = written(tmp_path / "whole")
    content = segment(tmp_path / "whole").read_bytes()
    chance = random.Random(3)
    for turn in range(6):
        folder = tmp_path / str(turn)
        folder.mkdir()
        for path in (tmp_path / "whole").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        segment(folder).write_bytes(damaged)
        with caplog.at_level(logging.WARNING, "sse_fast.store"), reopened(folder) as server:
            got = {name: texts(server, name) for name in ("a", "b", "c")}
        changed = [name for name in got if got[name] != whole[name]]
        assert len(changed) <= 1
        for name in changed:
            assert len(got[name]) < 50
            assert got[name] == [text for text in whole[name] if text in got[name]]
            assert "is damaged" in caplog.text


def test_events_that_are_lost_are_a_gap(tmp_path: Path) -> None:
    written(tmp_path)
    path = segment(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"data: b20\n", b"data: B20\n"))
    with reopened(tmp_path) as server:
        assert texts(server, "b")[0] == "b21"
        last = server.stream("b").last_id
        assert last is not None
        with Reader(server.port, "/streams/b", last_event_id=last.split("-")[0] + "-10") as reader:
            gap, following = reader.open().take(2)
            assert (gap.event, json.loads(gap.data)["skipped"], following.data) == ("gap", 11, "b21")
        assert server.stream("b").publish("more") == last.split("-")[0] + "-51"


def test_a_lost_newest_event_begins_a_new_life(tmp_path: Path) -> None:
    written(tmp_path)
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"data: c49\n", b"data: C49\n"))
    with reopened(tmp_path) as server:
        assert texts(server, "c") == [f"c{number}" for number in range(49)]
        (_, a), (_, c) = ((name, server.stream(name).last_id) for name in ("a", "c"))
        assert a is not None
        assert c is not None
        assert c.split("-")[0] > a.split("-")[0]
    with reopened(tmp_path) as server:
        assert texts(server, "c") == [f"c{number}" for number in range(49)]
        assert server.stream("c").last_id == c, "once"


@pytest.mark.parametrize("left", [0, 20, 3000])
def test_a_file_that_was_cut_is_found_out(tmp_path: Path, left: int, caplog: pytest.LogCaptureFixture) -> None:
    whole = written(tmp_path)
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    with caplog.at_level(logging.WARNING, "sse_fast.store"), reopened(tmp_path) as server:
        for name in whole:
            assert texts(server, name) == whole[name][: len(texts(server, name))]
        server.stream("a").publish("goes on")
    assert "cannot be read" in caplog.text


def put_a_folder_there(path: Path) -> None:
    path.unlink()
    (path / "something").mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_bytes(b""), "its head cannot be read"),
        (Path.unlink, "is missing"),
        (put_a_folder_there, "is no file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is no file"),
    ],
    ids=["empty", "missing", "a folder", "a pipe"],
)
def test_a_file_that_is_gone_is_named_and_readers_are_told_a_gap(
    tmp_path: Path, spoil: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed three times, so that the folder has three files, and what the second one had is gone."""
    ids: list[str] = []
    for number in range(3):
        source = f"""
            server.stream("s{number}").publish("x")
            say("id", server.stream("s", start="all").publish("{number}"))
        """
        with Kept(tmp_path, source) as killed:
            ids.append(killed.line_with("id"))
            killed.kill()
    gone = sorted(tmp_path.glob("*.segment"))[1]
    spoil(gone)
    with caplog.at_level(logging.WARNING, "sse_fast.store"), reopened(tmp_path) as server:
        assert {stream.name for stream in server.streams()} == {"s", "s0", "s2"}
        with Reader(server.port, "/streams/s", last_event_id=ids[0]) as reader:
            gap, last = reader.open().take(2)
            assert (gap.event, json.loads(gap.data)["skipped"]) == ("gap", 1)
            assert (last.data, last.last_event_id) == ("2", ids[2])
        # Of this one the newest may have been there.
        assert server.stream("s0").last_id.split("-")[0] > ids[2].split("-")[0]  # type: ignore[union-attr]
        assert server.stream("s").publish("3").split("-")[0] == ids[0].split("-")[0]
    said = [record.getMessage() for record in caplog.records]
    assert any(gone.name in text and why in text and "a gap to readers" in text for text in said), said
    with reopened(tmp_path) as server:
        assert texts(server, "s") == ["2", "3"]


def test_something_else_in_the_place_of_the_servers_own_files_costs_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path)
    names = ["session.json", "session.new", "lock", "spare", "next"]
    for name in names:
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name / "something").mkdir(parents=True)
    with caplog.at_level(logging.WARNING, "sse_fast.store"), reopened(tmp_path) as server:
        assert len(texts(server, "a")) == 50
    for name in names:
        assert f"{name} is no file" in caplog.text
        assert (tmp_path / f"{name}.damaged" / "something").is_dir()


def test_what_is_kept_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sse_fast._commands import main

    with reopened(tmp_path) as server:
        stream = server.stream("runs/é", private=True)
        stream.publish({"n": 1}, event="step")
        own = stream.publish("two\nlines", id="own", snapshot="picture")
        stream.end("over")
        server.stream("other").publish("x")
        assert main(["export", str(tmp_path)]) == 0, "also while a server uses it"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["stream"] for line in lines] == ["other"] * 2 + ["runs/é"] * 5
    head, snapshot, *events = lines[2:]
    assert (head["ended"], head["private"], head["forgotten"]) == (True, True, 0)
    assert snapshot["snapshot"]["data"] == "picture"
    assert [(event["id"], event["event"], event["data"]) for event in events][1:] == [
        (own, None, "two\nlines"),
        (events[2]["id"], "end", "over"),
    ]
    assert main(["export", str(tmp_path), "--stream", "other"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["export", str(tmp_path), "--stream", "none"]) == 1
    assert main(["export", str(tmp_path / "nowhere")]) == 1
