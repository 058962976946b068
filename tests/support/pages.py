"""What a test of a page asks the browser: texts, states, and what every page must keep."""

from __future__ import annotations

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from .deadline import until

CONTROLS = "button, input, select, textarea, meter, a[href], [tabindex='0'], output"


def text_of(browser: Chrome, selector: str) -> str:
    text: str = browser.execute_script("return document.querySelector(arguments[0]).textContent", selector)
    return text


def click(browser: Chrome, selector: str) -> None:
    browser.find_element(By.CSS_SELECTOR, selector).click()


def said(browser: Chrome, name: str, deadline: float = 30.0) -> tuple[str, str]:
    """Presses a button of the panel that breaks things; what came of it, as kind and text, once the button is free."""
    button = browser.find_element(By.ID, name)
    button.click()
    until(button.is_enabled, deadline, what=f"an end of {name!r}")
    output = browser.find_element(By.ID, f"{name}-said")
    return output.get_attribute("data-kind") or "", output.text


def set_width(browser: Chrome, width: int) -> None:
    """The width of the page itself, narrower than a window may be; 0 gives it back to the window."""
    if width:
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    else:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def assert_fits_a_narrow_screen(browser: Chrome) -> None:
    set_width(browser, 360)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        set_width(browser, 0)


def assert_everything_has_a_name(browser: Chrome) -> None:
    """Whatever can be used or reached by keyboard is told by a screen reader; outputs have their text."""
    for control in browser.find_elements(By.CSS_SELECTOR, CONTROLS):
        if control.is_displayed() and control.tag_name != "output":
            assert control.accessible_name, control.get_attribute("outerHTML")


def assert_nothing_from_elsewhere(browser: Chrome) -> None:
    """Every file that the page loaded is its own server's."""
    names = browser.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
    origin = browser.execute_script("return location.origin")
    assert names
    assert [name for name in names if not name.startswith(origin)] == []
