"""The benchmark runner's page in Chromium.

Guards that the page shows each status once and never a heartbeat, gives up after a quarter of an hour with words, and
recovers when connection or server die in the middle of a run; and that the index leads to every demo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from support.chromium import console
from support.deadline import until
from support.demo import running_demo
from support.proxy import Proxy
from support.reader import Reader

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

STATUSES = ["IN_QUEUE", "PROVISIONING", "COMPILING", "BENCHMARKING", "BENCHMARKED"]


@pytest.fixture(autouse=True)
def blank_afterwards(browser: Chrome) -> Iterator[None]:
    """No page outlives its test, so that none reconnects to a server of the next one."""
    yield
    browser.get("about:blank")
    console(browser)


def submit(browser: Chrome, kernel: str = "saxpy", size: str = "200") -> None:
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "#kernel option"))
    Select(browser.find_element(By.ID, "kernel")).select_by_value(kernel)
    field = browser.find_element(By.ID, "size")
    field.clear()
    field.send_keys(size)
    browser.find_element(By.ID, "submit").click()


def shown(browser: Chrome) -> list[str]:
    value: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#timeline li')].map((item) => item.dataset.status)"
    )
    return value


def text(browser: Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def assert_no_heartbeat(browser: Chrome, messages: list[str]) -> None:
    assert "heartbeat" not in browser.page_source.lower()
    assert not [message for message in messages if "heartbeat" in message.lower()]


def severe(messages: list[str]) -> list[str]:
    """Errors of the page itself; that a connection was refused while the server was away is the browser's to say."""
    return [message for message in messages if "net::ERR_" not in message]


def test_s0_5_the_page_shows_every_status_once_and_no_heartbeat(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser)
        observed: list[str] = []

        def finished() -> bool:
            for status in shown(browser):
                if status not in observed:
                    observed.append(status)
            return "ACCEPTED" in observed

        until(finished, 60)
        assert observed == [*STATUSES, "ACCEPTED"]
        assert shown(browser) == [*STATUSES, "ACCEPTED"]
        messages = console(browser)
        assert_no_heartbeat(browser, messages)
        assert severe(messages) == []
        run = browser.execute_script("return decodeURIComponent(location.hash.slice(1))")
        assert demo.row(run)["status"] == "ACCEPTED"
        # The whole page again, from the database.
        browser.refresh()
        until(lambda: shown(browser) == [*STATUSES, "ACCEPTED"])
        assert run in text(browser)


def test_s0_6_a_late_page_load_shows_what_has_happened_and_what_follows(browser: Chrome, tmp_path: Path) -> None:
    with (
        running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "3"}) as demo,
        demo.submit(submission_id="late") as reader,
    ):
        while reader.next().event != "PROVISIONING":
            pass
        browser.get(f"{demo.url}/benchmarks#late")
        until(lambda: shown(browser)[:2] == STATUSES[:2])
        until(lambda: "ACCEPTED" in shown(browser), 60)
        assert shown(browser) == [*STATUSES, "ACCEPTED"]


@pytest.mark.alone  # The reader must have begun before what it reads is past.
def test_s0_5_the_page_survives_cut_connections(browser: Chrome, tmp_path: Path) -> None:
    env = {"SSE_FAST_DEMO_PROVISIONING": "12", "SSE_FAST_RETRY": "0.2"}
    with running_demo(tmp_path, env) as demo, Proxy(demo.port) as proxy:
        browser.get(f"http://127.0.0.1:{proxy.port}/benchmarks")
        submit(browser)
        until(lambda: shown(browser) == STATUSES[:1])
        proxy.cut()
        until(lambda: shown(browser) == STATUSES[:2])
        proxy.cut()
        until(lambda: "ACCEPTED" in shown(browser), 90)
        assert shown(browser) == [*STATUSES, "ACCEPTED"]
        assert_no_heartbeat(browser, console(browser))


@pytest.mark.alone  # The reader must have begun before what it reads is past.
def test_s0_5_the_page_gives_up_after_fifteen_minutes_and_says_so(browser: Chrome, tmp_path: Path) -> None:
    """Its clock is shortened where it sets the longest of its timers, and heartbeats do not hold it back."""
    quarter = 15 * 60 * 1000
    shorter = (
        "const set = setTimeout; window.longest = 0; window.setTimeout = (act, delay, ...rest) =>"
        f" {{ longest = Math.max(longest, delay); return set(act, delay === {quarter} ? 2000 : delay, ...rest); }};"
    )
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": shorter})
    try:
        with running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "600"}) as demo:
            browser.get(f"{demo.url}/benchmarks")
            submit(browser)
            connection = browser.find_element(By.ID, "connection")
            until(lambda: shown(browser)[:1] == STATUSES[:1])
            assert browser.execute_script("return longest") == quarter
            until(lambda: connection.get_attribute("data-state") == "gave-up", what="giving up")
            assert "the stream did not end within 15 minutes" in connection.text
            assert "The run may still be going on; reload to look again." in text(browser)
            assert_no_heartbeat(browser, console(browser))
            run = browser.execute_script("return decodeURIComponent(location.hash.slice(1))")
            assert demo.row(run)["finished_at"] is None
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": added["identifier"]})


@pytest.mark.alone  # The reader must have begun before what it reads is past.
def test_the_page_s_own_buttons_break_it_and_it_survives(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, {"SSE_FAST_DEMO_QUEUE": "2", "SSE_FAST_DEMO_PROVISIONING": "4"}) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser)
        until(lambda: shown(browser) == STATUSES[:1])
        browser.find_element(By.ID, "drop").click()
        until(lambda: "the next status was PROVISIONING" in text(browser))
        assert shown(browser) == STATUSES[:2]
        browser.find_element(By.ID, "restart").click()
        until(lambda: "A new server answers" in text(browser))
        until(lambda: "INTERRUPTED" in shown(browser), what="the page telling that the run was interrupted")
        assert shown(browser).count("PROVISIONING") == 1
        assert [message for message in severe(console(browser)) if "Failed to load resource" not in message] == []


def test_the_page_recovers_when_the_server_is_killed_and_restarted_in_the_middle(
    browser: Chrome, tmp_path: Path
) -> None:
    env = {"SSE_FAST_DEMO_PROVISIONING": "60", "SSE_FAST_RETRY": "0.2"}
    with running_demo(tmp_path, env) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser)
        until(lambda: shown(browser) == STATUSES[:2])
        run = browser.execute_script("return decodeURIComponent(location.hash.slice(1))")
        # The page may have an event before the row does, which a kill in that moment would lose.
        until(lambda: demo.row(run)["status"] == "PROVISIONING", what="the row")
        port = demo.port
        demo.program.process.kill()
        demo.program.wait()
        until(lambda: browser.find_element(By.ID, "connection").get_attribute("data-state") != "live")
    with running_demo(tmp_path, env, port=port) as demo:
        until(lambda: "INTERRUPTED" in shown(browser), 90, what="the page telling that the run was interrupted")
        statuses = shown(browser)
        assert statuses.count("IN_QUEUE") == 1, statuses
        assert statuses.count("PROVISIONING") == 1, statuses
        # Who asks in the moment between the port's opening and the application's routes is told 404, and asks again.
        assert [message for message in severe(console(browser)) if "Failed to load resource" not in message] == []
        # And the page goes on: another run, from the same page.
        submit(browser)
        until(lambda: shown(browser)[:1] == ["IN_QUEUE"] and "INTERRUPTED" not in shown(browser))


def test_with_a_store_the_page_goes_on_and_its_run_ends_with_an_event_that_says_so(
    browser: Chrome, tmp_path: Path
) -> None:
    """S0 in the middle of a `kill -9`: nothing comes again, and the terminal event says what happened."""
    env = {"SSE_FAST_DEMO_PROVISIONING": "60", "SSE_FAST_RETRY": "0.2"}
    options = ("--store", tmp_path / "streams")
    with running_demo(tmp_path, env, words=options) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser)
        until(lambda: shown(browser) == STATUSES[:2])
        run = browser.execute_script("return decodeURIComponent(location.hash.slice(1))")
        port = demo.port
        demo.program.process.kill()
        demo.program.wait()
        until(lambda: browser.find_element(By.ID, "connection").get_attribute("data-state") != "live")
    with running_demo(tmp_path, env, port=port, words=options) as demo:
        until(lambda: "INTERRUPTED" in shown(browser), 90, what="the page telling that the run was cut off")
        connection = browser.find_element(By.ID, "connection")
        until(lambda: connection.get_attribute("data-state") == "ended", what="the end of the stream")
        assert shown(browser) == [*STATUSES[:2], "INTERRUPTED"]
        assert "This run was cut off: the server died" in text(browser)
        # It resumed: nobody had to tell it that the server is another one.
        assert browser.find_element(By.ID, "notices").text == ""
        assert demo.row(run)["status"] == "INTERRUPTED"
        with Reader(demo.port, f"/api/submissions/{run}/stream") as reader:
            events = [event for event in reader.open().rest() if event.event != "heartbeat"]
        assert [event.event for event in events] == [*STATUSES[:2], "end"]
        assert json.loads(events[-1].data)["error"] == "the server died"
        assert [message for message in severe(console(browser)) if "Failed to load resource" not in message] == []
        submit(browser)
        until(lambda: shown(browser)[:1] == ["IN_QUEUE"] and "INTERRUPTED" not in shown(browser))


def test_going_back_and_forth_leaves_connections_for_the_page_that_is_shown(browser: Chrome, tmp_path: Path) -> None:
    """A browser has six connections to a host; a page it keeps for its back button must not hold them."""
    with (
        running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "60"}) as demo,
        demo.submit(submission_id="long") as reader,
    ):
        reader.open()
        for visit in range(6):
            browser.get(f"{demo.url}/benchmarks?visit={visit}#long")
            until(lambda: shown(browser)[:1] == ["IN_QUEUE"], what=f"the run being shown at visit {visit}")
            browser.get(f"{demo.url}/?visit={visit}")


def test_a_refused_field_is_shown_where_it_is(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser, size="0")
        until(lambda: browser.find_element(By.ID, "size-error").text)
        assert shown(browser) == []
        assert json.loads(_get(browser, f"{demo.url}/api/submissions")) == []


def _get(browser: Chrome, url: str) -> Any:
    return browser.execute_async_script(
        "const done = arguments[1]; fetch(arguments[0]).then((r) => r.text()).then(done)", url
    )


def test_the_index_leads_to_every_demo(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        browser.get(f"{demo.url}/")
        links = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "a.card")]
        assert links
        for link in links:
            assert link is not None
            browser.get(link)
            assert browser.find_element(By.TAG_NAME, "h1").text
        assert severe(console(browser)) == []
