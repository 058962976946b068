"""nginx, Caddy and haproxy in front of an engine: as docs/proxies.md shows them, or without any setting.

`Proxy` starts the page's own configuration, with TLS, HTTP/2 and the test's ports and files; `Plain` the least
that each of them needs.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

import sse_fast

from .deadline import until
from .ports import accepts, free_ports

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proxies.md"


def shown(title: str, replaced: dict[str, str]) -> str:
    """The configuration of that title, with the test's own ports and files."""
    found = re.search(
        rf'^```\w+ title="{title}"\n(.*?)^```', PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found, title
    text = found[1]
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def serve(**settings: Any) -> sse_fast.Server:
    """An engine with handlers that publish and that say who asks."""
    server = sse_fast.serve(0, heartbeat=0.2, **settings)
    server.post("/streams/publish")(lambda request: server.stream("s").publish(request.body))
    server.get("/streams/who")(lambda request: str(request.client and request.client[0]))
    return server


def system(name: str) -> str:
    """The system's program of that name; where only root is meant to run it that is not on every PATH."""
    return shutil.which(name) or f"/usr/sbin/{name}"


def nginx(program: str, folder: Path, server: str) -> list[str]:
    """The command for an nginx that serves that and keeps to the folder."""
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"daemon off; pid {folder}/pid; error_log stderr; events {{}}"
    (folder / "main.conf").write_text(f"{main} http {{ access_log off; {paths}\n{server} }}")
    return [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "main.conf")]


class Proxy:
    """A proxy of that name in front of an engine, both on the loopback, until the end of the block."""

    def __init__(self, name: str, folder: Path, **settings: Any) -> None:
        self.name = name
        self.folder = folder
        self.port, application, admin = free_ports(3)
        self.server = serve(allowed_hosts=["app.example"], trusted_proxies=["127.0.0.1"], **settings)
        files = {"/etc/ssl/app.example": str(folder / "app.example"), "127.0.0.1:8000": f"127.0.0.1:{application}"}
        files["127.0.0.1:8080"] = f"127.0.0.1:{self.server.port}"
        openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=app.example"]
        openssl += [
            "-addext",
            "subjectAltName=DNS:app.example",
            "-keyout",
            "app.example.key",
            "-out",
            "app.example.crt",
        ]
        subprocess.run(openssl, check=True, cwd=folder, capture_output=True)
        certificate = [(folder / f"app.example.{kind}").read_bytes() for kind in ("crt", "key")]
        (folder / "app.example.pem").write_bytes(b"".join(certificate))
        command = getattr(self, f"_{name}")(files, admin)
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.output, stderr=self.output)

    def _nginx(self, files: dict[str, str], _admin: int) -> list[str]:
        program = system("nginx")
        server = shown("nginx.conf", {**files, "listen 443": f"listen 127.0.0.1:{self.port}"})
        version = subprocess.run([program, "-v"], check=True, capture_output=True, text=True).stderr
        if tuple(map(int, version.rpartition("/")[2].split()[0].split("."))) >= (1, 25, 1):
            server = server.replace(" ssl http2;", " ssl;\n    http2 on;")
        return nginx(program, self.folder, server)

    def _caddy(self, files: dict[str, str], admin: int) -> list[str]:
        site = shown("Caddyfile", {**files, "app.example {": f"https://app.example:{self.port} {{\n    bind 127.0.0.1"})
        first = f"{{\n    admin 127.0.0.1:{admin}\n    auto_https disable_redirects\n}}\n"
        (self.folder / "Caddyfile").write_text(first + site)
        return [caddy(), "run", "--config", str(self.folder / "Caddyfile")]

    def _haproxy(self, files: dict[str, str], _admin: int) -> list[str]:
        configuration = shown("haproxy.cfg", {**files, "bind :443": f"bind 127.0.0.1:{self.port}"})
        (self.folder / "haproxy.cfg").write_text(configuration)
        return [system("haproxy"), "-f", str(self.folder / "haproxy.cfg")]

    def __enter__(self) -> Proxy:  # noqa: PYI034 - typing has no Self before Python 3.11
        until(lambda: self.process.poll() is not None or accepts(self.port), 30, what=f"{self.name} listening")
        assert self.process.poll() is None, self._said()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self._said())
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()
        self.server.close(drain=0.0)

    def _said(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace")[-3000:]

    @property
    def url(self) -> str:
        return f"https://app.example:{self.port}"

    @contextlib.contextmanager
    def client(self, address: str = "127.0.0.1") -> Iterator[httpx.Client]:
        """A client of HTTP/2 with a single connection from that address, which finds the name on the loopback."""
        context = ssl.create_default_context(cafile=str(self.folder / "app.example.crt"))
        transport = OnTheLoopback(
            http2=True, verify=context, limits=httpx.Limits(max_connections=1), local_address=address
        )
        with httpx.Client(transport=transport, timeout=10) as client:
            yield client


class OnTheLoopback(httpx.HTTPTransport):
    """Connects to 127.0.0.1 whatever the URL's host is; TLS and Host have the name."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


def caddy() -> str:
    """The program that the wheel of the requirements brings, beside this Python, or the system's."""
    beside = Path(sys.executable).with_name("caddy")
    found = str(beside) if beside.exists() else shutil.which("caddy")
    assert found, "caddy is not installed: pip install -r docs/requirements.txt"
    return found


class Plain(Proxy):
    """A proxy with no setting but where to listen and where the engine is: plain HTTP, also under `/live/`."""

    def __init__(self, name: str, folder: Path, **settings: Any) -> None:
        self.name = name
        self.folder = folder
        self.port, admin = free_ports(2)
        self.server = serve(**settings)
        command = getattr(self, f"_plain_{name}")(f"127.0.0.1:{self.server.port}", admin)
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.output, stderr=self.output)

    def _plain_nginx(self, engine: str, _admin: int) -> list[str]:
        paths = f"location / {{ proxy_pass http://{engine}; }} location /live/ {{ proxy_pass http://{engine}/; }}"
        return nginx(system("nginx"), self.folder, f"server {{ listen 127.0.0.1:{self.port}; {paths} }}")

    def _plain_caddy(self, engine: str, admin: int) -> list[str]:
        first = f"{{\n    admin 127.0.0.1:{admin}\n}}\nhttp://:{self.port} {{\n    bind 127.0.0.1\n"
        paths = f"    handle_path /live/* {{\n        reverse_proxy {engine}\n    }}\n    reverse_proxy {engine}\n}}\n"
        (self.folder / "Caddyfile").write_text(first + paths)
        return [caddy(), "run", "--config", str(self.folder / "Caddyfile")]

    def _plain_haproxy(self, engine: str, _admin: int) -> list[str]:
        lines = ["defaults", "mode http", "timeout connect 5s", "timeout client 60s", "timeout server 60s"]
        lines += ["listen site", f"bind 127.0.0.1:{self.port}", "http-request replace-path /live/(.*) /\\1"]
        (self.folder / "haproxy.cfg").write_text("\n".join([*lines, f"server engine {engine}", ""]))
        return [system("haproxy"), "-f", str(self.folder / "haproxy.cfg")]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


PROXIES = ["nginx", "caddy", "haproxy"]


def readable(folder: Path) -> Path:
    """The folder, for the workers of a proxy that run as another user."""
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    return folder
