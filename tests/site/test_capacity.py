"""docs/guides/capacity.md: the calculator, in a browser, with its numbers from the page's own table.

Guards the arithmetic by hand, that a plan can be sent as an address, that it is used by keyboard alone, that what is
wrong is said, and that nothing of it is wider than a telephone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from support.chromium import console
from support.site import built

pytestmark = pytest.mark.timeout(180)

OUTPUTS = "return Object.fromEntries([...document.querySelectorAll('#plan output')].map((it) => [it.name, it.value]))"
CONSTANTS = (
    "return Object.fromEntries([...document.querySelectorAll('[data-constant]')]"
    ".map((it) => [it.dataset.constant, Number(it.textContent.replaceAll(',', ''))]))"
)
FILL = """
    for (const [name, value] of Object.entries(arguments[0]))
        document.querySelector(`#plan [name=${name}]`).value = value;
    document.querySelector("#plan input").dispatchEvent(new Event("input", { bubbles: true }));
"""
LOAD = {
    "readers": 10_000,
    "streams": 100,
    "audience": 0,
    "events": 50,
    "bytes": 200,
    "history": 256,
    "heartbeat": 15,
    "processes": 1,
}


@pytest.fixture
def page(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The page as it lies in the folder: it needs no server."""
    browser.get(f"file://{built(tmp_path_factory)}/guides/capacity.html")
    yield browser
    assert console(browser) == []
    browser.get("about:blank")


def outputs(page: Chrome, **load: Any) -> dict[str, str]:
    page.execute_script(FILL, {**LOAD, **load})
    found: dict[str, str] = page.execute_script(OUTPUTS)
    return found


def test_a_plan_is_the_sum_of_the_table_s_numbers(page: Chrome) -> None:
    cost = page.execute_script(CONSTANTS)
    assert len(cost) == 15, "the table and the calculator have the same numbers"
    assert all(value > 0 for value in cost.values()), cost
    shown = outputs(page)
    assert shown["deliveries"] == "5,000 /s"  # 50 events, each to 100 readers.
    # One event in two seconds for a reader: no heartbeat is due.
    work = 5000 * cost["deliveryMicroseconds"] + 50 * cost["publishMicroseconds"]
    assert shown["cores"] == f"{work / 1e6:.3g} cores"
    memory = cost["processBytes"] + 10_000 * cost["readerBytes"]
    memory += 100 * (cost["streamBytes"] + 256 * (200 + cost["storedBytes"]))
    assert shown["memory"] == f"{memory / 2**20:.3g} MiB"
    assert shown["kernel"] == f"{10_000 * cost['socketBytes'] / 2**20:.3g} MiB"
    wire = 200 + cost["eventBytes"] + 8 + 66
    assert shown["network"] == f"{5000 * wire * 8 / 1e6:.3g} Mbit/s"
    assert shown["files"] == "10,064"
    assert shown["storm"] == f"{10_000 * cost['acceptMicroseconds'] / 1e3:.3g} ms"
    assert shown["cut"] == "8.53 min"  # 256 events of a stream that has one in two seconds.
    assert shown["redisMemory"] == "no Redis"


def test_silent_readers_cost_heartbeats(page: Chrome) -> None:
    cost = page.execute_script(CONSTANTS)
    shown = outputs(page, events=0)
    assert shown["cores"] == f"{10_000 / 15 * cost['heartbeatMicroseconds'] / 1e6:.3g} cores".replace(
        "0.00500", "0.005"
    )
    assert shown["cut"] == "∞"


def test_engines_behind_redis_share_readers_and_copy_streams(page: Chrome) -> None:
    cost = page.execute_script(CONSTANTS)
    one, two = outputs(page, events=1000), outputs(page, events=1000, processes=2)
    assert two["deliveries"] == one["deliveries"]
    work = 50_000 * cost["deliveryMicroseconds"] + 1000 * cost["copyMicroseconds"]
    assert two["cores"] == f"{work / 1e6:.3g} cores"
    assert two["files"] == "5,064"
    memory = cost["processBytes"] + 5000 * cost["readerBytes"]
    memory += 100 * (cost["copyStreamBytes"] + 256 * (200 + cost["storedBytes"]))
    assert two["memory"] == f"{memory / 2**20:.3g} MiB"
    assert two["redisCores"] == f"{1000 * cost['redisMicroseconds'] / 1e6:.3g} cores"
    assert two["redisMemory"] != "no Redis"


def test_what_is_tight_is_said(page: Chrome) -> None:
    outputs(page, events=5000, readers=100_000, processes=1)
    said = page.execute_script("return document.querySelector('[data-advice]').textContent")
    for word in ("70 %", "open files", "ports", "History"):
        assert word in said
    outputs(page)
    assert page.execute_script("return document.querySelector('[data-advice]').textContent") == ""


def test_a_wrong_number_is_named_and_changes_nothing(page: Chrome) -> None:
    before = outputs(page)
    assert outputs(page, history=0) == before
    said = page.execute_script("return document.querySelector('[data-wrong]').textContent")
    assert said.startswith("Events kept of each stream")
    invalid = "return [...document.querySelectorAll('#plan [aria-invalid=true]')].map((it) => it.name)"
    assert page.execute_script(invalid) == ["history"]


def test_a_plan_is_sent_as_an_address(page: Chrome) -> None:
    shown = outputs(page, readers=4321)
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    assert page.execute_script(OUTPUTS) == shown


def test_it_is_used_by_keyboard_alone(page: Chrome) -> None:
    page.execute_script("document.querySelector('#plan input').focus()")
    names = []
    for number in LOAD.values():
        field = page.switch_to.active_element
        names.append(field.get_attribute("name"))
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(str(number), Keys.TAB)
    assert names == list(LOAD), "each label's field in the order of the page"
    assert page.execute_script(OUTPUTS)["deliveries"] == "5,000 /s"


def test_every_field_and_result_has_a_name_that_is_read_aloud(page: Chrome) -> None:
    unnamed = "return [...document.querySelectorAll('#plan input')].filter((it) => !it.labels[0]?.textContent.trim())"
    assert page.execute_script(f"{unnamed}.length") == 0
    heads = "return [...document.querySelectorAll('#plan output')].every((it) => it.closest('tr').querySelector('th'))"
    assert page.execute_script(heads)


def test_it_fits_on_a_telephone(page: Chrome) -> None:
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        boxes = page.execute_script(
            "return [...document.querySelectorAll('#plan input, #plan output, #plan th')]"
            ".map((it) => it.getBoundingClientRect()).map(({left, right, height}) => [left, right, height])"
        )
        wide = [box for box in boxes if box[0] < 0 or box[1] > 360]
        assert not wide, json.dumps(wide)
        fields = "return [...document.querySelectorAll('#plan input')].map((it) => it.getBoundingClientRect().height)"
        assert min(page.execute_script(fields)) >= 36, "a finger can hit it"
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
