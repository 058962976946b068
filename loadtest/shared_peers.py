"""The peers of `make compare` that share streams through Redis: published to at one process, read at another.

Owns: how two of each are put behind a Redis of their own. Must not know: loads, figures. CPU and memory are of both
processes and of Redis together, because that is what sharing costs.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from .peers import FOLDER, Centrifugo, Nchan, Peer, SseFast, _PythonPeer, fill, free_port, program
from .processes import Child, wait_until
from .scenario import Events, Scenario

if TYPE_CHECKING:
    from pathlib import Path


class Shared(Peer):
    """Two processes of a peer and their Redis; `port` is the one that is read at, `publish_port` the other."""

    def __init__(self, folder: Path, port: int, size: int) -> None:
        """Not started yet."""
        super().__init__(folder, port, size)
        self.publish_port, self.redis_port = free_port(), free_port()
        self.others: list[Child] = []

    @classmethod
    def hint(cls) -> str | None:
        """Redis, and the peer itself."""
        if not _redis():
            return "apt install redis-server"
        # The class behind this one in the order of its bases is the peer.
        return super().hint()

    @property
    def roots(self) -> list[int]:
        """Both processes and Redis."""
        return [*super().roots, *(child.pid for child in self.others)]

    def start(self) -> None:
        """Redis first, then the process that is published to, then the one that is read at."""
        words = [
            "--port",
            self.redis_port,
            "--bind",
            "127.0.0.1",
            "--dir",
            self.folder,
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.others.append(Child([_redis(), *map(str, words)], stdout=subprocess.DEVNULL))
        wait_until(lambda: _listens(self.redis_port), 10, "redis-server listens")
        self.others.append(self.start_one(self.publish_port))
        self.child = self.start_one(self.port)

    def start_one(self, port: int) -> Child:
        """One process that listens at that port."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends all three."""
        super().stop()
        for child in reversed(self.others):
            child.end()

    def started(self, port: int, *command: str | Path) -> Child:
        """A process that listens when this returns."""
        with (self.folder / f"{port}.log").open("wb") as log:
            child = Child(command, log=log, stdout=log, cwd=self.folder)

        def listens() -> bool:
            child.check()
            return _listens(port)

        wait_until(listens, 30, f"{self.name} listens")
        return child


class SseFastShared(Shared, SseFast):
    """This project behind a backplane, published to from Python in the process at which nobody reads."""

    name = "sse_fast + Redis"
    note = "published to in one process, read at the other; CPU and memory are of both and of Redis"

    def start_one(self, port: int) -> Child:
        """The same process that `make load` uses; the backplane comes by its environment."""
        scenario = Scenario("compare", events=Events(bytes=self.size)).to_dict()
        env = {**os.environ, "SSE_FAST_BACKPLANE": f"redis://127.0.0.1:{self.redis_port}/0"}
        child = Child.module("server", {"port": port, "shared": False, "scenario": scenario}, env=env)
        child.answer()
        return child

    def publish(self, number: int, count: int, patience: float) -> int:  # noqa: ARG002 - as with one process
        """By one order, which is answered once the last is taken."""
        publisher = self.others[-1]
        publisher.tell(f"p {number} {count} 0 1")
        publisher.tell("s")
        publisher.answer()
        return count


class NchanShared(Shared, Nchan):
    """Two nginx with nchan that share their channels in Redis."""

    name = "nchan + Redis"
    note = "two nginx, nchan_redis_pass; published to at one, read at the other"
    workers = 1

    def start_one(self, port: int) -> Child:
        """With the configuration of peers/nginx.conf, and where the channels are."""
        folder = self.folder / str(port)
        folder.mkdir()
        fill("nginx.conf", folder, self.values(folder, port))
        file = folder / "nginx.conf"
        text = file.read_text(encoding="utf-8")
        upstream = f"upstream shared {{ nchan_redis_server redis://127.0.0.1:{self.redis_port}; }}\n  server {{"
        text = text.replace("server {", upstream, 1).replace(
            "nchan_channel_id load;", "nchan_channel_id load; nchan_redis_pass shared;"
        )
        file.write_text(text, encoding="utf-8")
        return self.started(port, program("nginx"), "-p", folder, "-c", file)


class DjangoEventstream(Shared, _PythonPeer):
    """django-eventstream with `EVENTSTREAM_REDIS`."""

    name = "django-eventstream + Redis"
    note = "two uvicorn; without storage, so it resumes nothing"
    packages = ("django_eventstream", "redis", "uvicorn", "uvloop", "httptools")

    def start_one(self, port: int) -> Child:
        """Under this interpreter."""
        return self.started(port, sys.executable, FOLDER / "django_app.py", str(port), str(self.redis_port))


class CentrifugoShared(Shared, Centrifugo):
    """Two Centrifugo with the Redis engine."""

    name = "Centrifugo + Redis"

    def start_one(self, port: int) -> Child:
        """The configuration of one, and the engine."""
        engine = {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{self.redis_port}"}}
        path = self.folder / f"{port}.json"
        path.write_text(json.dumps({**self.config(port), "engine": engine}), encoding="utf-8")
        return self.started(port, program("centrifugo"), "--config", path)


ALL: tuple[type[Peer], ...] = (SseFastShared, NchanShared, DjangoEventstream, CentrifugoShared)


def _redis() -> str:
    return os.environ.get("REDIS_SERVER") or program("redis-server")


def _listens(port: int) -> bool:
    try:
        http.client.HTTPConnection("127.0.0.1", port, timeout=1).connect()
    except OSError:
        return False
    return True
