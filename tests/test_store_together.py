"""Lists that are published in one step into a server with a store: over HTTP, and under an idempotency key.

Guards that after a kill a list is there whole or not at all, and whole where its publisher was told so; that with the
disk nobody sees a part of one; that a post waits for the disk without holding anybody else up; and that a key
stands for what the disk has, also where its publisher no longer waited.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import sse_fast
from support.deadline import DEADLINE
from support.kept import Kept, reopened, texts
from support.publishing import KEY, Elsewhere
from support.reader import Reader, fetch

DURABLE = pytest.mark.parametrize("durable", ["process", "disk"])
LENGTH = 20
LONG = {"history": 100_000, "history_bytes": 1 << 26}
JSON = ("Accept", "application/json")


def a_list(number: int, length: int = LENGTH) -> list[dict[str, object]]:
    return [{"data": f"{number}.{part}", "snapshot": f"up to {number}.{part}"} for part in range(length)]


class Killing(threading.Thread):
    """Kills a server while lists are posted, once `at` of them were."""

    def __init__(self, killed: Kept, at: int) -> None:
        super().__init__()
        self.at = at
        self._killed, self._enough = killed, threading.Event()
        self.start()

    def run(self) -> None:
        self._enough.wait(DEADLINE)
        self._killed.kill()

    def see(self, posted: int) -> None:
        if posted >= self.at:
            self._enough.set()


@DURABLE
def test_after_a_kill_a_list_is_there_whole_or_not_at_all(tmp_path: Path, durable: str) -> None:
    chance = random.Random(11)
    told = 0
    for _ in range(2):
        with Kept(tmp_path, durable=durable, publish_key=KEY, **LONG) as killed:
            killing = Killing(killed, told + chance.randrange(5, 60))
            with contextlib.suppress(OSError, http.client.HTTPException), Elsewhere(killed.port) as elsewhere:
                for number in range(told, killing.at + 100):
                    answer = elsewhere.post(a_list(number), "lists")
                    assert answer.status == 201
                    told = number + 1
                    killing.see(told)
            killing.join()
        with reopened(tmp_path, durable=durable, **LONG) as server:
            stream = server.stream("lists")
            assert stream.last_id is not None
            beginning = stream.last_id.split("-")[0] + "-0"
            with Reader(server.port, "/streams/lists", last_event_id=beginning) as reader:
                got = [event.data for event in reader.open().take(stream.stats().retained)]
            assert len(got) % LENGTH == 0, "a part of a list is there"
            assert told <= len(got) // LENGTH <= told + 1
            told = len(got) // LENGTH
            assert got == [f"{number}.{part}" for number in range(told) for part in range(LENGTH)]
            picture = json.loads(fetch(server.port, "/streams/lists", headers=[JSON])[1])["snapshot"]
            assert picture["data"] == f"up to {got[-1]}"


def test_nobody_sees_a_part_of_a_list_that_the_disk_waits_for(tmp_path: Path) -> None:
    with reopened(tmp_path, durable="disk", publish_key=KEY, history=10_000) as server:
        server.stream("lists", start="all")
        seen: set[int] = set()
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                seen.add(server.stream("lists").stats().published)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            with Reader(server.port, "/streams/lists") as reader, Elsewhere(server.port) as elsewhere:
                reader.open()
                for number in range(30):
                    ids = elsewhere.post(a_list(number), "lists").body["ids"]
                    assert server.stream("lists").last_id == ids[-1], "what is answered is there"
                    assert [event.last_event_id for event in reader.take(LENGTH)] == ids
        finally:
            done.set()
            looking.join()
        assert seen
        assert not {count % LENGTH for count in seen} - {0}


def test_a_post_waits_for_the_disk_and_others_do_not_wait_for_it(tmp_path: Path) -> None:
    with reopened(tmp_path, durable="disk", publish_key=KEY, history=1000) as server:
        before = server.stats().store_syncs
        statuses: list[int] = []

        def post(place: int) -> None:
            with Elsewhere(server.port) as elsewhere:
                statuses.extend(elsewhere.post({"data": f"{place}.{number}"}, "s").status for number in range(20))

        threads = [threading.Thread(target=post, args=(place,)) for place in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [201] * 160
        assert before < server.stats().store_syncs < before + 160, "posts that wait are kept in groups"
        with Elsewhere(server.port) as elsewhere:
            assert elsewhere.post({"snapshot": "picture"}, "s").body == {"id": server.stream("s").last_id}
            end = elsewhere.post([{"data": "last"}, {"data": "over", "end": True}], "s").body["ids"][-1]
            assert elsewhere.post({"data": "late"}, "s").status == 409
    with reopened(tmp_path, durable="disk", history=1000) as server:
        assert (server.stream("s").ended, server.stream("s").last_id) == (True, end)
        assert server.stream("s").stats().published == 162


@DURABLE
def test_a_key_stands_for_what_was_kept_also_where_its_coroutine_was_cancelled(tmp_path: Path, durable: str) -> None:
    async def publish_and_leave(stream: sse_fast.Stream, number: int) -> None:
        events = [{"data": f"{number}.{part}"} for part in range(3)]
        task = asyncio.create_task(stream.apublish_many(events, idempotency_key=f"key {number}"))
        for _ in range(number % 6):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        ids: list[str] = []
        while not ids:
            with contextlib.suppress(sse_fast.PublishInProgress):
                ids = await stream.apublish_many(events, idempotency_key=f"key {number}")
            await asyncio.sleep(0)
        assert len(ids) == 3

    async def all_of_them(stream: sse_fast.Stream) -> None:
        for number in range(30):
            await publish_and_leave(stream, number)

    with reopened(tmp_path, durable=durable) as server:
        stream = server.stream("keys")
        asyncio.run(all_of_them(stream))
        assert texts(server, "keys") == [f"{number}.{part}" for number in range(30) for part in range(3)]
        first = stream.publish("once", idempotency_key="once")
        assert stream.publish("once", idempotency_key="once") == first == stream.last_id
        many = stream.publish_many([{"data": "a"}, {"data": "b"}], idempotency_key="many")
        assert stream.publish_many([{"data": "a"}, {"data": "b"}], idempotency_key="many") == many
        assert stream.stats().published == 93


def test_a_store_and_a_backplane_exclude_each_other_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(sse_fast.SettingError, match="store and backplane are not allowed together"):
        sse_fast.serve(0, store=tmp_path / "store", backplane="redis://127.0.0.1:1")
    assert not (tmp_path / "store").exists()


def test_a_promise_about_the_disk_without_a_store_is_refused() -> None:
    with pytest.raises(sse_fast.SettingError, match='durable="disk" needs a store'):
        sse_fast.serve(0, durable="disk")


def test_a_store_that_was_closed_is_not_called_damaged(tmp_path: Path) -> None:
    with reopened(tmp_path) as server:
        server.stream("s").publish("a")
    folders = next(path for path in (tmp_path, *tmp_path.iterdir()) if (path / "session.json").is_file())
    done = subprocess.run([sys.executable, "-m", "sse_fast", "export", folders], check=True, capture_output=True)
    assert (done.stderr, len(done.stdout.splitlines())) == (b"", 2)


def test_a_folder_without_a_store_is_none(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "sse_fast", "export", tmp_path], check=False, capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"there is no store" in done.stderr
