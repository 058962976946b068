"""The approvals demo's page in Chromium: the card, the keys, the sessions, and how it keeps up with its queues (S3.6).

Seconds of the health check and of polling are shortened by the page's own address, but for one test each.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import sse_fast
from conftest import Serve
from sse_fast.demos import approvals
from sse_fast.demos._site import install_site
from support.chromium import console
from support.deadline import until
from support.demo import running_demo
from support.pages import (
    assert_everything_has_a_name,
    assert_fits_a_narrow_screen,
    assert_nothing_from_elsewhere,
    click,
    said,
    text_of,
)
from support.proxy import Proxy
from support.questions import Caller

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

#: Counts the streams that a page has open, by EventSource or by fetch, the most that it ever had, and when it asked for
#: the clarifications as JSON.
COUNT_STREAMS = """
window.streams = { open: 0, most: 0, made: 0 };
window.polls = [];
const opened = () => {
  streams.made += 1;
  streams.open += 1;
  streams.most = Math.max(streams.most, streams.open);
};
const closing = () => {
  let isOpen = true;
  return () => {
    if (isOpen) streams.open -= 1;
    isOpen = false;
  };
};
window.EventSource = class extends EventSource {
  #closed = closing();
  constructor(...given) {
    super(...given);
    opened();
  }
  close() {
    this.#closed();
    super.close();
  }
};
const fetchAsItWas = window.fetch;
window.fetch = (address, options = {}) => {
  const accept = new Headers(options.headers).get("Accept") ?? "";
  if (accept.includes("text/event-stream")) {
    opened();
    options.signal?.addEventListener("abort", closing());
  } else if (accept === "application/json" && String(address).includes("/api/clarify/stream")) {
    polls.push(performance.now());
  }
  return fetchAsItWas(address, options);
};
"""


class Page:
    """The page in the browser, and the server behind it."""

    def __init__(self, browser: Chrome, server: sse_fast.Server, caller: Caller) -> None:
        self.browser, self.server, self.caller = browser, server, caller
        self.joins: Counter[str] = Counter()
        server.on_join(lambda stream, _reader: self.joins.update([stream.name]))

    def open(self, address: str = "", port: int | None = None) -> None:
        self.browser.get("about:blank")
        self.browser.get(f"http://127.0.0.1:{port or self.server.port}/approvals{address}")
        until(lambda: self.states() == ["live", "live"], what="both streams")
        told = (
            "return ['#approval', '#clarify'].every((id) =>"
            " document.querySelector(`${id} :is(.question, .empty):not([hidden])`))"
        )
        until(lambda: self.browser.execute_script(told), what="the first event of both")

    def states(self) -> list[str | None]:
        return [self.state(kind) for kind in ("approval", "clarify")]

    def state(self, kind: str) -> str | None:
        return self.browser.find_element(By.CSS_SELECTOR, f"#{kind} .connection").get_attribute("data-state")

    def shown(self, kind: str) -> tuple[str, str]:
        """The question that the card shows, and its count; two empty texts where nothing waits."""
        return text_of(self.browser, f"#{kind} .text"), text_of(self.browser, f"#{kind} .badge")

    def press(self, *keys: str) -> None:
        self.browser.find_element(By.TAG_NAME, "body").send_keys(*keys)

    def polls(self) -> list[float]:
        """When the page asked for the clarifications as JSON, in milliseconds."""
        moments: list[float] = self.browser.execute_script("return polls")
        return moments


@pytest.fixture
def page(serve: Serve, browser: Chrome, tmp_path: Path) -> Iterator[Page]:
    server = serve()
    approvals.install(server, tmp_path)
    install_site(server, [approvals.DEMO])
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": COUNT_STREAMS})
    with Caller(server.port) as caller:
        yield Page(browser, server, caller)
    browser.get("about:blank")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    console(browser)


def test_s3_6_the_card_shows_head_and_count_and_keys_answer_it(page: Page) -> None:
    page.open("#research")
    assert page.shown("approval") == page.shown("clarify") == ("", "")
    assert page.browser.find_element(By.CSS_SELECTOR, "#approval .empty").is_displayed()
    numbers = [page.caller.submit(text, "research", "approval") for text in ("first?", "second?", "third?")]
    until(lambda: page.shown("approval") == ("first?", "3 waiting"))
    for key, text, count in (("a", "second?", "2 waiting"), ("D", "third?", "1 waiting"), ("a", "", "")):
        rested(page)
        page.press(key)
        until(lambda text=text, count=count: page.shown("approval") == (text, count))
    rows = page.caller.call("/api/questions?session_id=research")[1]
    assert {row["id"]: row["answer"] for row in rows} == dict(zip(numbers, ("approve", "deny", "approve"), strict=True))
    until(lambda: text_of(page.browser, "#history").count("approve") == 2, what="the history")
    assert page.browser.find_element(By.CSS_SELECTOR, "#approval .empty").is_displayed()
    assert not page.browser.find_element(By.CSS_SELECTOR, "#approval .question").is_displayed(), "the card disappears"
    assert "Nothing more waits here." in page.browser.page_source


def rested(page: Page) -> None:
    """Keys rest for a moment after the head has changed, by the page's clock."""
    page.browser.execute_async_script("setTimeout(arguments[0], 450)")


def test_s3_6_a_key_that_was_meant_for_the_last_question_does_not_answer_the_next(page: Page) -> None:
    page.open("#research")
    for text in ("first?", "second?"):
        page.caller.submit(text, "research", "approval")
    until(lambda: page.shown("approval") == ("first?", "2 waiting"))
    rested(page)
    page.browser.execute_async_script(
        "const done = arguments[0], press = () => document.body.dispatchEvent(new KeyboardEvent('keydown',"
        " { key: 'a', bubbles: true }));"
        "new MutationObserver(() => { press(); done(); }).observe(document.querySelector('#approval .text'),"
        " { childList: true }); press();"
    )
    until(lambda: page.shown("approval") == ("second?", "1 waiting"))
    assert [row["answer"] for row in page.caller.call("/api/questions?session_id=research")[1]] == [None, "approve"]


def test_s3_6_a_clarification_is_answered_by_number_or_in_own_words(page: Page) -> None:
    page.open("#research")
    page.caller.submit("Which?", "research", choices=["main", "release"])
    page.caller.submit("And why?", "research")
    until(lambda: page.shown("clarify") == ("Which?", "2 waiting"))
    rested(page)
    page.press("2")
    until(lambda: page.shown("clarify") == ("And why?", "1 waiting"))
    page.browser.find_element(By.ID, "own-answer").send_keys("adapted to 1 or 2", Keys.ENTER)
    until(lambda: page.shown("clarify") == ("", ""))
    rows = page.caller.call("/api/questions?session_id=research")[1]
    assert [row["answer"] for row in rows] == ["adapted to 1 or 2", "release"]


def test_s3_6_two_pages_show_the_same_and_the_slower_answer_is_told(page: Page) -> None:
    page.open("#research")
    first = page.browser.current_window_handle
    question = page.caller.submit("Which?", "research", choices=["one", "two"])
    until(lambda: page.shown("clarify") == ("Which?", "1 waiting"))
    page.browser.switch_to.new_window("tab")
    try:
        page.open("#research")
        until(lambda: page.shown("clarify") == ("Which?", "1 waiting"))
        page.caller.resolve(question, "one", "research")
        until(lambda: page.shown("clarify") == ("", ""))
    finally:
        page.browser.close()
        page.browser.switch_to.window(first)
    until(lambda: page.shown("clarify") == ("", ""))


def test_the_agent_s_form_asks_and_shows_what_is_refused(page: Page) -> None:
    page.open("#deploy")
    click(page.browser, "#submit")
    until(lambda: page.shown("approval") == ("Run this command?", "1 waiting"))
    assert text_of(page.browser, "#approval .detail") == "rm -rf build/ && make release"
    page.browser.find_element(By.ID, "text").clear()
    click(page.browser, "#submit")
    until(lambda: text_of(page.browser, "#ask-error").startswith("text: must be"))


def test_s3_6_without_a_stream_the_page_polls_every_3_s_and_returns_to_the_stream_by_itself(page: Page) -> None:
    with Proxy(page.server.port) as proxy:
        page.open("#research", proxy.port)
        proxy.refusing_streams = True
        proxy.cut()
        page.caller.submit("first?", "research")
        until(lambda: page.state("clarify") == "polling", 40, what="polling")
        until(lambda: page.shown("clarify") == ("first?", "1 waiting"), what="the question, by polling")
        before = len(page.polls())
        until(lambda: len(page.polls()) >= before + 3, what="three polls")
        moments = page.polls()[before:]
        for earlier, later in itertools.pairwise(moments):
            assert later - earlier == pytest.approx(3000, abs=800), moments
        proxy.refusing_streams = False
        until(lambda: page.state("clarify") == "live", 60, what="the stream again")
        polls = len(page.polls())
        with Caller(page.server.port) as late:  # The other's connection was idle for too long.
            late.submit("second?", "research")
        until(lambda: page.shown("clarify") == ("first?", "2 waiting"))
        assert len(page.polls()) == polls


def test_s3_6_after_an_error_the_page_comes_back_with_what_is_true_by_then(page: Page) -> None:
    with Proxy(page.server.port) as proxy:
        page.open("?pollEvery=0.3#research", proxy.port)
        proxy.refusing = True
        proxy.cut()
        until(lambda: page.states() == ["polling", "polling"], 60, what="polling after the browser's own attempts")
        for text in ("first?", "second?"):
            page.caller.submit(text, "research")
        proxy.refusing = False
        until(lambda: page.states() == ["live", "live"], 60, what="the streams again")
        until(lambda: page.shown("clarify") == ("first?", "2 waiting"))


def test_s3_6_the_health_timer_never_reconnects_a_healthy_page(page: Page) -> None:
    page.server.stream("clarify/research", heartbeat=0.1)
    page.open("?idleTimeout=0.2#research")
    before = len(page.polls())
    for number in range(3):
        page.caller.submit(str(number), "research")
        until(lambda before=before: len(page.polls()) >= before + 4, what="checks of a quiet stream")
        before = len(page.polls())
    assert page.states() == ["live", "live"]
    assert page.browser.execute_script("return streams") == {"open": 2, "most": 2, "made": 2}
    assert page.joins == {"clarify/research": 1, "approval/research": 1}


def test_s3_6_it_reconnects_when_the_check_shows_that_something_was_missed(page: Page) -> None:
    with Proxy(page.server.port) as proxy:
        page.open("?idleTimeout=0.5#research", proxy.port)
        proxy.swallowing = True
        page.caller.submit("missed?", "research")
        until(lambda: page.joins["clarify/research"] == 2, what="a second connection")
        proxy.swallowing = False
        until(lambda: page.shown("clarify") == ("missed?", "1 waiting"))
        until(lambda: page.state("clarify") == "live")
        assert page.joins["approval/research"] == 1, "nothing was missed there"


def test_s3_6_by_default_the_check_waits_for_60_silent_seconds(page: Page) -> None:
    page.open("#research")
    defaults: Any = page.browser.execute_async_script(
        "const done = arguments[0];"
        "fetch('/approvals/page.js').then((response) => response.text()).then((text) =>"
        ' done([...text.matchAll(/seconds\\("(\\w+)", (\\d+)\\)/g)].map(([, name, usual]) => [name, usual])))'
    )
    assert dict(defaults) == {"idleTimeout": "60", "pollEvery": "3"}
    assert page.polls() == []


def test_s3_6_a_hundred_fast_switches_leave_one_subscriber_of_each_queue(page: Page) -> None:
    page.open("#research")
    page.browser.execute_async_script(
        """
        const done = arguments[0], names = ["research", "deploy", "billing"];
        let turn = 0;
        const next = () => {
          if (turn === 100) return done();
          location.hash = names[(turn += 1) % 3];
          setTimeout(next, turn % 10 ? 0 : 40);
        };
        next();
        """
    )
    until(lambda: page.states() == ["live", "live"])
    until(lambda: page.server.stats().subscribers == 2, what="two connections in all")
    counts = {stream.name: stream.subscribers for stream in page.server.streams()}
    assert counts == {
        f"{kind}/{name}": int(name == "deploy")
        for kind in ("approval", "clarify")
        for name in ("research", "deploy", "billing")
    }
    streams = page.browser.execute_script("return streams")
    assert (streams["open"], streams["most"]) == (2, 2), "an old one was still open when a new one was opened"
    assert streams["made"] > 100
    page.caller.submit("for research?", "research")
    page.caller.submit("for deploy?", "deploy")
    until(lambda: page.shown("clarify") == ("for deploy?", "1 waiting"))


def test_sessions_are_switched_by_keyboard(page: Page) -> None:
    page.open("#research")
    page.caller.submit("for deploy?", "deploy")
    page.browser.find_element(By.CSS_SELECTOR, "#sessions input:checked").send_keys(Keys.ARROW_RIGHT)
    until(lambda: page.shown("clarify") == ("for deploy?", "1 waiting"))
    assert page.browser.execute_script("return location.hash") == "#deploy"


def test_what_can_be_broken_is_survived(page: Page) -> None:
    page.open("#billing")
    page.caller.submit("the head?", "billing", "approval")
    until(lambda: page.shown("approval")[0] == "the head?")
    kind, text = said(page.browser, "burst")
    assert (kind, text.partition(": ")[2]) == ("good", "501 wait, and the head is the one that was first.")
    kind, text = said(page.browser, "slow")
    assert (kind, "shows the head and the count that you see" in text) == ("good", True)
    kind, text = said(page.browser, "drop")
    assert (kind, text.startswith("2 connections were ended")) == ("good", True)
    assert said(page.browser, "switch")[0] == "good"
    assert page.shown("approval") == ("the head?", "1001 waiting")
    assert [message for message in console(page.browser) if "404" in message or "Error" in message] == []


def test_everything_that_waits_can_be_answered_at_once(page: Page) -> None:
    page.open("#billing")
    for number in range(20):
        page.caller.submit(f"{number}?", "billing", ("approval", "clarify")[number % 2])
    until(lambda: page.shown("approval") == ("0?", "10 waiting"))
    assert said(page.browser, "clear") == ("good", "20 answered.")
    assert page.shown("approval") == page.shown("clarify") == ("", "")


def test_a_restart_of_the_server_keeps_the_questions_and_the_page(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo, Caller(demo.port) as caller:
        caller.submit("before?", "research", "approval")
        browser.get(f"{demo.url}/approvals#research")
        until(lambda: text_of(browser, "#approval .text") == "before?")
        kind, text = said(browser, "restart")
        assert (kind, "found every question again" in text) == ("good", True)
        with Caller(demo.port) as after:
            after.submit("after?", "research", "approval")
        until(lambda: text_of(browser, "#approval .badge") == "2 waiting")
        assert text_of(browser, "#approval .text") == "before?"
        browser.get("about:blank")
        console(browser)


def test_the_page_is_narrow_named_and_its_own(page: Page) -> None:
    page.caller.submit("a word that is as long as " + "x" * 400, "research", "approval", detail="y" * 400)
    page.caller.submit("Which?", "research", choices=["main", "z" * 100])
    page.open("#research")
    until(lambda: page.shown("clarify")[0] == "Which?")
    assert_fits_a_narrow_screen(page.browser)
    assert_everything_has_a_name(page.browser)
    assert_nothing_from_elsewhere(page.browser)
    assert console(page.browser) == []
