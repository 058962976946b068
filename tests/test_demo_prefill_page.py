"""The prefill demo's page in Chromium: phases, tokens, heartbeats, and a client that hangs up after a long silence.

The clock is shortened: a heartbeat comes after half a second, so this client's patience ends after one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from support.chromium import console
from support.deadline import until
from support.pages import (
    assert_everything_has_a_name,
    assert_fits_a_narrow_screen,
    assert_nothing_from_elsewhere,
    click,
    said,
    text_of,
)
from support.prefill import Prefill, running_prefill

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def quick() -> Iterator[Prefill]:
    with running_prefill(chunk=0.02, token=0.005, beat=0.5) as running:
        yield running


@pytest.fixture
def page(quick: Prefill, browser: Chrome) -> Iterator[Chrome]:
    browser.get(f"{quick.url}/prefill")
    until(lambda: text_of(browser, "[data-limit]") == "1")
    yield browser
    messages = console(browser)
    browser.get("about:blank")
    until(lambda: quick.slots()["busy"] == 0)
    assert [message for message in messages if "400 (Bad Request)" not in message] == []


def phases(browser: Chrome) -> dict[str, str]:
    """Each phase and its state."""
    pairs: list[list[str]] = browser.execute_script(
        "return [...document.querySelectorAll('#phases li')].map(({ dataset }) => [dataset.phase, dataset.kind ?? ''])"
    )
    return dict(map(tuple, pairs))  # type: ignore[arg-type]


def state(browser: Chrome) -> str | None:
    return browser.find_element(By.ID, "connection").get_attribute("data-state")


def wire(browser: Chrome) -> list[str]:
    lines: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#wire li')].map((line) => line.lastElementChild.textContent)"
    )
    return lines


def prompt(browser: Chrome, text: str) -> None:
    field = browser.find_element(By.ID, "prompt")
    field.clear()
    field.send_keys(text, Keys.CONTROL, Keys.ENTER)


def test_a_prompt_by_keyboard_goes_through_all_phases_to_its_tokens(page: Chrome) -> None:
    prompt(page, "What does the model read, and when does the client hear of it?")
    until(lambda: state(page) == "ended")
    assert phases(page) == dict.fromkeys(("cold_prefix", "prefill", "tool_checkpoint", "generation"), "good")
    assert text_of(page, "[data-phase=generation] .state") == "60 tokens"
    assert len(text_of(page, "#tokens").split()) > 30
    lines = wire(page)
    assert lines[:2] == ["POST /v1/chat/completions", "200 text/event-stream"]
    assert lines[-1] == "data: [DONE]"
    assert text_of(page, "#announcer") == "Done, 60 tokens."
    # Its prefix is in the cache now, and without tools nothing is rebuilt.
    click(page, "#tools")
    click(page, "#submit")
    until(lambda: state(page) == "ended" and text_of(page, "[data-phase=cold_prefix] .state") == "not needed")
    assert phases(page) == {"cold_prefix": "", "prefill": "good", "tool_checkpoint": "", "generation": "good"}


def test_s2_2_a_stalled_chunk_that_holds_the_interpreter_is_survived(page: Chrome) -> None:
    kind, text = said(page, "stall")
    assert (kind, text) == ("good", "Survived: 2 heartbeats in 1.2 s, then 60 tokens.")
    assert wire(page).count(": prefill") == 2
    assert state(page) == "ended"


def test_s2_5_without_heartbeats_this_client_hangs_up_and_the_work_is_stopped(page: Chrome, quick: Prefill) -> None:
    before = quick.slots()["hung_up"]
    kind, text = said(page, "silent")
    assert (kind, text.partition(".")[0]) == ("warn", "The client hung up before the first token")
    assert (state(page), phases(page)["prefill"]) == ("gave-up", "bad")
    assert text_of(page, "#tokens") == "No byte for 1 s: this client hung up."
    assert quick.slots()["hung_up"] == before + 1


def test_s2_5_another_client_that_comes_during_the_stall_survives_too(page: Chrome) -> None:
    kind, text = said(page, "other")
    assert (kind, text.partition(":")[0]) == ("good", "Both survived")
    assert text.endswith("then its 10 tokens.")


@pytest.mark.alone
def test_s2_3_a_client_that_hangs_up_stops_the_work(page: Chrome, quick: Prefill) -> None:
    kind, text = said(page, "cut")
    assert (kind, text.startswith("The work stopped within ")) == ("good", True)
    assert int(text.split()[4]) < 1000, text
    assert state(page) == "closed"
    # So many that it cannot be over before the key is pressed, on a busy machine either.
    page.execute_script("document.getElementById('max-tokens').value = 2048")
    prompt(page, "a word " * 600)
    until(lambda: quick.slots()["busy"] == 1)
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    until(lambda: quick.slots()["busy"] == 0, 1.0)
    assert text_of(page, "#tokens").endswith("You hung up.")


def test_errors_before_and_after_the_head_are_shown_where_they_belong(page: Chrome) -> None:
    assert said(page, "fail")[0] == "good"
    assert text_of(page, "#tokens") == "the model failed: not a number in prefill"
    assert phases(page)["prefill"] == "bad"
    prompt(page, " ")
    until(lambda: text_of(page, "#prompt-error"))
    assert text_of(page, "#prompt-error") == "messages: there must be text in it"


def test_the_page_is_narrow_named_and_its_own(page: Chrome) -> None:
    assert_fits_a_narrow_screen(page)
    assert_everything_has_a_name(page)
    assert_nothing_from_elsewhere(page)
