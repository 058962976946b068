"""The SSE clients of pages and of node: the browser's own EventSource, and what programs take from npm.

`scripts/install-npm-clients` puts the packages into build/npm; a missing one is a failure that says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

from .clients import TIMEOUT, Seen
from .deadline import until

SCRIPTS = Path(__file__).resolve().parents[1] / "clients"
MODULES = SCRIPTS.parents[1] / "build" / "npm" / "node_modules"
INSTALL = "`make npm-clients` installs it"


def packaged(name: str) -> Path:
    path = MODULES / name
    assert path.exists(), f"{path} is not there; {INSTALL}"
    return path


def version_of(package: str) -> str:
    version: str = json.loads(packaged(f"{package}/package.json").read_text())["version"]
    return version


def by_eventsource_npm(url: str, names: list[str], last: str | None) -> list[Seen]:
    """npm's `eventsource`, under node."""
    node = shutil.which("node")
    assert node, f"node is not there; {INSTALL}"
    module = packaged("eventsource/dist/index.js")
    command: list[str | Path] = [node, SCRIPTS / "eventsource.mjs", module, url, json.dumps(names), json.dumps(last)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return [(name, data, identity) for name, data, identity in json.loads(done.stdout)]


class Pages:
    """The clients of pages, in one browser."""

    def __init__(self, browser: Chrome) -> None:
        self._browser = browser

    def by_eventsource(self, url: str, names: list[str], last: str | None) -> list[Seen]:
        """The browser's own."""
        return self._read(url, "return record(new EventSource(url), ...rest)", [names, last])

    def by_yaffle(self, url: str, names: list[str], last: str | None) -> list[Seen]:
        """npm's `event-source-polyfill`."""
        self._begin(url, packaged("event-source-polyfill/src/eventsource.js").read_text())
        return self._read(url, "return record(new EventSourcePolyfill(url), ...rest)", [names, last])

    def by_fetch_event_source(self, url: str, body: dict[str, Any] | None, last: str | None) -> list[Seen]:
        """npm's `@microsoft/fetch-event-source`."""
        folder = packaged("@microsoft/fetch-event-source/lib/cjs")
        sources = {f"./{file.stem}": file.read_text() for file in folder.glob("*.js")}
        expression = "return recordFetched(required(rest[0], './index').fetchEventSource, url, rest[1], rest[2])"
        return self._read(url, expression, [sources, body, last])

    def _begin(self, url: str, *scripts: str) -> None:
        """A page of the same origin, and what it runs."""
        origin = "/".join(url.split("/")[:3])
        if not self._browser.current_url.startswith(f"{origin}/"):
            self._browser.get(f"{origin}/no-such-page")
        for script in scripts:
            self._browser.execute_script(script)

    def _read(self, url: str, expression: str, rest: list[Any]) -> list[Seen]:
        self._begin(url, (SCRIPTS / "record.js").read_text())
        self._browser.execute_script(
            "const [source, url, rest] = arguments; window.told = null;"
            "const read = new Function('url', 'rest', source);"
            "read(url, rest).then((seen) => (told = { seen }), (error) => (told = { error: `${error}` }));",
            expression,
            url,
            rest,
        )
        told = until(lambda: self._browser.execute_script("return window.told"), TIMEOUT, what="the end of the stream")
        assert "seen" in told, told
        return [(name, data, identity) for name, data, identity in told["seen"]]
