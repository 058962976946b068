"""docs/proxies.md: nginx, Caddy and haproxy as the page shows them, with TLS and HTTP/2, and with no setting at all.

Guards that an event goes through at once, that twenty streams share one connection, that a reader resumes and its
leaving arrives, that the site's own pages may POST and other sites' may not, and that the client's address is right
whatever the client says of it.
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
from typing import Any

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

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port, application, admin = free_ports(3)
        self.server = serve(allowed_hosts=["app.example"], trusted_proxies=["127.0.0.1"])
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
    import sys

    beside = Path(sys.executable).with_name("caddy")
    found = str(beside) if beside.exists() else shutil.which("caddy")
    assert found, "caddy is not installed: pip install -r docs/requirements.txt"
    return found


class Plain(Proxy):
    """A proxy with no setting but where to listen and where the engine is: plain HTTP, also under `/live/`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port, admin = free_ports(2)
        self.server = serve()
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


@pytest.fixture(params=PROXIES)
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plain]:
    with Plain(request.param, readable(tmp_path)) as running:
        assert isinstance(running, Plain)
        yield running


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxy]:
    readable(tmp_path)
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


def test_several_streams_go_through_one_request_and_are_resumed(proxy: Proxy) -> None:
    streams = [proxy.server.stream(name, start="all") for name in "ab"]
    for stream in streams:
        stream.publish("1")
    for path in ("/streams?name=a&name=b", "/streams/?name=a&name=b"):
        with proxy.client() as client, client.stream("GET", f"{proxy.url}{path}") as response:
            assert response.status_code == 200, response.headers
            lines = response.iter_lines()
            ids = [next(line for line in lines if line.startswith("id: "))[4:] for _ in range(2)]
            assert response.extensions["http_version"] == b"HTTP/2"
        until(lambda: proxy.server.stats().subscribers == 0, what="the reader's leaving")
    for stream in streams:
        stream.end("over")
    with proxy.client() as client:
        resumed = client.get(f"{proxy.url}/streams?name=a&name=b", headers={"Last-Event-ID": ids[-1]})
        assert re.findall("^data: (.*)$", resumed.text, re.MULTILINE) == ["over", "over"]


def test_the_application_gets_what_is_not_the_engine_s_and_pages_their_module(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert "connect" in client.get(f"{proxy.url}/sse-fast.js").text
        # Nothing listens there.
        for path in ("/", "/streamss", "/x/streams/s", "/sse-fast.js.map"):
            assert client.get(f"{proxy.url}{path}").status_code in {502, 503}, path


def test_the_site_s_own_pages_may_post_and_others_may_not(proxy: Proxy) -> None:
    with proxy.client() as client:
        for origin, status in [(proxy.url, 200), ("https://evil.example", 403)]:
            answer = client.post(f"{proxy.url}/streams/publish", content=b"x", headers={"Origin": origin})
            assert answer.status_code == status, answer.text


@pytest.mark.parametrize("said", [{}, {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "127.0.0.1, 127.0.0.1"}])
def test_the_client_s_address_is_right_whatever_it_says_of_it(proxy: Proxy, said: dict[str, str]) -> None:
    with proxy.client("127.0.0.2") as client:
        answer = client.get(f"{proxy.url}/streams/who", headers={**said, "Forwarded": "for=203.0.113.8"})
        assert answer.json() == "127.0.0.2"


def test_a_page_that_another_site_shows_may_not_post_by_saying_that_it_was_forwarded(proxy: Proxy) -> None:
    with proxy.client() as client:
        said = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
        answer = client.post(f"{proxy.url}/streams/publish", content=b"x", headers=said)
        assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("prefix", ["", "/live"])
def test_without_any_setting_a_page_reads_resumes_and_posts(plain: Plain, prefix: str) -> None:
    stream = plain.server.stream("s")
    plain.server.stream("s2")
    url = f"{plain.url}{prefix}/streams"
    with httpx.Client(timeout=10) as client:
        with client.stream("GET", f"{url}/s") as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            lines = response.iter_lines()
            assert next(line for line in lines if line) == ": heartbeat"
            first = stream.publish("1")
            assert next(line for line in lines if line.startswith("id: ")) == f"id: {first}"
        until(lambda: stream.subscribers == 0, what="the reader's leaving")
        for site, status in [("same-origin", 200), ("cross-site", 403)]:
            said = {"Sec-Fetch-Site": site, "Origin": "https://app.example"}
            assert client.post(f"{url}/publish", content=b"2", headers=said).status_code == status
        stream.end()
        resumed = client.get(f"{url}/s", headers={"Last-Event-ID": first})
        assert re.findall("^data: (.*)$", resumed.text, re.MULTILINE) == ["2", "null"]
        assert client.get(f"{plain.url}{prefix}/sse-fast.js").status_code == 200
        both = client.get(f"{url}?name=s&name=s2", headers={"Accept": "application/json"})
        assert [stream["known"] for stream in both.json()["streams"]] == [True, True]
