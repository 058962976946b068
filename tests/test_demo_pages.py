"""What every demo's page has in common, in Chromium: one bar, nothing from elsewhere, narrow and by keyboard.

Guards that a demo which registers itself looks like the others, and that a new one is checked without a new test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from sse_fast import demos
from support.chromium import console
from support.deadline import until
from support.demo import Demo, running_demo
from support.reader import fetch

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PATHS = ["/", *(demo.path for demo in demos.DEMOS)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(autouse=True)
def blank_afterwards(browser: Chrome) -> Iterator[None]:
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get("about:blank")
    console(browser)


def opened(browser: Chrome, demo: Demo, path: str) -> None:
    browser.get(demo.url + path)
    until(lambda: browser.execute_script("return document.readyState") == "complete")


@pytest.mark.parametrize("path", PATHS)
def test_the_bar_leads_to_every_demo_and_says_where_one_is(browser: Chrome, demo: Demo, path: str) -> None:
    opened(browser, demo, path)
    links = browser.find_elements(By.CSS_SELECTOR, "nav.demos a")
    assert [(link.text, link.get_attribute("href")) for link in links] == [
        (known.name, demo.url + known.path) for known in demos.DEMOS
    ]
    current = [link.get_attribute("href") for link in links if link.get_attribute("aria-current") == "page"]
    assert current == ([] if path == "/" else [demo.url + path])
    assert len(browser.find_elements(By.TAG_NAME, "h1")) == len(browser.find_elements(By.TAG_NAME, "main")) == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_page_loads_nothing_from_elsewhere_and_reports_no_error(browser: Chrome, demo: Demo, path: str) -> None:
    opened(browser, demo, path)
    loaded: list[str] = browser.execute_script("return performance.getEntriesByType('resource').map(({name}) => name)")
    assert len(loaded) >= 2
    assert [url for url in loaded if not url.startswith(f"{demo.url}/")] == []
    assert console(browser) == []
    policy = fetch(demo.port, path)[0]["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_a_page_fits_360_pixels_in_both_schemes(browser: Chrome, demo: Demo, path: str, scheme: str) -> None:
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    opened(browser, demo, path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 3 * 128) == (scheme == "dark")


#: What a finger would have to aim at: controls and the bar's links that are less than 44 pixels high.
LOW = """
const targets = document.querySelectorAll(
  "button, select, textarea, nav.demos a, label:has(input), input:not([type=checkbox], [type=radio])");
return [...targets].filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 43.5)
  .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect().height]);
"""


@pytest.mark.parametrize("path", PATHS)
def test_what_is_touched_on_a_narrow_screen_is_large_enough_for_a_finger(
    browser: Chrome, demo: Demo, path: str
) -> None:
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    opened(browser, demo, path)
    low: list[Any] = browser.execute_script(LOW)
    assert low == []
    shown: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('kbd')].filter((e) => e.checkVisibility()).map((e) => e.textContent)"
    )
    assert shown == [], "a phone has no such keys"


#: The text of a page whose contrast with its ground is below 4.5, as WCAG AA asks; large text is counted alike.
FAINT = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const parse = (color) => {
  canvas.fillStyle = color;
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const linear = (value) => (value / 255 <= 0.04045 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const groundOf = (e) => {
  for (; e; e = e.parentElement) {
    const color = parse(getComputedStyle(e).backgroundColor);
    if (color[3] > 250) return color;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const faint = [];
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || !e.checkVisibility() || e.closest("script, option, .hidden-label, :disabled")) continue;
  const [one, other] = [light(parse(getComputedStyle(e).color)), light(groundOf(e))];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) faint.push([text, contrast]);
}
return faint;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_all_text_can_be_read_in_both_schemes(browser: Chrome, demo: Demo, path: str, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    opened(browser, demo, path)
    faint: list[Any] = browser.execute_script(FAINT)
    assert faint == []


#: Ids that something names, and that there are not.
BROKEN = """
const naming = document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for]");
const named = (e) => [e.getAttribute("aria-labelledby"), e.getAttribute("aria-describedby"), e.htmlFor];
const ids = [...naming].flatMap(named).flatMap((names) => (names ?? "").split(" "));
return ids.filter((id) => id && !document.getElementById(id));
"""


@pytest.mark.parametrize("path", PATHS)
def test_every_control_has_a_name_and_every_scrolling_part_can_be_reached(
    browser: Chrome, demo: Demo, path: str
) -> None:
    opened(browser, demo, path)
    for control in browser.find_elements(By.CSS_SELECTOR, "button, input, select, textarea, a, [tabindex='0']"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    ids: list[str] = browser.execute_script("return [...document.querySelectorAll('[id]')].map(({id}) => id)")
    assert len(ids) == len(set(ids))
    assert browser.execute_script(BROKEN) == []


@pytest.mark.parametrize("path", PATHS)
def test_the_first_key_leads_past_the_bar(browser: Chrome, demo: Demo, path: str) -> None:
    opened(browser, demo, path)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    if path == "/":
        until(lambda: browser.execute_script("return location.hash") == "#main")
    else:  # There the hash is the page's own.
        until(lambda: browser.switch_to.active_element.get_attribute("id") == "main")
        assert browser.execute_script("return location.hash") == ""


def test_a_restart_is_a_new_server_on_the_same_port(demo: Demo) -> None:
    before = fetch(demo.port, "/api/demos/life")[1]
    assert fetch(demo.port, "/api/demos/restart", method="POST")[1] == before
    demo.program.line_with("sse_fast demos again:")
    assert fetch(demo.port, "/api/demos/life")[1] != before


def test_only_this_computer_may_restart_the_server(tmp_path: Path) -> None:
    place = demos.Place(tmp_path, local=False, speed=60.0)
    for server in demos.lives(place, port=0):
        head, _ = fetch(server.port, "/api/demos/restart", method="POST")
        assert head.status == 404
        server.close(drain=0.0)
