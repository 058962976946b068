"""A real browser: plain EventSource, and the demo's page.

Guards what no parser of ours can prove: that Chromium delivers every event once,
resumes by itself after a cut with Last-Event-ID, stops after the terminal event,
and that the page shows each status once, never a heartbeat, and recovers when
connection or server die in the middle of a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import sse_fast
from conftest import Serve
from support.chromium import console
from support.deadline import until
from support.demo import running_demo
from support.proxy import Proxy

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

STATUSES = ["IN_QUEUE", "PROVISIONING", "COMPILING", "BENCHMARKING", "BENCHMARKED"]

#: A page that keeps what EventSource reports.
PAGE = """<!doctype html><title>EventSource</title><body><script>
window.seen = []; window.opened = 0; window.errors = 0;
window.follow = (url, names) => {
  window.source = new EventSource(url);
  source.onopen = () => { opened += 1; };
  source.onerror = () => { errors += 1; };
  for (const name of ["message", ...names])
    source.addEventListener(name, (event) => { seen.push([event.type, event.data, event.lastEventId]); });
};
</script>"""


@pytest.fixture
def page(server: sse_fast.Server) -> sse_fast.Server:
    """The `server` fixture with a page of its own origin."""
    server.get("/page")(lambda _req: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    return server


@pytest.fixture(autouse=True)
def blank_afterwards(browser: Chrome) -> Iterator[None]:
    """No page outlives its test, so that none reconnects to a server of the next one."""
    yield
    browser.get("about:blank")
    console(browser)


def follow(browser: Chrome, port: int, path: str, *names: str) -> None:
    browser.get(f"http://127.0.0.1:{port}/page")
    browser.execute_script("follow(arguments[0], arguments[1])", path, list(names))


def seen(browser: Chrome) -> list[list[str]]:
    value: list[list[str]] = browser.execute_script("return seen")
    return value


def test_event_source_receives_names_data_and_ids(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", heartbeat=0.05)
    follow(browser, page.port, "/streams/s", "tick", "end")
    until(lambda: stream.subscribers == 1)
    first = stream.publish("plain ✓")
    second = stream.publish({"n": 1, "text": "a\u2028b"}, event="tick")
    third = stream.publish("two\nlines\r\n", event="tick")
    last = stream.end("over")
    until(lambda: len(seen(browser)) == 4)
    assert seen(browser) == [
        ["message", "plain ✓", first],
        ["tick", '{"n":1,"text":"a\\u2028b"}', second],
        ["tick", "two\nlines\n", third],
        ["end", "over", last],
    ]


def test_event_source_stops_for_good_after_the_terminal_event(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", retry=0.05)
    follow(browser, page.port, "/streams/s", "end")
    until(lambda: stream.subscribers == 1)
    stream.publish("x")
    stream.end("over")
    # It reconnects with the terminal event's id, and 204 tells it to stay away.
    until(lambda: browser.execute_script("return source.readyState") == 2, what="a closed EventSource")
    assert [name for name, _, _ in seen(browser)] == ["message", "end"]


def test_event_source_resumes_after_a_cut_without_loss_or_repetition(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", retry=0.05, start="all")
    with Proxy(page.port) as proxy:
        follow(browser, proxy.port, "/streams/s", "end")
        for number in range(60):
            stream.publish(number)
            if number % 10 == 5:
                until(lambda number=number: len(seen(browser)) == number + 1)
                proxy.cut()
        stream.end("over")
        until(lambda: seen(browser) and seen(browser)[-1][0] == "end")
    assert [data for _, data, _ in seen(browser)] == [*map(str, range(60)), "over"]
    assert browser.execute_script("return opened") >= 6


def test_event_source_comes_back_to_a_restarted_server(serve: Serve, browser: Chrome) -> None:
    first = serve(retry=0.1)
    first.get("/page")(lambda _req: sse_fast.Response(PAGE, content_type="text/html; charset=utf-8"))
    stream = first.stream("s")
    follow(browser, first.port, "/streams/s", "gap")
    until(lambda: stream.subscribers == 1)
    stream.publish("before")
    until(lambda: len(seen(browser)) == 1)
    first.close(drain=0.0)
    second = serve(first.port, retry=0.1, start="all")
    stream = second.stream("s")
    until(lambda: stream.subscribers == 1, 60, what="the browser coming back")
    stream.publish("after")
    until(lambda: len(seen(browser)) == 3)
    (_, before, _), (name, gap, _), (_, after, _) = seen(browser)
    assert (before, name, json.loads(gap)["skipped"], after) == ("before", "gap", None, "after")


COUNT = """
window.next = 0; window.wrong = []; window.done = null; window.gaps = 0; window.skipped = 0;
const source = new EventSource(arguments[0]);
source.onmessage = (event) => {
  if (Number(event.data) !== next && wrong.length < 10) wrong.push([next, event.data]);
  next = Number(event.data) + 1;
  window.received = (window.received ?? 0) + 1;
};
source.addEventListener("gap", (event) => {
  const missed = JSON.parse(event.data).skipped;
  gaps += 1; skipped += missed; next += missed;
});
source.addEventListener("end", (event) => { done = event.data; source.close(); });
"""


def test_a_loop_of_a_hundred_thousand_publishes_reaches_a_browser_whole(page: sse_fast.Server, browser: Chrome) -> None:
    stream = page.stream("s", history=100_001, max_lag=100_001, history_bytes=64 << 20)
    browser.get(f"{page.url}/page")
    browser.execute_script(COUNT, "/streams/s")
    until(lambda: stream.subscribers == 1)
    for number in range(100_000):
        stream.publish(number)
    stream.end("over")
    until(lambda: browser.execute_script("return done") == "over", 120)
    assert browser.execute_script("return [received, gaps, wrong]") == [100_000, 0, []]


def test_with_default_options_a_browser_gets_everything_or_is_told_what_it_missed(
    page: sse_fast.Server, browser: Chrome
) -> None:
    stream = page.stream("s")
    browser.get(f"{page.url}/page")
    browser.execute_script(COUNT, "/streams/s")
    until(lambda: stream.subscribers == 1)
    for number in range(100_000):
        stream.publish(number)
    stream.end("over")
    until(lambda: browser.execute_script("return done") == "over", 120)
    received, skipped, wrong = browser.execute_script("return [received, skipped, wrong]")
    assert received + skipped == 100_000
    assert wrong == []


def test_closing_a_source_ends_its_subscription(page: sse_fast.Server, browser: Chrome) -> None:
    streams = [page.stream(f"s{number}") for number in range(5)]
    browser.get(f"{page.url}/page")
    for _ in range(3):
        browser.execute_script(
            "window.all = []; for (let i = 0; i < 5; i++) all.push(new EventSource(`/streams/s${i}`))"
        )
        until(lambda: [stream.subscribers for stream in streams] == [1] * 5)
        browser.execute_script("all.forEach((source) => source.close())")
        until(lambda: [stream.subscribers for stream in streams] == [0] * 5)


#: A page that reads five streams by the engine's own module, of the six connections that a browser has for a host.
MODULE = """<!doctype html><title>sse-fast.js</title><body><script type="module">
import { connect } from "/sse-fast.js";
window.seen = []; window.states = []; window.restored = false;
addEventListener("pageshow", (event) => { restored ||= event.persisted; });
for (let i = 0; i < 5; i++)
  connect(`/streams/s${i}`, {
    on: { message: (data) => seen.push([i, data]) },
    onState: ({ state }) => { states[i] = state; },
  });
</script>"""


def test_a_page_that_is_left_lets_go_of_its_connections_and_continues_when_it_is_back(
    server: sse_fast.Server, browser: Chrome
) -> None:
    """Chromium keeps a page that is left for its back button, and for a minute its event sources with it."""
    server.get("/module")(lambda _req: sse_fast.Response(MODULE, content_type="text/html; charset=utf-8"))
    streams = [server.stream(f"s{number}") for number in range(5)]
    browser.get(f"{server.url}/module")
    until(lambda: [stream.subscribers for stream in streams] == [1] * 5)
    for stream in streams:
        stream.publish("before")
    until(lambda: len(seen(browser)) == 5)
    browser.get("about:blank")
    until(lambda: [stream.subscribers for stream in streams] == [0] * 5)
    for stream in streams:
        stream.publish("meanwhile")
    browser.back()
    until(lambda: [stream.subscribers for stream in streams] == [1] * 5)
    for stream in streams:
        stream.publish("after")
    until(lambda: len(seen(browser)) == 15)
    assert browser.execute_script("return restored"), "the page was loaded anew, so nothing was proven"
    for number in range(5):
        assert [data for i, data in seen(browser) if i == number] == ["before", "meanwhile", "after"]
    until(lambda: browser.execute_script("return states") == ["live"] * 5)
    assert [stream.subscribers for stream in streams] == [1] * 5, "coming back opened a connection twice"


# ---- The demo's page ---------------------------------------------------------------------


def submit(browser: Chrome, kernel: str = "saxpy", size: str = "200") -> None:
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "#kernel option"))
    Select(browser.find_element(By.ID, "kernel")).select_by_value(kernel)
    field = browser.find_element(By.ID, "size")
    field.clear()
    field.send_keys(size)
    browser.find_element(By.ID, "submit").click()


def shown(browser: Chrome) -> list[str]:
    value: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#timeline li')].map((item) => item.dataset.status)"
    )
    return value


def text(browser: Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def assert_no_heartbeat(browser: Chrome, messages: list[str]) -> None:
    assert "heartbeat" not in browser.page_source.lower()
    assert not [message for message in messages if "heartbeat" in message.lower()]


def severe(messages: list[str]) -> list[str]:
    """Errors of the page itself; that a connection was refused while the server was away is the browser's to say."""
    return [message for message in messages if "net::ERR_" not in message]


def test_s0_5_the_page_shows_every_status_once_and_no_heartbeat(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser)
        observed: list[str] = []

        def finished() -> bool:
            for status in shown(browser):
                if status not in observed:
                    observed.append(status)
            return "ACCEPTED" in observed

        until(finished, 60)
        assert observed == [*STATUSES, "ACCEPTED"]
        assert shown(browser) == [*STATUSES, "ACCEPTED"]
        messages = console(browser)
        assert_no_heartbeat(browser, messages)
        assert severe(messages) == []
        run = browser.execute_script("return decodeURIComponent(location.hash.slice(1))")
        assert demo.row(run)["status"] == "ACCEPTED"
        # The whole page again, from the database.
        browser.refresh()
        until(lambda: shown(browser) == [*STATUSES, "ACCEPTED"])
        assert run in text(browser)


def test_s0_6_a_late_page_load_shows_what_has_happened_and_what_follows(browser: Chrome, tmp_path: Path) -> None:
    with (
        running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "3"}) as demo,
        demo.submit(submission_id="late") as reader,
    ):
        while reader.next().event != "PROVISIONING":
            pass
        browser.get(f"{demo.url}/benchmarks#late")
        until(lambda: shown(browser)[:2] == STATUSES[:2])
        until(lambda: "ACCEPTED" in shown(browser), 60)
        assert shown(browser) == [*STATUSES, "ACCEPTED"]


def test_s0_5_the_page_survives_cut_connections(browser: Chrome, tmp_path: Path) -> None:
    env = {"SSE_FAST_DEMO_PROVISIONING": "12", "SSE_FAST_RETRY": "0.2"}
    with running_demo(tmp_path, env) as demo, Proxy(demo.port) as proxy:
        browser.get(f"http://127.0.0.1:{proxy.port}/benchmarks")
        submit(browser)
        until(lambda: shown(browser) == STATUSES[:1])
        proxy.cut()
        until(lambda: shown(browser) == STATUSES[:2])
        proxy.cut()
        until(lambda: "ACCEPTED" in shown(browser), 90)
        assert shown(browser) == [*STATUSES, "ACCEPTED"]
        assert_no_heartbeat(browser, console(browser))


def test_s0_5_the_page_gives_up_after_fifteen_minutes_and_says_so(browser: Chrome, tmp_path: Path) -> None:
    """Its clock is shortened where it sets the longest of its timers, and heartbeats do not hold it back."""
    quarter = 15 * 60 * 1000
    shorter = (
        "const set = setTimeout; window.longest = 0; window.setTimeout = (act, delay, ...rest) =>"
        f" {{ longest = Math.max(longest, delay); return set(act, delay === {quarter} ? 2000 : delay, ...rest); }};"
    )
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": shorter})
    try:
        with running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "600"}) as demo:
            browser.get(f"{demo.url}/benchmarks")
            submit(browser)
            connection = browser.find_element(By.ID, "connection")
            until(lambda: shown(browser)[:1] == STATUSES[:1])
            assert browser.execute_script("return longest") == quarter
            until(lambda: connection.get_attribute("data-state") == "gave-up", what="giving up")
            assert "the stream did not end within 15 minutes" in connection.text
            assert "The run may still be going on; reload to look again." in text(browser)
            assert_no_heartbeat(browser, console(browser))
            run = browser.execute_script("return decodeURIComponent(location.hash.slice(1))")
            assert demo.row(run)["finished_at"] is None
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": added["identifier"]})


def test_the_page_s_own_buttons_break_it_and_it_survives(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path, {"SSE_FAST_DEMO_QUEUE": "2", "SSE_FAST_DEMO_PROVISIONING": "4"}) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser)
        until(lambda: shown(browser) == STATUSES[:1])
        browser.find_element(By.ID, "drop").click()
        until(lambda: "the next status was PROVISIONING" in text(browser))
        assert shown(browser) == STATUSES[:2]
        browser.find_element(By.ID, "restart").click()
        until(lambda: "A new server answers" in text(browser))
        until(lambda: "INTERRUPTED" in shown(browser), what="the page telling that the run was interrupted")
        assert shown(browser).count("PROVISIONING") == 1
        assert [message for message in severe(console(browser)) if "Failed to load resource" not in message] == []


def test_the_page_recovers_when_the_server_is_killed_and_restarted_in_the_middle(
    browser: Chrome, tmp_path: Path
) -> None:
    env = {"SSE_FAST_DEMO_PROVISIONING": "60", "SSE_FAST_RETRY": "0.2"}
    with running_demo(tmp_path, env) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser)
        until(lambda: shown(browser) == STATUSES[:2])
        port = demo.port
        demo.program.process.kill()
        demo.program.wait()
        until(lambda: browser.find_element(By.ID, "connection").get_attribute("data-state") != "live")
    with running_demo(tmp_path, env, port=port) as demo:
        until(lambda: "INTERRUPTED" in shown(browser), 90, what="the page telling that the run was interrupted")
        statuses = shown(browser)
        assert statuses.count("IN_QUEUE") == 1, statuses
        assert statuses.count("PROVISIONING") == 1, statuses
        # Who asks in the moment between the port's opening and the application's routes is told 404, and asks again.
        assert [message for message in severe(console(browser)) if "Failed to load resource" not in message] == []
        # And the page goes on: another run, from the same page.
        submit(browser)
        until(lambda: shown(browser)[:1] == ["IN_QUEUE"] and "INTERRUPTED" not in shown(browser))


def test_going_back_and_forth_leaves_connections_for_the_page_that_is_shown(browser: Chrome, tmp_path: Path) -> None:
    """A browser has six connections to a host; a page it keeps for its back button must not hold them."""
    with (
        running_demo(tmp_path, {"SSE_FAST_DEMO_PROVISIONING": "60"}) as demo,
        demo.submit(submission_id="long") as reader,
    ):
        reader.open()
        for visit in range(6):
            browser.get(f"{demo.url}/benchmarks?visit={visit}#long")
            until(lambda: shown(browser)[:1] == ["IN_QUEUE"], what=f"the run being shown at visit {visit}")
            browser.get(f"{demo.url}/?visit={visit}")


def test_a_refused_field_is_shown_where_it_is(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        browser.get(f"{demo.url}/benchmarks")
        submit(browser, size="0")
        until(lambda: browser.find_element(By.ID, "size-error").text)
        assert shown(browser) == []
        assert json.loads(_get(browser, f"{demo.url}/api/submissions")) == []


def _get(browser: Chrome, url: str) -> Any:
    return browser.execute_async_script(
        "const done = arguments[1]; fetch(arguments[0]).then((r) => r.text()).then(done)", url
    )


def test_the_index_leads_to_every_demo(browser: Chrome, tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        browser.get(f"{demo.url}/")
        links = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "a.card")]
        assert links
        for link in links:
            assert link is not None
            browser.get(link)
            assert browser.find_element(By.TAG_NAME, "h1").text
        assert severe(console(browser)) == []
