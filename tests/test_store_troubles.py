"""What can be wrong with a store's folder: full disks, other processes, files that are damaged or cut.

Guards that a full disk refuses an event and goes on when there is room; that a folder is one server's at a time, also
while a forked child lives; and that damage never costs the start, nor a stream that is not damaged.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import resource
import sys
from pathlib import Path

import pytest

import sse_fast
from support.deadline import until
from support.kept import Kept, may_mount, reopened, small_disk, texts
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
        with reopened(disk / "store", durable=durable, history=1000, history_bytes=1 << 30, metrics=True) as server:
            stream = server.stream("s")
            last, error = fill(stream)
            assert (error.errno, stream.last_id) == (errno.ENOSPC, last)
            assert fetch(server.port, "/readyz")[0].status == 503
            assert fetch(server.port, "/healthz")[0].status == 200
            assert b"sse_fast_store_writable 0" in fetch(server.port, "/metrics")[1]
            assert server.stats().store_refused >= 1
            with pytest.raises(sse_fast.StoreFull):
                stream.publish(BIG)
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


def test_a_folder_is_one_servers_at_a_time(tmp_path: Path) -> None:
    with Kept(tmp_path) as other:
        with pytest.raises(sse_fast.StoreLocked, match=f"process {other.pid} has it") as refused:
            sse_fast.serve(0, store=tmp_path)
        assert isinstance(refused.value, BlockingIOError)
        other.kill()
    with reopened(tmp_path), pytest.raises(sse_fast.StoreLocked, match="another server of this process"):
        sse_fast.serve(0, store=tmp_path)


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
    descriptors = Path(f"/proc/{pid}/fd").iterdir()
    return any(str(descriptor.readlink()).startswith(str(folder)) for descriptor in descriptors)


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
