"""A headless Chromium driven by Selenium, one per test module, its profile fresh.

Chromium and its driver are the system's packages; a missing one is a failure
with the command that installs it, never a skip.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


def find(*names: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise AssertionError(f"none of {', '.join(names)} is installed; `make browser` installs the browser the tests use")


@contextlib.contextmanager
def chromium(*more: str) -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile and `more` arguments, closed and its profile removed at the end."""
    options = Options()
    options.binary_location = find("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (*ARGUMENTS, *more, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(find("chromedriver")))
        try:
            driver.set_script_timeout(60)
            driver.set_page_load_timeout(60)
            yield driver
        finally:
            driver.quit()


def console(driver: webdriver.Chrome) -> list[str]:
    """What the page has written to the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]
