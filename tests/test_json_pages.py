"""The JSON form in pages: one answer is bounded, and the answers join without loss or repeat.

Guards what a client that polls builds on: `more`, a `last_id` to go on from, `ended` only where everything has been
given, and that `sse-fast.js` asks again at once while there is more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import sse_fast
from support.deadline import until
from support.reader import fetch

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

#: What one answer may hold of events, and some more for its keys and JSON's escapes.
MAX_BODY = 256 * 1024 * 1.25

KEYS = ["stream", "last_id", "ended", "more", "snapshot", "gap", "events"]


def poll(server: sse_fast.Server, last_id: str | None = None) -> dict[str, Any]:
    query = "" if last_id is None else f"?last_event_id={quote(last_id)}"
    head, body = fetch(server.port, f"/streams/s{query}", headers=[("Accept", "application/json")])
    assert head.status == 200
    assert len(body) <= MAX_BODY
    page: dict[str, Any] = json.loads(body)
    assert list(page) == (KEYS if page.get("empty") is None else [*KEYS, "empty"])
    return page


def poll_all(server: sse_fast.Server) -> list[dict[str, Any]]:
    pages = [poll(server)]
    while pages[-1]["more"]:
        pages.append(poll(server, pages[-1]["last_id"]))
    return pages


@pytest.mark.parametrize("ids", [True, False])
def test_a_long_history_comes_in_pages_that_join(server: sse_fast.Server, ids: bool) -> None:
    stream = server.stream("s", start="all", history_bytes=4 << 20, ids=ids)
    sent = [f"{number} {'x' * 4000}" for number in range(250)]
    for data in sent:
        stream.publish(data)
    last = stream.end("over")
    pages = poll_all(server)
    assert len(pages) > 3
    assert [event["data"] for page in pages for event in page["events"]] == [*sent, "over"]
    assert [page["ended"] for page in pages] == [False] * (len(pages) - 1) + [True]
    assert {page["gap"] for page in pages} == {None}
    assert pages[-1]["last_id"] == last
    if ids:
        assert [page["last_id"] for page in pages] == [page["events"][-1]["id"] for page in pages]


def test_a_snapshot_counts_and_its_tail_continues_on_the_next_page(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.snapshot("s" * 250_000)
    sent = [f"{number} {'x' * 4000}" for number in range(20)]
    for data in sent:
        stream.publish(data)
    pages = poll_all(server)
    assert [bool(page["snapshot"]) for page in pages] == [True, False]
    assert [event["data"] for page in pages for event in page["events"]] == sent


def test_a_page_with_everything_has_no_more(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all")
    page = poll(server)
    assert (page["more"], page["empty"]) == (False, True)
    stream.publish("x")
    page = poll(server)
    assert (page["more"], page["events"][0]["data"], "empty" in page) == (False, "x", False)


#: A page whose streams are all refused, as behind a proxy that lets none through: it can only poll, once an hour.
POLLING = """<!doctype html><title>polling</title><body><script type="module">
import { connect } from "/sse-fast.js";
window.EventSource = undefined;
const { fetch } = window;
window.asked = 0;
window.fetch = (address, options) => {
  if (options.headers.get("Accept") === "text/event-stream") return Promise.resolve(new Response("", { status: 503 }));
  asked += 1;
  return fetch(address, options);
};
window.seen = [];
window.reading = connect("/streams/s", {
  on: { message: (data) => seen.push(data), end: (data) => seen.push(data) },
  pollEvery: 3600,
  share: false, // In a worker this page could not stand in the way.
});
</script>"""


@pytest.mark.browser
@pytest.mark.timeout(180)
@pytest.mark.parametrize("ids", [True, False])
def test_a_page_that_polls_asks_again_at_once_while_there_is_more(
    server: sse_fast.Server, browser: Chrome, ids: bool
) -> None:
    server.get("/polling")(lambda _req: sse_fast.Response(POLLING, content_type="text/html; charset=utf-8"))
    stream = server.stream("s", start="all", history_bytes=4 << 20, ids=ids)
    sent = [f"{number} {'x' * 4000}" for number in range(250)]
    for data in sent:
        stream.publish(data)
    stream.end("over")
    pages = len(poll_all(server))
    browser.get(f"{server.url}/polling")
    until(lambda: browser.execute_script("return reading.state.state") == "ended", deadline=60)
    assert browser.execute_script("return seen") == [*sent, "over"]
    assert browser.execute_script("return asked") == pages
    browser.get("about:blank")
