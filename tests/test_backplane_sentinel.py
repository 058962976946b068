"""A backplane whose master sentinels name: real ones fail over from a master that was killed to its replica."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sse_fast
from support.backplane import KINDS, BackplaneServer, CommandError
from support.deadline import until
from support.reader import Reader, fetch

Serve = Callable[..., "sse_fast.Server"]


class Sentinel:
    """One sentinel, which decides by itself; it has its own file, for it writes into that what it finds."""

    def __init__(self, master: BackplaneServer, folder: Path) -> None:
        self.server = BackplaneServer(master.kind)
        self.config = folder / "sentinel.conf"
        self.config.write_text(
            f"port {self.server.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
        )

    def __enter__(self) -> Sentinel:  # noqa: PYI034 - typing has no Self before Python 3.11
        arguments = [self.server.program, str(self.config), "--sentinel"]
        self.server.process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        until(self._knows_a_replica, what="the sentinel has found the replica")
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.kill()
        self.server.folder.cleanup()

    def _knows_a_replica(self) -> bool:
        try:
            return bool(self.server.command("SENTINEL", "REPLICAS", "main"))
        except (OSError, CommandError):
            return False

    @property
    def url(self) -> str:
        # Nobody is at the first.
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.server.port}/main"


def _role(server: BackplaneServer) -> str:
    try:
        return server.info("role")
    except OSError:  # The sentinel has cut its clients off.
        return server.info("role")


@pytest.fixture(params=KINDS)
def master(request: pytest.FixtureRequest) -> Iterator[BackplaneServer]:
    with BackplaneServer(request.param) as server:
        yield server


def test_publishers_and_readers_follow_the_sentinels_to_another_master(
    master: BackplaneServer, tmp_path: Path, serve: Serve
) -> None:
    with BackplaneServer(master.kind) as replica:
        replica.follow(master)
        with Sentinel(master, tmp_path) as sentinel:
            one = serve(backplane=sentinel.url, backplane_timeout=15.0)
            other = serve(backplane=sentinel.url, backplane_timeout=15.0)
            stream = one.stream("s", start="all")
            first = stream.publish("a")
            assert master.command("WAIT", 1, 5000) == 1, "the replica has it"
            with Reader(other.port) as reader:
                assert reader.open().next().data == "a"
                master.kill()
                second = stream.publish("b")
            assert second.partition("-")[0] != first.partition("-")[0], "nobody can say whether something was lost"
            assert _role(replica) == "master"
            until(lambda: fetch(other.port, "/readyz")[0].status == 200)
            until(lambda: other.stream("s").last_id == second)
            with Reader(other.port) as reader:
                events = reader.open().take(2)
            assert [event.data for event in events] == ["a", "b"]
            assert events[1].last_event_id == second


def test_a_service_that_no_sentinel_knows_is_named(master: BackplaneServer, tmp_path: Path, serve: Serve) -> None:
    with BackplaneServer(master.kind) as replica:
        replica.follow(master)
        with Sentinel(master, tmp_path) as sentinel, pytest.raises(sse_fast.BackplaneUnavailable, match='"nobody"'):
            serve(backplane=sentinel.url.replace("/main", "/nobody"))
