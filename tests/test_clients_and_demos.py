"""Every SSE client in wide use reads every demo, with heartbeats between the events.

What a client reports is held against what the parser of the standard reports for the very bytes that the client was
given: the same events in the same order, none lost, none invented, data byte for byte. Where a client differs from the
standard its test says exactly how; docs/reference/clients.md has the same as a table.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import openai
import pytest
from selenium.webdriver import Chrome

from support.all_demos import TEXT, Demos, Reading, running_demos
from support.clients import CLIENTS, ONLY_GETS, TELLS_OWN_ID, TIMEOUT, Client, Seen, name_of
from support.script_clients import Pages, by_eventsource_npm
from support.sse import Event
from support.tap import Tap

STREAMS = ["benchmarks", "benchmarks_log", "workflow", "approvals", "completion"]
every_stream = pytest.mark.parametrize("stream", STREAMS)
every_client = pytest.mark.parametrize("client", CLIENTS, ids=name_of)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demos]:
    with running_demos(tmp_path_factory.mktemp("demos")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(browser: Chrome) -> Pages:
    return Pages(browser)


# ---- What a client must report ----


def wanted(events: list[Event], *, own_id: bool) -> list[Seen]:
    """The standard's events, with the ids that a client tells of."""
    return [(event.event, event.data, (event.own_id or "") if own_id else event.last_event_id) for event in events]


def assert_read(
    reading: Reading, read: Callable[[str], list[Seen]], *, own_id: bool = False, posts: bool = True
) -> None:
    """A client reads one stream through a tap, and reports what the standard's parser does."""
    seen: list[list[Seen]] = []
    with Tap(reading.port, post=None if posts else reading.post) as tap:
        thread = threading.Thread(target=lambda: seen.append(read(f"{tap.url}{reading.path}")))
        thread.start()
        reading.drive(tap)
        thread.join(2 * TIMEOUT)
        assert seen, "the client did not come to its end"
        assert seen[0] == wanted(tap.events, own_id=own_id)
        assert_worth_reading(tap)


def assert_worth_reading(tap: Tap) -> None:
    """The stream had what makes clients err: several events, heartbeats between them, text that is not ASCII."""
    body = tap.body
    inside = body[body.index(b"\ndata:") : body.rindex(b"\ndata:")]
    assert inside.count(b"\n: ") + inside.count(b"event: heartbeat\n") >= 2, body
    assert len({event.data for event in tap.events}) >= 4
    assert TEXT.split()[0] in "".join(str(json.loads(event.data)) for event in tap.events if event.data[0] == "{")


# ---- The clients of Python ----


@every_client
@every_stream
def test_clients_of_python_report_what_the_standard_does(demos: Demos, stream: str, client: Client) -> None:
    reading: Reading = getattr(demos, stream)()
    posts = client not in ONLY_GETS
    arguments = [reading.post] if posts else []

    def read(url: str) -> list[Seen]:
        seen: list[Seen] = []
        with closing(client(url, *arguments)) as events:  # type: ignore[type-var]
            for event in events:
                seen.append(event)
                if reading.last is not None and reading.last in event[1]:
                    break
        return seen

    assert_read(reading, read, own_id=client in TELLS_OWN_ID, posts=posts)


# ---- The clients of pages and of node ----


@pytest.mark.browser
@every_stream
def test_eventsource_of_a_browser_reports_what_the_standard_does(demos: Demos, pages: Pages, stream: str) -> None:
    reading: Reading = getattr(demos, stream)()
    assert_read(reading, lambda url: pages.by_eventsource(url, reading.names, reading.last), posts=False)


@every_stream
def test_eventsource_from_npm_reports_what_the_standard_does(demos: Demos, stream: str) -> None:
    reading: Reading = getattr(demos, stream)()
    assert_read(reading, lambda url: by_eventsource_npm(url, reading.names, reading.last), posts=False)


@pytest.mark.browser
@every_stream
def test_the_yaffle_polyfill_reports_what_the_standard_does(demos: Demos, pages: Pages, stream: str) -> None:
    reading: Reading = getattr(demos, stream)()
    assert_read(reading, lambda url: pages.by_yaffle(url, reading.names, reading.last), posts=False)


@pytest.mark.browser
@every_stream
def test_fetch_event_source_reports_what_the_standard_does(demos: Demos, pages: Pages, stream: str) -> None:
    reading: Reading = getattr(demos, stream)()
    assert_read(reading, lambda url: pages.by_fetch_event_source(url, reading.post, reading.last), own_id=True)
