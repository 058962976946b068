"""The numbers that operators scrape: each is what a client could have counted.

Guards that `/metrics` is OpenMetrics by the letter (the parser is the Prometheus project's own), that every figure is
what happened, and that documents and dashboard name what exists.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import DEADLINE, until
from support.reader import Reader, fetch, request
from support.scraped import families, scrape

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "guides" / "operating.md"
DASHBOARD = ROOT / "examples" / "grafana-dashboard.json"


@pytest.fixture
def server(serve: Serve) -> sse_fast.Server:
    """A server whose numbers are on its port."""
    return serve(metrics=True)


# ---- What they say -------------------------------------------------------------------------


def test_events_deliveries_and_bytes_are_those_of_the_readers(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    readers = [read().open() for _ in range(5)]
    for number in range(20):
        stream.publish(number)
    stream.end("over")
    bodies = 0
    for reader in readers:
        assert len(reader.rest()) == 21
        bodies += len(reader.received)
    until(lambda: scrape(server.port)['sse_fast_disconnects_total{reason="ended"}'] == 5)
    found = scrape(server.port)
    assert found["sse_fast_events_published_total"] == 21
    assert found["sse_fast_events_delivered_total"] == 105
    assert found["sse_fast_streams"] == 1
    assert found["sse_fast_subscribers"] == 0
    assert found["sse_fast_bytes_sent_total"] == bodies
    assert found["sse_fast_publish_seconds_count"] == 21
    assert found["sse_fast_log_bytes"] == stream.stats().retained_bytes == server.stats().retained_bytes
    assert found["sse_fast_connections_accepted_total"] == server.stats().accepted


def test_streams_and_their_bytes_are_of_the_same_streams(server: sse_fast.Server) -> None:
    @server.get("/generated")
    def generated(_request: sse_fast.Request) -> Iterator[str]:
        yield "x" * 50

    named = server.stream("named")
    named.publish("x" * 100)
    nameless = [server.stream(None) for _ in range(7)]
    for stream in nameless:
        stream.publish("x" * 200)
    removed = server.stream(None)
    removed.publish("x")
    removed.remove()
    retained = sum(stream.stats().retained_bytes for stream in [named, *nameless])
    found = scrape(server.port)
    assert (found["sse_fast_streams"], found["sse_fast_log_bytes"]) == (8, retained)
    assert fetch(server.port, "/generated")[0].status == 200
    found = scrape(server.port)
    assert found["sse_fast_streams"] == server.stats().streams == 9
    assert retained + 50 < found["sse_fast_log_bytes"] == server.stats().retained_bytes
    assert found["sse_fast_events_published_total"] == 9 + 2
    nameless.clear()
    del stream
    until(lambda: scrape(server.port)["sse_fast_streams"] == 2, what="the nameless ones being gone")
    assert scrape(server.port)["sse_fast_log_bytes"] < 400
    assert scrape(server.port)["sse_fast_events_published_total"] == 9 + 2


def test_a_delay_is_counted_for_each_write_and_adds_up(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", heartbeat=None)
    readers = [read().open() for _ in range(4)]
    for number in range(25):
        stream.publish(number)
        for reader in readers:
            assert reader.next().data == str(number)
    # Each event was written to each reader by itself; the last step may not be over.
    until(lambda: scrape(server.port)["sse_fast_delivery_seconds_count"] == 100)
    found = scrape(server.port)
    assert found['sse_fast_delivery_seconds_bucket{le="+Inf"}'] == 100
    assert 0 < found["sse_fast_delivery_seconds_sum"] < 100 * DEADLINE
    # The reader that came late was written to, and its replay is no delay.
    with Reader(server.port, last_event_id=f"{str(stream.last_id).rpartition('-')[0]}-1") as late:
        assert late.open().next().data == "1"
        assert scrape(server.port)["sse_fast_delivery_seconds_count"] == 100


def test_resumes_and_gaps_are_counted_by_what_they_were(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", history=10, max_lag=10, heartbeat=None)
    ids = [stream.publish(number) for number in range(50)]
    read(last_event_id=ids[45]).open().next()
    for first in (ids[4], ids[14]):
        assert read(last_event_id=first).open().next().event == "gap"
    assert read(last_event_id="of somebody else").open().next().event == "gap"
    stream.end("over")
    assert fetch(server.port, "/streams/s", headers=[("Last-Event-ID", str(stream.last_id))])[0].status == 204
    found = scrape(server.port)
    resumes = {
        result: found[f'sse_fast_resumes_total{{result="{result}"}}'] for result in ("tail", "gap", "epoch", "finished")
    }
    assert resumes == {"tail": 1, "gap": 2, "epoch": 1, "finished": 1}
    gaps = {reason: found[f'sse_fast_gaps_total{{reason="{reason}"}}'] for reason in ("lag", "history", "epoch")}
    assert gaps == {"lag": 0, "history": 2, "epoch": 1}
    assert found["sse_fast_skipped_events_total"] == 35 + 25
    stats = server.stats()
    assert stats.resumes == sse_fast.Resumes(tail=1, gap=2, epoch=1, finished=1)
    assert stats.gap_reasons == sse_fast.GapReasons(lag=0, history=2, epoch=1)
    assert stats.gaps == 3


def test_who_takes_nothing_is_seen_to_lag_and_publishing_to_wait(serve: Serve) -> None:
    server = serve(metrics=True, publish_wait=0.4, shards=1)
    stream = server.stream("s", history=4, max_lag=4, heartbeat=None)
    with Reader(server.port, receive_buffer=4096) as slow, Reader(server.port) as quick:
        slow.open()
        quick.open()
        sent: list[str] = []

        def one_is_blocked() -> bool:
            sent.append(stream.publish("x" * 65_536))
            assert quick.next().data == "x" * 65_536
            return scrape(server.port)["sse_fast_blocked_subscribers"] == 1

        until(one_is_blocked)
        published = len(sent)
        before = scrape(server.port)
        assert before["sse_fast_lag_events_gcount"] == before["sse_fast_subscribers"] == 2
        for number in range(10):
            stream.publish(number)
            assert quick.next().data == str(number)
        after = scrape(server.port)
        # It had begun one event at least when its socket filled.
        assert after["sse_fast_lag_events_gsum"] == before["sse_fast_lag_events_gsum"] + 10
        assert after['sse_fast_lag_events_bucket{le="4.0"}'] == 1
        assert after['sse_fast_lag_events_bucket{le="+Inf"}'] == 2
        assert after["sse_fast_publish_waits_total"] == server.stats().publish_waits > 0
        assert after["sse_fast_publish_seconds_count"] == published + 10 == after["sse_fast_events_published_total"]
        assert after["sse_fast_publish_seconds_sum"] == pytest.approx(server.stats().publish_wait_s)
        assert after["sse_fast_publish_wait_timeouts_total"] == server.stats().publish_wait_timeouts
        assert after["sse_fast_publish_socket_wait_seconds_total"] > 0
        while slow.parser.events[-1:] == [] or slow.parser.events[-1].data != "9":
            assert slow.pump()
        until(lambda: scrape(server.port)['sse_fast_gaps_total{reason="lag"}'] == 1)
        found = scrape(server.port)
        assert found["sse_fast_blocked_subscribers"] == found["sse_fast_lag_events_gsum"] == 0
        gap = next(event for event in slow.parser.events if event.event == "gap")
        assert found["sse_fast_skipped_events_total"] == gap.json()["skipped"]


def test_what_is_refused_is_counted_by_reason(serve: Serve) -> None:
    server = serve(metrics=True, max_connections=3)
    server.post("/change")(lambda _request: "done")
    server.stream("s")
    for _ in range(2):
        fetch(server.port, "/change", method="POST", headers=[("Origin", "https://evil.example")])
        with Reader(server.port, raw=request("/", server.port, host="evil.example")) as foreign:
            assert foreign.read_head().status == 403
        assert fetch(server.port, "/metrics", headers=[("X-Forwarded-For", "10.0.0.1")])[0].status == 403
    until(lambda: server.stats().connections == 0)
    with Reader(server.port) as first, Reader(server.port) as second, Reader(server.port) as third:
        for reader in (first, second, third):
            reader.open()
        assert fetch(server.port, "/streams/s", headers=[("Accept", "application/json")])[0].status == 503
        found = scrape(server.port)
    refused = {
        reason: found[f'sse_fast_refused_total{{reason="{reason}"}}']
        for reason in ("host", "origin", "metrics", "connections")
    }
    assert refused == {"host": 2, "origin": 2, "metrics": 2, "connections": 1}
    assert server.stats().metrics_refused == 2


def test_requests_are_counted_by_route_and_never_by_path(server: sse_fast.Server) -> None:
    server.get("/jobs/{id}")(lambda _request: "job")
    server.post("/jobs/{id}")(lambda _request: "changed")
    server.route("/of/{user}", "users/{user}")
    for number in range(3):
        fetch(server.port, f"/jobs/{number}")
    fetch(server.port, "/jobs/1", method="POST")
    fetch(server.port, "/of/secret")
    fetch(server.port, "/nothing/here")
    samples = {name: count for name, count in scrape(server.port).items() if name.startswith("sse_fast_route")}
    assert samples == {
        'sse_fast_route_requests_total{route="/jobs/{id}"}': 4,
        'sse_fast_route_requests_total{route="/of/{user}"}': 1,
        'sse_fast_route_requests_total{route="/sse-fast.js"}': 0,
        'sse_fast_route_requests_total{route="/sse-fast.d.ts"}': 0,
    }


def test_counters_never_fall_while_streams_come_and_go(server: sse_fast.Server) -> None:
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            stream = server.stream(f"s{number % 50}")
            stream.publish(number)
            stream.remove()
            number += 1

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        last: dict[str, float] = {}
        for _ in range(100):
            found = scrape(server.port)
            growing = {name: value for name, value in found.items() if re.search(r"_(total|count|bucket)\b", name)}
            fell = {name: (last[name], value) for name, value in growing.items() if value < last.get(name, 0)}
            assert not {name: fall for name, fall in fell.items() if "lag_events" not in name}
            last = growing
    finally:
        stop.set()
        churning.join()
    assert last["sse_fast_events_published_total"] > 100


def test_fifteen_thousand_streams_are_counted_and_none_is_named(server: sse_fast.Server) -> None:
    for number in range(15_000):
        server.stream(f"secret/{number}", heartbeat=None)
    readers = [Reader(server.port, f"/streams/secret/{number}").open() for number in range(0, 15_000, 150)]
    try:
        for number in range(15_000):
            server.stream(f"secret/{number}").publish("x")
        for reader in readers:
            assert reader.next().data == "x"
        until(lambda: scrape(server.port)["sse_fast_delivery_seconds_count"] >= len(readers))
        found = scrape(server.port)
        assert found["sse_fast_streams"] == 15_000
        assert found["sse_fast_events_published_total"] == 15_000
        assert found["sse_fast_events_delivered_total"] == len(readers) == found["sse_fast_subscribers"]
        assert found["sse_fast_lag_events_gcount"] == len(readers)
        retained = sum(stream.stats().retained_bytes for stream in server.streams())
        assert found["sse_fast_log_bytes"] == retained
        text = fetch(server.port, "/metrics")[1]
        assert b"secret" not in text
        assert len(text) < 20_000
    finally:
        for reader in readers:
            reader.close()


# ---- What is said of them ------------------------------------------------------------------


def documented() -> Iterator[tuple[str, str]]:
    rows = re.findall(r"^\| `(sse_fast_\w+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    yield from rows


def test_the_page_lists_every_family_with_its_type(serve: Serve, tmp_path: Path) -> None:
    server = serve(metrics=True, store=tmp_path)
    assert dict(documented()) == families(server.port)
    assert len(dict(documented())) == len(list(documented()))


def labelled(port: int) -> dict[tuple[str, str], set[str]]:
    """The values of each label but a bucket's, by family and label."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in scrape(port):
        for family, label, value in re.findall(r'^(\w+?)(?:_total|_info)?\{(\w+)="([^"]*)"', name):
            if label != "le":
                found.setdefault((family, label), set()).add(value)
    return found


def test_the_page_lists_every_reason_and_result(server: sse_fast.Server) -> None:
    """In the row of a family, behind its label, or in the table that the row leads to."""
    page = PAGE.read_text(encoding="utf-8")
    listed: dict[tuple[str, str], set[str]] = {}
    for family, label, values in re.findall(r"^\| `(sse_fast_\w+)` \|.* by `(\w+)`: (.*) \|$", page, re.MULTILINE):
        text = values
        if link := re.search(r"\]\(#([\w-]+)\)", values):
            text = "".join(re.findall(r"^\| (`\w+`) \|", section(page, link[1]), re.MULTILINE))
        found = re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", text))
        assert len(found) == len(set(found)), family
        listed[family, label] = set(found)
    there = labelled(server.port)
    assert listed.pop(("sse_fast_route_requests", "route"), set()) == set()
    assert {family for family, _ in listed} == {
        "sse_fast_refused",
        "sse_fast_disconnects",
        "sse_fast_resumes",
        "sse_fast_gaps",
    }
    assert listed == {family: there[family] for family in listed}
    assert set(there) - set(listed) == {("sse_fast_route_requests", "route"), ("sse_fast_build", "version")}


def section(page: str, anchor: str) -> str:
    """What stands below the heading that the anchor leads to."""
    heading = next(line for line in re.findall(r"^#+ .*$", page, re.MULTILINE) if slug(line) == anchor)
    return re.split(r"^#+ ", page.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def slug(heading: str) -> str:
    return re.sub(r"[^\w-]", "", heading.lstrip("# ").lower().replace(" ", "-"))


def test_rules_and_dashboard_name_only_what_there_is(server: sse_fast.Server) -> None:
    samples = {re.sub(r"\{.*", "", name) for name in scrape(server.port)}
    page = PAGE.read_text(encoding="utf-8")
    rules = "\n".join(re.findall(r"^ *(?:- )?expr: (.*)$", page, re.MULTILINE))
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    shown = "\n".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))
    for text in (rules, shown):
        named = set(re.findall(r"\bsse_fast_\w+", text))
        assert len(named) > 5
        assert named <= samples
    labels = dict(re.findall(r'(\w+)=~?"([a-z|]+)"', rules + shown))
    assert set(labels) <= {"reason", "result", "job", "le"}
    values = labelled(server.port)
    known = {"reason": set[str](), "result": set[str]()}
    for (_, label), found in values.items():
        known.get(label, set()).update(found)
    for label, named_values in re.findall(r'(reason|result)=~?"([a-z|]+)"', rules + shown):
        assert set(named_values.split("|")) <= known[label]
