"""Every SSE client in wide use reads every demo, with heartbeats between the events.

What a client reports is held against what the parser of the standard reports for the very bytes that the client was
given: the same events in the same order, none lost, none invented, data byte for byte. Where a client differs from the
standard its test says exactly how; docs/reference/clients.md has the same as a table.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from support.all_demos import TEXT, Demos, Reading, running_demos
from support.clients import (
    CLIENTS,
    ONLY_GETS,
    TELLS_OWN_ID,
    TIMEOUT,
    Client,
    Seen,
    by_aiosseclient,
    by_anthropic_decoder,
    by_httpx2,
    by_httpx2_async,
    by_httpx_sse,
    by_httpx_sse_async,
    by_openai,
    by_openai_async,
    by_openai_decoder,
    load,
    name_of,
)
from support.script_clients import SCRIPTS, Pages, by_eventsource_npm, version_of
from support.sse import Event
from support.tap import Alteration, Tap

pytestmark = pytest.mark.timeout(120)  # The first of them imports what takes seconds.
STREAMS = ["benchmarks", "benchmarks_log", "workflow", "approvals", "completion"]
every_stream = pytest.mark.parametrize("stream", STREAMS)
CLIENTS_PAGE = Path(__file__).parents[1] / "docs" / "reference" / "clients.md"
#: What clients at fault make of a block without data.
EMPTY = ("message", "", "")
every_client = pytest.mark.parametrize("client", CLIENTS, ids=name_of)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demos]:
    load()
    with running_demos(tmp_path_factory.mktemp("demos")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(browser: Chrome) -> Pages:
    return Pages(browser)


# ---- What a client must report ----


def wanted(reading: Reading, tap: Tap, *, own_id: bool = False) -> list[Seen]:
    """The standard's events, up to the one after which the client stopped, with the ids that it tells of."""
    return [
        (event.event, event.data, (event.own_id or "") if own_id else event.last_event_id)
        for event in up_to(reading.last, tap.events)
    ]


def up_to(last: str | None, events: list[Event]) -> list[Event]:
    """The events of which the first that has `last` in its data is the last."""
    if last is None:
        return events
    return events[: 1 + next(place for place, event in enumerate(events) if last in event.data)]


def through_a_tap(
    reading: Reading,
    read: Callable[[str], list[Seen]],
    *,
    posts: bool = True,
    altering: Alteration | None = None,
) -> tuple[list[Seen], Tap]:
    """What a client reports of a stream, and the tap through which it read: it asks for a client that only GETs."""
    seen: list[list[Seen]] = []
    with Tap(reading.port, post=None if posts else reading.post, altering=altering) as tap:
        thread = threading.Thread(target=lambda: seen.append(read(f"{tap.url}{reading.path}")))
        thread.start()
        reading.drive(tap)
        thread.join(2 * TIMEOUT)
    assert seen, "the client did not come to its end"
    assert_worth_reading(tap)
    return seen[0], tap


def assert_worth_reading(tap: Tap) -> None:
    """The stream had what makes clients err: several events, heartbeats between them, text that is not ASCII."""
    body = tap.body
    inside = body[body.index(b"\ndata:") : body.rindex(b"\ndata:")]
    assert inside.count(b"\n: ") + inside.count(b"event: heartbeat\n") >= 2, body
    assert len({event.data for event in tap.events}) >= 4
    assert TEXT.split()[0] in "".join(str(json.loads(event.data)) for event in tap.events if event.data[0] == "{")


def read_in_python(client: Client, reading: Reading, altering: Alteration | None = None) -> tuple[list[Seen], Tap]:
    posts = client not in ONLY_GETS

    def read(url: str) -> list[Seen]:
        seen: list[Seen] = []
        with closing(client(url, reading.post) if posts else client(url)) as events:
            for event in events:
                seen.append(event)
                if reading.last is not None and reading.last in event[1]:
                    break
        return seen

    return through_a_tap(reading, read, posts=posts, altering=altering)


# ---- The clients of Python ----


@every_client
@every_stream
def test_clients_of_python_report_what_the_standard_does(demos: Demos, stream: str, client: Client) -> None:
    reading = demos.reading(stream)
    seen, tap = read_in_python(client, reading)
    assert seen == wanted(reading, tap, own_id=client in TELLS_OWN_ID)


# ---- The clients of pages and of node ----


def read_in_a_script(
    client: str, pages: Pages, reading: Reading, altering: Alteration | None = None
) -> tuple[list[Seen], Tap]:
    def read(url: str) -> list[Seen]:
        if client == "fetch_event_source":
            return pages.by_fetch_event_source(url, reading.post, reading.last)
        clients = {"eventsource": pages.by_eventsource, "npm": by_eventsource_npm, "yaffle": pages.by_yaffle}
        return clients[client](url, reading.names, reading.last)

    return through_a_tap(reading, read, posts=client == "fetch_event_source", altering=altering)


@pytest.mark.browser
@every_stream
@pytest.mark.parametrize("client", ["eventsource", "yaffle"])
def test_eventsource_and_its_polyfill_report_what_the_standard_does(
    demos: Demos, pages: Pages, stream: str, client: str
) -> None:
    reading = demos.reading(stream)
    seen, tap = read_in_a_script(client, pages, reading)
    assert seen == wanted(reading, tap)


@pytest.mark.alone  # The reader must have begun before what it reads is past.
@every_stream
def test_eventsource_from_npm_reports_what_the_standard_does_but_for_ids_of_earlier_events(
    demos: Demos, pages: Pages, stream: str
) -> None:
    reading = demos.reading(stream)
    seen, tap = read_in_a_script("npm", pages, reading)
    assert seen == wanted(reading, tap, own_id=True)


@pytest.mark.browser
@every_stream
def test_fetch_event_source_reports_what_the_standard_does_and_an_empty_event_for_each_comment_with_a_blank_line(
    demos: Demos, pages: Pages, stream: str
) -> None:
    """Such comments are in streams without ids alone. Programs that read them with it must skip what has no data."""
    reading = demos.reading(stream)
    seen, tap = read_in_a_script("fetch_event_source", pages, reading)
    assert [event for event in seen if event != EMPTY] == wanted(reading, tap, own_id=True)
    assert seen.count(EMPTY) == len(re.findall(rb"^:.*\n\n", tap.body, re.MULTILINE))
    assert (EMPTY in seen) == (stream == "completion")


# ---- The official client of completions ----


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("ask", [by_openai, by_openai_async])
def test_the_openai_client_reports_every_chunk_of_a_completion(
    demos: Demos, ask: Callable[..., list[dict[str, Any]]], chat: bool
) -> None:
    reading = demos.completion()
    chunks: list[dict[str, Any]] = []

    def read(url: str) -> list[Seen]:
        chunks.extend(ask(url.removesuffix("/completions"), reading.post, chat=chat))
        return []

    _, tap = through_a_tap(reading, read)
    *told, done = tap.events
    assert done.data == "[DONE]"
    assert chunks == [event.json() for event in told]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk" if chat else "text_completion"}


# ---- The table in the documentation ----


def test_the_documentation_tells_of_every_client_and_of_a_version_that_was_tried() -> None:
    """A newer one may be installed, because these tests pass with it; with an older one they prove too little."""
    documented: dict[str, str] = {}
    for line in CLIENTS_PAGE.read_text(encoding="utf-8").partition("## ")[0].splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 2 and "`" in cells[1]:
            documented.update(zip(re.findall(r"`([^`]+)`", cells[1]), cells[2].split(", "), strict=True))
    assert documented.pop("EventSource").startswith("Chromium ")
    from_npm = json.loads((SCRIPTS / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    from_pypi = {
        name_of(client).removesuffix("_async").removesuffix("_decoder").removesuffix("_lines") for client in CLIENTS
    }
    assert documented.keys() == {*from_npm, *(name.replace("_", "-") for name in from_pypi)}
    for name, told in documented.items():
        installed = version_of(name) if name in from_npm else version(name)
        assert parts(installed) >= parts(told), name


def parts(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


# ---- What the engine's wire avoids: each client is given something else than was written ----


def blank_line_after_heartbeat(chunk: bytes) -> bytes:
    return chunk.replace(b": heartbeat\n", b": heartbeat\n\n")


def retry_in_a_block_of_its_own(chunk: bytes) -> bytes:
    return re.sub(rb"(?m)^((?:event: .*\n|id: .*\n)*)(retry: .*\n)", rb"\2\n\1", chunk)


def id_in_a_block_of_its_own(chunk: bytes) -> bytes:
    return re.sub(rb"(?m)^(event: .*\n)(id: .*\n)", rb"\2\n\1", chunk)


def id_after_data(chunk: bytes) -> bytes:
    return re.sub(rb"(?m)^(id: .*\n)((?:retry: .*\n)?data: .*\n)", rb"\2\1", chunk)


_AFTER_AN_ID = {by_httpx_sse, by_httpx_sse_async, by_openai_decoder, by_anthropic_decoder}
_AFTER_ANY_FIELD = {*_AFTER_AN_ID, by_httpx2, by_httpx2_async, by_aiosseclient}
#: Who invents an empty event where the standard has none. The order of fields matters to nobody.
INVENTS: dict[Alteration, set[Client]] = {
    blank_line_after_heartbeat: _AFTER_AN_ID,
    retry_in_a_block_of_its_own: _AFTER_ANY_FIELD,
    id_in_a_block_of_its_own: _AFTER_ANY_FIELD,
    id_after_data: set(),
}


@every_client
@pytest.mark.parametrize("altering", INVENTS, ids=lambda altering: altering.__name__)
def test_blank_lines_that_the_engine_does_not_write_are_what_clients_make_empty_events_of(
    demos: Demos, client: Client, altering: Alteration
) -> None:
    reading = demos.approvals()
    seen, tap = read_in_python(client, reading, altering)
    assert_alike_but_for_empty_events(seen, wanted(reading, tap), invents=client in INVENTS[altering])
    assert tap.altered


@pytest.mark.browser
@pytest.mark.parametrize("client", ["eventsource", "npm", "yaffle", "fetch_event_source"])
@pytest.mark.parametrize("altering", INVENTS, ids=lambda altering: altering.__name__)
def test_of_the_clients_of_scripts_fetch_event_source_alone_makes_empty_events_of_them(
    demos: Demos, pages: Pages, client: str, altering: Alteration
) -> None:
    reading = demos.approvals()
    seen, tap = read_in_a_script(client, pages, reading, altering)
    invents = client == "fetch_event_source" and altering is not id_after_data
    assert_alike_but_for_empty_events(seen, wanted(reading, tap), invents=invents)
    assert tap.altered


def assert_alike_but_for_empty_events(seen: list[Seen], right: list[Seen], *, invents: bool) -> None:
    assert [event[:2] for event in seen if event[1]] == [event[:2] for event in right]
    assert {event[:2] for event in seen if not event[1]} == ({EMPTY[:2]} if invents else set())
