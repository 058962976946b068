"""Private streams in Chromium, read by a page of another origin: tickets, tokens in headers, cookies.

Guards that a page whose tickets expire goes on without losing or repeating an event, and that each way of showing a
right that a browser has works across origins, and only for an origin that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver import Chrome

import sse_fast
from conftest import Serve
from sse_fast.testing import token
from support.deadline import until
from support.private_page import PAGE, value
from support.signed import SECRET

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

Page = Callable[[], sse_fast.Server]


@pytest.fixture
def private(serve: Serve, browser: Chrome) -> Iterator[sse_fast.Server]:
    """The server of the streams, of another origin than the page, which is open in the browser by then."""
    pages = serve()
    origin = f"http://127.0.0.1:{pages.port}"
    tokens = sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)])
    streams = serve(cors=[origin], tokens=tokens, cookie="reader", heartbeat=0.2, retry=0.05)
    pages.get("/page")(lambda _request: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    pages.get("/ticket")(lambda _request: sse_fast.Response(streams.ticket(["s"], reader="ann", ttl=1.0)))
    browser.get(f"{origin}/page")
    until(lambda: browser.execute_script("return window.ready"))
    yield streams
    browser.delete_all_cookies()
    browser.get("about:blank")


def test_a_ticket_that_expires_twice_loses_and_repeats_nothing(private: sse_fast.Server, browser: Chrome) -> None:
    stream = private.stream("s", start="all")
    browser.execute_script("follow(arguments[0])", f"http://127.0.0.1:{private.port}/streams/s")
    until(lambda: stream.readers() == {"ann": 1})
    sent = 0
    while private.stats().closed.expired < 2 or not stream.subscribers:
        stream.publish(sent)
        sent += 1
        browser.execute_async_script("setTimeout(arguments[0], 20)")
    stream.end(sent)
    until(lambda: value(browser, "states.at(-1)") == "ended")
    assert value(browser, "seen") == [*(["message", number] for number in range(sent)), ["end", sent]]
    assert value(browser, "tickets") >= 3
    words = {state.partition(" ")[0] for state in value(browser, "states")}
    assert words == {"connecting", "live", "ended"}, "an expired ticket is no lost connection"


def test_a_token_in_a_header_needs_an_allowed_origin(private: sse_fast.Server, serve: Serve, browser: Chrome) -> None:
    private.stream("s", start="all").publish("for ann")
    closed = serve(tokens=sse_fast.Tokens(keys=[sse_fast.Key("HS256", SECRET)]))
    closed.stream("s", start="all").publish("for ann")
    good = {"Authorization": f"Bearer {token(SECRET, ['s'])}"}

    def polled(server: sse_fast.Server, headers: dict[str, str]) -> tuple[int, bool]:
        script = "const done = arguments[2]; poll(arguments[0], arguments[1]).then(done)"
        status, body = browser.execute_async_script(script, f"http://127.0.0.1:{server.port}/streams/s", headers)
        return status, "for ann" in body

    assert polled(private, good) == (200, True)
    assert polled(private, {}) == (401, False), "it is told why"
    assert polled(private, {"Authorization": "Bearer x"}) == (401, False)
    assert polled(closed, good) == (0, False)


def test_a_cookie_is_sent_by_an_event_source_and_the_end_of_its_token_told(
    private: sse_fast.Server, browser: Chrome
) -> None:
    private.stream("s", start="all").publish("for ann")
    url = f"http://127.0.0.1:{private.port}/streams/s"
    browser.execute_script("document.cookie = arguments[0]", f"reader={token(SECRET, ['s'], ttl=2.0)}")
    browser.execute_script("listen(arguments[0], false)", url)
    until(lambda: value(browser, "source.readyState") == 2, what="a refusal: without credentials no cookie is sent")
    browser.execute_script("told.length = 0; listen(arguments[0], true)", url)
    until(lambda: ["auth", '{"reason":"expired"}'] in value(browser, "told"))
    assert value(browser, "told")[0] == ["message", "for ann"]
    until(lambda: value(browser, "source.readyState") == 2, what="that it gives up: what has expired is 401")
