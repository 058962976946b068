"""Private streams in Chromium, by a page of another site, through nginx, Caddy and haproxy with TLS and HTTP/2.

Guards what `tests/test_private_pages.py` does where a proxy of docs/proxies.md stands between: tickets that expire
twice, several streams by one of them, a token in a header, and the cookie by its usual name, which browsers keep only
with TLS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

import sse_fast
from sse_fast.testing import token
from support.chromium import chromium
from support.deadline import until
from support.private_page import PAGE, value
from support.proxies import PROXIES, Proxy, readable
from support.signed import SECRET

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TOKENS = sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)])

#: The names that the browser finds on the loopback: that of the certificate, and the page's.
HOSTS = "MAP app.example 127.0.0.1, MAP pages.example 127.0.0.1"


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Chrome]:
    with chromium("--ignore-certificate-errors", f"--host-resolver-rules={HOSTS}") as driver:
        yield driver


class Site:
    """Streams behind a proxy, and the origin of a page that reads them."""

    def __init__(self, proxy: Proxy, origin: str, browser: Chrome) -> None:
        self.url, self.streams, self.origin, self._browser = proxy.url, proxy.server, origin, browser

    def open_page(self, origin: str | None = None) -> None:
        self._browser.get(f"{origin or self.origin}/streams/page")
        until(lambda: value(self._browser, "window.ready"))


def put_page(pages: sse_fast.Server, streams: sse_fast.Server) -> None:
    """Under `/streams/`, which a proxy passes on."""
    pages.get("/streams/page")(lambda _request: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    pages.get("/streams/ticket")(lambda _request: sse_fast.Response(streams.ticket(["s", "t"], reader="ann", ttl=1.0)))


@pytest.fixture(params=PROXIES)
def site(request: pytest.FixtureRequest, tmp_path: Path, browser: Chrome) -> Iterator[Site]:
    """A page of another site is open in the browser."""
    with sse_fast.serve(0, allowed_hosts=["pages.example"]) as pages:
        origin = f"http://pages.example:{pages.port}"
        with Proxy(request.param, readable(tmp_path), cors=[origin], tokens=TOKENS, retry=0.05) as proxy:
            put_page(pages, proxy.server)
            found = Site(proxy, origin, browser)
            found.open_page()
            yield found
            browser.get("about:blank")


@pytest.fixture(params=PROXIES)
def sister(request: pytest.FixtureRequest, tmp_path: Path, browser: Chrome) -> Iterator[Site]:
    """A page of another origin of the same site, behind a proxy of its own: browsers may keep cookies from others."""
    with contextlib.ExitStack() as stack:
        folders = [tmp_path / "pages", tmp_path / "streams"]
        for folder in folders:
            folder.mkdir()
            readable(folder)
        readable(tmp_path)
        pages = stack.enter_context(Proxy(request.param, folders[0]))
        proxy = stack.enter_context(Proxy(request.param, folders[1], cors=[pages.url], tokens=TOKENS, retry=0.05))
        put_page(pages.server, proxy.server)
        yield Site(proxy, pages.url, browser)
        browser.delete_all_cookies()
        browser.get("about:blank")


@pytest.mark.parametrize(("path", "names"), [("/streams/s", ["s"]), ("/streams?name=s&name=t", ["s", "t"])])
def test_a_ticket_that_expires_twice_loses_and_repeats_nothing(
    site: Site, browser: Chrome, path: str, names: list[str]
) -> None:
    streams = [site.streams.stream(name, start="all") for name in names]
    # The end of one stream is not that of a connection of several.
    terminal = ["end"] if len(names) == 1 else []
    browser.execute_script("follow(arguments[0], {terminal: arguments[1]})", f"{site.url}{path}", terminal)
    until(lambda: all(stream.readers() == {"ann": 1} for stream in streams))
    sent = 0
    while site.streams.stats().closed.expired < 2 or not streams[0].subscribers:
        for name, stream in zip(names, streams, strict=True):
            stream.publish([name, sent])
        sent += 1
        browser.execute_async_script("setTimeout(arguments[0], 20)")
    for stream in streams:
        stream.end("over")
    until(lambda: value(browser, "states.at(-1)") == "ended")
    seen = value(browser, "seen")
    assert len(seen) == (sent + 1) * len(names)
    for name in names:
        # Of several streams each is in order; where a connection takes the place of another, one may be ahead.
        got = [word[1] for event, word in seen if event == "message" and word[0] == name]
        assert got == list(range(sent)), name
    words = {state.partition(" ")[0] for state in value(browser, "states")}
    assert words == {"connecting", "live", "ended"}, "an expired ticket is no lost connection"


def test_a_token_in_a_header_needs_an_allowed_origin(site: Site, browser: Chrome) -> None:
    site.streams.stream("s", start="all").publish("for ann")
    good = {"Authorization": f"Bearer {token(SECRET, ['s'])}"}

    def polled(headers: dict[str, str]) -> tuple[int, bool]:
        script = "const done = arguments[2]; poll(arguments[0], arguments[1]).then(done)"
        status, body = browser.execute_async_script(script, f"{site.url}/streams/s", headers)
        return status, "for ann" in body

    assert polled(good) == (200, True)
    assert polled({}) == (401, False), "it is told why"
    posted = "fetch(arguments[0], {method: 'POST', body: 'x', credentials: 'include'})"
    script = f"const done = arguments[1]; {posted}.then((answer) => done(answer.status), () => done(0))"
    assert browser.execute_async_script(script, f"{site.url}/streams/publish") == 200
    # The same page by another name of its host: another origin.
    site.open_page(site.origin.replace("pages.example", "127.0.0.1"))
    assert polled(good) == (0, False)
    assert browser.execute_async_script(script, f"{site.url}/streams/publish") == 0


def test_the_cookie_is_sent_by_an_event_source_with_credentials_alone(sister: Site, browser: Chrome) -> None:
    sister.streams.stream("s", start="all").publish("for ann")

    @sister.streams.get("/streams/log-in")
    def log_in(_request: sse_fast.Request) -> sse_fast.Response:
        given = f"__Host-sse_fast={token(SECRET, ['s'], ttl=4.0)}; Path=/; Secure; HttpOnly; SameSite=Strict"
        return sse_fast.Response("in", content_type="text/plain", headers={"Set-Cookie": given})

    browser.get(f"{sister.url}/streams/log-in")
    assert value(browser, "performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    sister.open_page()
    listen = "listen(arguments[0], arguments[1])"
    browser.execute_script(listen, f"{sister.url}/streams/s", False)
    until(lambda: value(browser, "source.readyState") == 2, what="a refusal: without credentials no cookie is sent")
    browser.execute_script(f"told.length = 0; {listen}", f"{sister.url}/streams/s", True)
    until(lambda: ["auth", '{"reason":"expired"}'] in value(browser, "told"), what="the end of the right")
    assert value(browser, "told")[0] == ["message", "for ann"]
    until(lambda: value(browser, "source.readyState") == 2, what="that it gives up: what has expired is 401")
