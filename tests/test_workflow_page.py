"""The workflow timeline's page in Chromium, and each button of the panel that breaks it.

Guards that a visitor sees the plan first, each node as it runs and a terminal state, from the start, late, and over a
reload, and that the page survives what happened to the real one: the 404, a failed node, a dropped connection, a flood
beside a reader that never reads, a restart and a crash of the server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from sse_fast.demos.workflow.app import GRAPH
from support.chromium import console
from support.deadline import until
from support.demo import START, Demo, running_demo
from support.process import Program
from support.reader import fetch

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

QUICK = {"SSE_FAST_DEMO_PACE": "0.05"}
SLOW = {"SSE_FAST_DEMO_PACE": "1"}  # Nine seconds: time enough for something to happen in the middle.


@pytest.fixture(autouse=True)
def blank_afterwards(browser: Chrome) -> Iterator[None]:
    """No page outlives its test, so that none reconnects to a server of the next one."""
    yield
    browser.get("about:blank")
    console(browser)


def ask(browser: Chrome, demo: Demo) -> str:
    """Asks the question that the page offers; returns the decision set."""
    browser.get(f"{demo.url}/workflow")
    browser.find_element(By.CSS_SELECTOR, "#form button").click()
    return decision_set(browser)


def decision_set(browser: Chrome) -> str:
    return str(until(lambda: browser.execute_script("return location.hash.slice(1)"), what="a decision set"))


def statuses(browser: Chrome) -> dict[str, str]:
    nodes: list[tuple[str, str]] = browser.execute_script(
        "return [...document.querySelectorAll('.node')].map(({ dataset: { node, status } }) => [node, status])"
    )
    return dict(nodes)


def events(browser: Chrome) -> list[str]:
    value: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#events li')].map((item) => item.dataset.event)"
    )
    return value


def status(browser: Chrome) -> str:
    return text(browser, "status")


def text(browser: Chrome, id_: str) -> str:
    return str(browser.execute_script("return document.getElementById(arguments[0]).textContent", id_))


def state(browser: Chrome) -> str:
    return str(browser.find_element(By.ID, "connection").get_attribute("data-state"))


def press(browser: Chrome, id_: str) -> None:
    until(lambda: browser.find_element(By.ID, id_).is_enabled(), what=f"{id_} being offered")
    browser.execute_script("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", id_)
    browser.find_element(By.ID, id_).click()


def own_errors(browser: Chrome) -> list[str]:
    """Errors of the page itself; that a request failed is the browser's to say."""
    return [message for message in console(browser) if "net::ERR_" not in message and "Failed to load" not in message]


def assert_whole(browser: Chrome) -> None:
    """The workflow was answered, and no event was lost or given twice."""
    until(lambda: status(browser) == "done", 60, what="the answer")
    until(lambda: state(browser) == "ended")
    assert statuses(browser) == dict.fromkeys(GRAPH, "done")
    assert "none lost, none twice" in text(browser, "order")
    assert own_errors(browser) == []


def test_s1_3_the_page_shows_the_plan_first_then_each_node_then_the_end(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, QUICK) as demo:
        ask(browser, demo)
        assert_whole(browser)
        seen = events(browser)
        assert (seen[0], seen[-1], seen.count("plan"), seen.count("end")) == ("plan", "end", 1, 1)
        assert sorted(seen[1:-1]) == ["node-end"] * len(GRAPH) + ["node-start"] * len(GRAPH)
        assert "heartbeat" not in browser.page_source.lower()


def test_s1_3_nodes_turn_running_while_others_wait(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, SLOW) as demo:
        ask(browser, demo)
        until(lambda: set(statuses(browser).values()) == {"running", "waiting"}, what="the first node")
        # Both nodes that wait for the first one run side by side.
        until(lambda: [statuses(browser).get(name) for name in ("search", "count")] == ["running"] * 2)
        assert status(browser) == "running"


def test_s1_3_a_reload_in_the_middle_gets_the_plan_first(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, SLOW) as demo:
        ask(browser, demo)
        until(lambda: statuses(browser).get("search") == "running")
        browser.refresh()
        until(lambda: events(browser))
        assert events(browser)[0] == "plan"
        assert statuses(browser)["understand"] == "done"
        assert_whole(browser)


def test_s1_3_a_page_after_the_end_shows_the_whole_plan(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, QUICK) as demo:
        first = ask(browser, demo)
        assert_whole(browser)
        browser.get("about:blank")
        browser.get(f"{demo.url}/workflow#{first}")
        assert_whole(browser)
        assert events(browser) == ["plan", "end"]
        # And in the list of all, where it is the one that is shown.
        until(lambda: browser.find_elements(By.CSS_SELECTOR, f"#past tr[aria-current][data-id='{first}']"))


def test_s1_2_a_late_row_is_waited_for(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, QUICK) as demo:
        browser.get(f"{demo.url}/workflow")
        fill(browser, "row-delay", "2")
        press(browser, "late")
        until(lambda: text(browser, "connection-text") == "Waiting for the row …")
        assert_whole(browser)
        said = until(lambda: re.search(r"answered after ([\d.]+) s", text(browser, "late-said")))
        assert said is not None
        assert float(said[1]) >= 1.5


def test_s1_2_beyond_the_wait_the_page_shows_the_404_with_its_timing_and_recovers(
    browser: Chrome, tmp_path: Path
) -> None:
    with running_demo(tmp_path, {**QUICK, "STREAM_DECISION_SET_MAX_WAIT": "1"}) as demo:
        browser.get(f"{demo.url}/workflow")
        fill(browser, "row-delay", "6")
        press(browser, "late")
        said = until(lambda: re.search(r"got 404 after ([\d.]+) s and (\d+) checks", text(browser, "late-said")))
        assert said is not None
        assert 1.0 <= float(said[1]) < 6.0
        assert 1 <= int(said[2]) <= 5
        assert statuses(browser) == {}, "the row was there already, so nothing was proven"
        assert_whole(browser)
        until(lambda: "Then the row came" in text(browser, "late-said"))


def test_s1_5_set_up_when_enqueued_the_page_is_live_before_the_row(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, {**QUICK, "STREAM_DECISION_SET_MAX_WAIT": "0"}) as demo:
        browser.get(f"{demo.url}/workflow")
        fill(browser, "row-delay", "4")
        press(browser, "subscribe")
        press(browser, "late")
        until(lambda: state(browser) == "live")
        assert statuses(browser) == {}, "the row was there already, so nothing was proven"
        assert_whole(browser)


def fill(browser: Chrome, id_: str, value: str) -> None:
    field = browser.find_element(By.ID, id_)
    field.clear()
    field.send_keys(value)


def test_s1_6_a_stream_that_is_silent_is_marked_in_the_list_of_an_open_page(browser: Chrome, tmp_path: Path) -> None:
    """Each node takes much longer than a stream may be silent; heartbeats go on."""
    code = f"from sse_fast.demos.workflow import app; app.STALL_AFTER = 1.0\n{START}"
    arguments = ("demo", "--port", 0, "--data", tmp_path)
    with Program(code, *arguments, env={"SSE_FAST_DEMO_PACE": "60", "SSE_FAST_HEARTBEAT": "0.2"}) as program:
        asked = ask(browser, Demo(program, tmp_path))

        def badge() -> list[str]:
            found: list[str] = browser.execute_script(
                "const badge = document.querySelector(`#past tr[data-id='${arguments[0]}'] .badge`);"
                "return badge ? [badge.textContent, badge.dataset.kind] : []",
                asked,
            )
            return found

        until(lambda: badge() == ["running", "active"], what="the run in the list")
        until(lambda: badge() == ["stalled", "warn"], what="the mark")
        assert state(browser) == "live"
        browser.execute_script("document.querySelector('#past a').focus()")
        looks = "return performance.getEntriesByName(`${location.origin}/api/chat`).length"
        before = browser.execute_script(looks)
        until(lambda: browser.execute_script(looks) > before, what="another look at the list")
        assert browser.execute_script("return document.activeElement.matches('#past a')"), "the keyboard lost its place"


def test_s1_3_a_failed_node_is_shown_with_what_never_ran(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, QUICK) as demo:
        browser.get(f"{demo.url}/workflow")
        Select(browser.find_element(By.ID, "fail-node")).select_by_value("draft")
        press(browser, "fail")
        until(lambda: status(browser) == "failed", what="the failure")
        after = dict.fromkeys(("verify", "shorten", "reply"), "skipped")
        before = dict.fromkeys(("understand", "search", "count"), "done")
        assert statuses(browser) == {**before, "draft": "failed", **after}
        assert "the model did not answer" in text(browser, "events")
        until(lambda: state(browser) == "ended")


def test_a_dropped_connection_is_resumed_after_the_last_event(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, SLOW) as demo:
        ask(browser, demo)
        until(lambda: statuses(browser).get("search") == "running")
        press(browser, "drop")
        before = len(events(browser))
        until(lambda: "Hung up after event" in text(browser, "drop-said"))
        assert_whole(browser)
        assert "resumed after event" in text(browser, "drop-said")
        seen = events(browser)
        assert seen.count("plan") == 1, "a resumed reader needs no plan"
        assert len(seen) > before
        assert sorted(seen[1:-1]) == ["node-end"] * len(GRAPH) + ["node-start"] * len(GRAPH)


def test_a_reader_that_never_reads_costs_this_page_nothing(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, SLOW) as demo:
        ask(browser, demo)
        until(lambda: statuses(browser).get("search") == "running")
        press(browser, "slow")
        until(lambda: "4,000 events published" in text(browser, "slow-said"), what="the flood's end")
        assert "none lost here" in text(browser, "slow-said")
        assert_whole(browser)
        assert int(text(browser, "order").split()[0].replace(",", "")) == 4000 + 2 + 2 * len(GRAPH)


def test_s1_3_a_restart_of_the_server_loses_no_page(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, SLOW) as demo:
        ask(browser, demo)
        until(lambda: statuses(browser).get("search") == "running")
        press(browser, "restart")
        demo.program.line_with("sse_fast demos again:")
        assert_whole(browser)
        seen = events(browser)
        # Who asks between the making of the new stream and its plan is told of the gap before and after it comes back.
        told = [event for event in seen[seen.index("gap") :] if event != "gap"]
        assert told[0] == "plan"
        assert seen.index("plan", 1) - seen.index("gap") == seen.count("gap")
        until(lambda: "goes on" in text(browser, "restart-said"))


def test_s1_3_a_crash_of_the_server_loses_no_page(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, SLOW) as demo:
        ask(browser, demo)
        until(lambda: statuses(browser).get("search") == "running")
        port = demo.port
        demo.program.process.kill()
        demo.program.wait()
        until(lambda: state(browser) != "live")
    with running_demo(tmp_path, SLOW, port=port):
        assert_whole(browser)
        assert events(browser).count("gap") == 1


def test_a_refused_question_is_said_where_it_is(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, QUICK) as demo:
        browser.get(f"{demo.url}/workflow")
        fill(browser, "message", " ")
        browser.find_element(By.ID, "message").send_keys(Keys.ENTER)
        until(lambda: text(browser, "message-error").startswith("message:"))
        assert browser.switch_to.active_element.get_attribute("id") == "message"
        assert json.loads(fetch(demo.port, "/api/chat")[1]) == []


def test_by_keyboard_and_with_few_announcements(browser: Chrome, tmp_path: Path) -> None:
    """What is read out is the plan and the answer, not every node."""
    with running_demo(tmp_path, QUICK) as demo:
        browser.get(f"{demo.url}/workflow")
        browser.execute_script(
            """window.announced = [];
            new MutationObserver(() => announced.push(document.getElementById("announcer").textContent))
              .observe(document.getElementById("announcer"), { childList: true });"""
        )
        browser.find_element(By.ID, "message").send_keys(Keys.ENTER)
        assert_whole(browser)
        announced: Any = browser.execute_script("return announced")
        assert [words.split()[0] for words in announced] == ["The", "Answered."]
