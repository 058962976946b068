"""The servers that `make compare` puts side by side: how each is found, started, asked and published to.

Owns: one class for each, with the configuration its own documentation recommends for many subscribers; heartbeats are
15 s wherever a server lets one choose. Must not know: loads, figures.

A peer that is not there says how to get it. Adding one: a class here, a line in `ALL`, a row in README.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import resource
import shutil
import socket
import string
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

from .processes import Child, ChildError, wait_until
from .scenario import Events, Scenario

FOLDER = Path(__file__).parent / "peers"
_PYTHON_HINT = ".venv/bin/pip install -r loadtest/peers/requirements.txt"


def event(number: int, size: int) -> str:
    """The data of an event, with the time of its making."""
    head = f'{{"seq":{number},"t":{time.monotonic_ns()},"pad":"'
    return head + "x" * max(0, size - len(head) - 2) + '"}'


class Peer:
    """A server under comparison. Its folder is temporary; `stop` ends its process and leaves nothing."""

    name = ""
    path = "/events"
    publish_path = "/publish"
    headers: dict[str, str] = {}  # noqa: RUF012 - read only
    inside = False  # Whether events are published within the server's process, as its users do.
    note = ""

    def __init__(self, folder: Path, port: int, size: int) -> None:
        """Not started yet; events will be of that size."""
        self.folder, self.port, self.size = folder, port, size
        self.publish_port = port
        self.child: Child | None = None
        self._http: http.client.HTTPConnection | None = None

    @classmethod
    def hint(cls) -> str | None:
        """How to install it; None where it is installed."""
        return None

    @property
    def roots(self) -> list[int]:
        """The processes that it is, with all that they have started."""
        assert self.child is not None
        return [self.child.pid]

    def start(self) -> None:
        """Starts it; it listens when this returns."""
        raise NotImplementedError

    def publish(self, number: int, count: int, patience: float) -> int:
        """Publishes `count` events from that number on, each as soon as the one before is taken; returns how many.

        Stops after `patience` seconds: an overloaded server may take hours.
        """
        end = time.monotonic() + patience
        for each in range(number, number + count):
            if time.monotonic() > end:
                return each - number
            self._post(self.publish_path, self.body(event(each, self.size)), self.headers)
        return count

    def body(self, data: str) -> str:
        """What is posted to publish an event."""
        return data

    def stop(self) -> None:
        """Ends it."""
        if self._http is not None:
            self._http.close()
        if self.child is not None:
            self.child.end()

    def _spawn(self, *command: str | Path, **options: Any) -> None:
        with (self.folder / "stderr").open("wb") as log:
            self.child = Child(command, log=log, stdout=log, cwd=self.folder, **options)
        self._await_port()

    def _await_port(self) -> None:
        def listens() -> bool:
            assert self.child is not None
            self.child.check()
            try:
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=1).connect()
            except OSError:
                return False
            return True

        wait_until(listens, 30, f"{self.name} listens")

    def _post(self, path: str, body: str, headers: dict[str, str], method: str = "POST") -> None:
        if self._http is None:
            self._http = http.client.HTTPConnection("127.0.0.1", self.publish_port, timeout=120)
        self._http.request(method, path, body.encode(), headers)
        response = self._http.getresponse()
        text = response.read()
        if response.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise ChildError(f"{self.name} answered {response.status} to {method} {path}: {text[:200]!r}")


class Floor(Peer):
    """neutral/floor.c: the unit."""

    name = "floor"
    path = "/"
    inside = True
    note = "one send() per subscriber and event on one thread; not a server, and never given readers that do not read"
    program = Path()  # Set by `compare`, which compiles it.

    def start(self) -> None:
        """Starts it."""
        self._spawn(self.program, "--bytes", str(self.size), "--heartbeat", "15", str(self.port))

    def publish(self, number: int, count: int, patience: float) -> int:  # noqa: ARG002 - it never takes long
        """By one order."""
        assert self.child is not None
        self.child.tell(f"p {number} {count} 0 1")
        return count


class SseFast(Peer):
    """This project with its default settings, published to from Python in its own process."""

    name = "sse_fast"
    path = "/streams/load/0"
    inside = True

    def start(self) -> None:
        """Starts the same process that `make load` uses."""
        scenario = Scenario("compare", events=Events(bytes=self.size)).to_dict()
        job = {"port": self.port, "shared": False, "scenario": scenario}
        self.child = Child.module("server", job)
        self.child.answer()

    def publish(self, number: int, count: int, patience: float) -> int:  # noqa: ARG002 - it never takes long
        """By one order; the events follow each other in a plain loop."""
        assert self.child is not None
        self.child.tell(f"p {number} {count} 0 1")
        return count


class Nchan(Peer):
    """nginx with nchan, a worker for each core."""

    name = "nchan"
    workers = os.cpu_count() or 1
    modules = tuple(Path(path) / "nginx/modules/ngx_nchan_module.so" for path in ("/usr/lib", "/usr/lib64"))

    @classmethod
    def hint(cls) -> str | None:
        """Debian's packages, or the same by another name."""
        found = program("nginx") and any(module.exists() for module in cls.modules)
        return None if found else "apt install nginx libnginx-mod-nchan"

    def start(self) -> None:
        """Starts it with the configuration of peers/nginx.conf."""
        fill("nginx.conf", self.folder, self.values(self.folder, self.port))
        self._spawn(program("nginx"), "-p", self.folder, "-c", self.folder / "nginx.conf")

    def values(self, folder: Path, port: int) -> dict[str, object]:
        """What the configuration leaves open."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return {
            "module": next(module for module in self.modules if module.exists()),
            "folder": folder,
            "workers": self.workers,
            "files": files,
            "connections": files - 500,
            "port": port,
        }


class Nchan1(Nchan):
    """nginx with nchan, one worker: no event crosses between processes."""

    name = "nchan (1 worker)"
    workers = 1


class DurableStreams(Peer):
    """Electric's durable-streams server (Rust), in memory."""

    name = "durable-streams"
    path = "/load?offset=now&live=sse"
    publish_path = "/load"
    headers = {"Content-Type": "application/json"}  # noqa: RUF012
    note = "merges what waits into one event that holds a JSON array; each part is counted"

    @classmethod
    def hint(cls) -> str | None:
        """From crates.io."""
        return None if program("durable-streams-server") else "cargo install durable-streams"

    def start(self) -> None:
        """Starts it and makes the stream."""
        options = ("--port", str(self.port), "--data-dir", self.folder / "data", "--durability", "memory")
        self._spawn(program("durable-streams-server"), *options)
        self._post("/load", "", self.headers, "PUT")


class _PythonPeer(Peer):
    """A Python application in peers/."""

    app: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @classmethod
    def hint(cls) -> str | None:
        """All Python peers come together."""
        found = all(importlib.util.find_spec(package.split(".")[0]) for package in cls.packages)
        return None if found else _PYTHON_HINT

    def start(self) -> None:
        """Starts it under this interpreter."""
        name, *arguments = self.app
        self._spawn(sys.executable, FOLDER / name, *arguments, str(self.port))


class SseStarlette(_PythonPeer):
    """sse-starlette on uvicorn."""

    name = "sse-starlette (uvicorn)"
    app = ("starlette_app.py", "uvicorn")
    packages = ("sse_starlette", "uvicorn", "uvloop", "httptools")


class SseStarletteGranian(_PythonPeer):
    """sse-starlette on granian."""

    name = "sse-starlette (granian)"
    app = ("starlette_app.py", "granian")
    packages = ("sse_starlette", "granian")


class AiohttpSse(_PythonPeer):
    """aiohttp-sse."""

    name = "aiohttp-sse"
    app = ("aiohttp_app.py",)
    packages = ("aiohttp_sse", "uvloop")


class FastApi(_PythonPeer):
    """FastAPI's own."""

    name = "FastAPI"
    app = ("fastapi_app.py",)
    packages = ("fastapi", "uvicorn", "uvloop", "httptools")


class Mercure(Peer):
    """The Mercure hub, with its local transport."""

    name = "Mercure"
    path = "/.well-known/mercure?topic=load"
    publish_path = "/.well-known/mercure"
    _key = "a key of this comparison alone, 32 bytes or more".replace(" ", "-").replace(",", "")

    @classmethod
    def hint(cls) -> str | None:
        """A download."""
        return None if program("mercure") else "the Caddy build from mercure.rocks, as `mercure` in the PATH"

    def start(self) -> None:
        """Starts it with the configuration of peers/Caddyfile."""
        parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "HS256"}, {"mercure": {"publish": ["*"]}})]
        signed = hmac.new(self._key.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
        token = ".".join([*parts, _base64(signed)])
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-www-form-urlencoded"}
        fill("Caddyfile", self.folder, {"port": self.port, "key": self._key})
        config = ("run", "--adapter", "caddyfile", "--config", self.folder / "Caddyfile")
        self._spawn(program("mercure"), *config, env={**os.environ, "HOME": str(self.folder)})

    def body(self, data: str) -> str:
        """A form."""
        return urllib.parse.urlencode({"topic": "load", "data": data})


class Centrifugo(Peer):
    """Centrifugo 6, its one-way event stream and its memory engine."""

    name = "Centrifugo"
    path = "/connection/uni_sse?cf_connect=" + urllib.parse.quote('{"subs":{"load":{}}}')
    publish_path = "/api/publish"
    headers = {"Content-Type": "application/json"}  # noqa: RUF012

    @classmethod
    def hint(cls) -> str | None:
        """A download."""
        return None if program("centrifugo") else "a release from centrifugal.dev, as `centrifugo` in the PATH"

    def start(self) -> None:
        """Starts it."""
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.config(self.port)), encoding="utf-8")
        self._spawn(program("centrifugo"), "--config", path)

    @staticmethod
    def config(port: int) -> dict[str, Any]:
        """As little as it takes to be open to anyone."""
        subscribe = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
        return {
            "log": {"level": "error"},
            "http_server": {"address": "127.0.0.1", "port": str(port)},
            "uni_sse": {"enabled": True},
            "http_api": {"insecure": True},
            "client": {"allow_anonymous_connect_without_token": True, "ping_interval": "15s", "allowed_origins": ["*"]},
            "channel": {"without_namespace": subscribe},
        }

    def body(self, data: str) -> str:
        """JSON within JSON."""
        return f'{{"channel":"load","data":{data}}}'


ALL: tuple[type[Peer], ...] = (
    SseFast,
    Nchan,
    Nchan1,
    DurableStreams,
    AiohttpSse,
    SseStarletteGranian,
    SseStarlette,
    FastApi,
    Mercure,
    Centrifugo,
)


def program(name: str) -> str:
    """A program's path, or nothing; system servers are not in every user's PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])) or ""


def fill(name: str, folder: Path, values: dict[str, object]) -> None:
    """Writes a file of peers/ into `folder`, with what it leaves open filled in."""
    template = string.Template((FOLDER / name).read_text(encoding="utf-8"))
    # nginx and Caddy have no `$` of their own in these files, so whatever is left over is a mistake.
    (folder / name).write_text(template.substitute(values), encoding="utf-8")


def free_port() -> int:
    """A port of the loopback address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
