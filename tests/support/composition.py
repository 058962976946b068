"""examples/compose without Docker: the same files, each service as processes with an address of the loopback.

A service's name becomes an address of 127.0.0.0/8, `0.0.0.0` the service's own; nothing else of a command, an
environment or nginx.conf is changed but what a test must (ports below 1024, where nginx writes). Services start in the
order that `depends_on` asks for, and those with a `healthcheck` count as started once it passes.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

import sse_fast

from .deadline import until
from .host import Host
from .proxies import readable, system

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "compose"
PACKAGE = Path(sse_fast.__file__).parents[1]
KEY = "a key of this test alone, 32 bytes or more".replace(" ", "-").replace(",", "")
#: Seconds in which a service must have started: several of them import frameworks at the same time.
STARTING = 90.0
PUBLIC, ENGINE, INSIDE = 8880, 8080, 8081
#: How each program of the composition is started here: those of Python by their modules, under the tests' own Python.
_MODULES = {"sse-fast": "sse_fast", "gunicorn": "gunicorn", "celery": "celery", "uvicorn": "uvicorn"}


def document() -> dict[str, Any]:
    """docker-compose.yml, with the key that a user exports."""
    text = (FOLDER / "docker-compose.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{EVENTS_KEY:\?[^}]*\}", KEY, text))
    return found


def accepts(host: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) == 0


class Composition:
    """All services of docker-compose.yml, and those of `more`, which stand in the same form."""

    def __init__(self, folder: Path, more: dict[str, Any] | None = None) -> None:
        self.folder = readable(folder)
        self.services: dict[str, Any] = {**document()["services"], **(more or {})}
        # A net of its own, so that two compositions, or another program, never meet.
        net = f"127.{random.randint(32, 250)}.{random.randint(1, 250)}"
        self.addresses = {name: f"{net}.{number}" for number, name in enumerate(self.services, 2)}
        self.running: dict[str, Host] = {}
        for file in (*FOLDER.glob("*.py"), FOLDER / "sse-fast.toml"):
            shutil.copy(file, folder)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Composition:  # noqa: PYI034 - typing has no Self before Python 3.11
        try:
            for name in self.services:
                self._start_with_what_it_needs(name)
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for name, host in self.running.items():
                print(f"---- {name}\n{host.output[-3000:]}")
        self._stack.close()

    def here(self, text: str, service: str) -> str:
        """A text of the composition with this machine's addresses."""
        own = self.addresses[service]
        text = text.replace("0.0.0.0", own).replace("172.16.0.0/12", "127.0.0.0/8")
        names = "|".join(sorted(map(re.escape, self.addresses), key=len, reverse=True))
        return re.sub(rf"(?<![\w-])({names})(?=:\d)", lambda found: self.addresses[found[1]], text)

    def start(self, name: str) -> Host:
        """Starts one service, as `docker compose up` would again when it has ended."""
        service = self.services[name]
        program, *words = [self.here(str(word), name) for word in service["command"]]
        env = {key: self.here(str(value), name) for key, value in service.get("environment", {}).items()}
        env |= {"PYTHONPATH": f"{self.folder}{os.pathsep}{PACKAGE}", "HOME": str(self.folder)}
        if program == "sse-fast":
            # On 0.0.0.0 it answers to every name, on an address of the loopback to that of nginx only when it is named.
            env["SSE_FAST_ALLOWED_HOSTS"] = ",".join(self.addresses.values())
        if program in _MODULES:
            host = Host("-m", _MODULES[program], *words, cwd=self.folder, env=env)
        elif program == "redis-server":
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            words += ["--bind", self.addresses[name], "--dir", str(folder)]
            host = Host(*words, cwd=folder, env=env, program=[os.environ.get("REDIS_SERVER") or system(program)])
        else:
            assert program == "nginx", f"{name}: {program} is not a program that is known here"
            host = Host(*self._nginx(name), cwd=self.folder, env=env, program=[system("nginx")])
        self.running[name] = self._stack.enter_context(host)
        return host

    def started(self, name: str) -> Host:
        """Starts it and waits until it is well."""
        host = self.start(name)
        until(lambda: host.process.poll() is not None or self._is_well(name), STARTING, what=f"{name} being well")
        assert host.process.poll() is None, f"{name} ended with {host.process.returncode}: {host.output[-3000:]}"
        return host

    def _start_with_what_it_needs(self, name: str) -> None:
        if name not in self.running:
            for needed in self.services[name].get("depends_on", ()):
                self._start_with_what_it_needs(needed)
            self.started(name)

    def _is_well(self, name: str) -> bool:
        """Its healthcheck, where it has one; else that it listens, or says that it is ready."""
        check = self.services[name].get("healthcheck", {}).get("test")
        if name == "redis":
            return accepts(self.addresses[name], 6379)
        if check:
            kind, program, *words = check
            assert (kind, program) == ("CMD", "python"), check
            own = self.addresses[name]
            command = [sys.executable, *(word.replace("127.0.0.1", own) for word in words)]
            return subprocess.run(command, check=False, capture_output=True, timeout=STARTING).returncode == 0
        if "celery" in self.services[name]["command"]:
            return " ready." in self.running[name].output
        return accepts(self.addresses[name], PUBLIC if name == "nginx" else 8000)

    def _nginx(self, name: str) -> list[str]:
        own = self.addresses[name]
        text = self.here((FOLDER / "nginx.conf").read_text(encoding="utf-8"), name)
        for old, new in (("listen 80;", f"listen {own}:{PUBLIC};"), ("listen 8081;", f"listen {own}:{INSIDE};")):
            assert old in text, old
            text = text.replace(old, new)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        (self.folder / "nginx.conf").write_text(text.replace("http {", f"http {{ {paths}", 1), encoding="utf-8")
        words = self.services[name]["command"][1:]
        main = f"{words[1]} pid {self.folder}/nginx.pid;"
        return ["-e", "stderr", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), words[0], main]
