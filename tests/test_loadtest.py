"""The load test's own truth: that an event which is lost or repeated on the way is found, and that a run says so.

The parsers and the ledger are fed byte streams made here; the last test plays `smoke` whole,
with its 500 clients but without limits on time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest

from conftest import Serve
from support.deadline import DEADLINE

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from loadtest import bars, bars_table, metrics, peers, plan, scenario, shared_peers  # noqa: E402
from loadtest.bars_figure import Figure, median, worst  # noqa: E402
from loadtest.frames import Frames  # noqa: E402
from loadtest.histogram import Histogram  # noqa: E402
from loadtest.ledger import Ledger, Totals  # noqa: E402
from loadtest.sse import Response  # noqa: E402

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(frame: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(frame), frame)


def event(number: int, name: bytes = b"") -> bytes:
    head = b"event: %s\n" % name if name else b""
    return chunk(head + b'id: e-%d\ndata: {"seq":%d,"t":%d,"pad":"xxxx"}\n\n' % (number, number, number))


def gap(skipped: object) -> bytes:
    return chunk(b'event: gap\ndata: {"skipped":%s,"from":"e-1","to":"e-2"}\n\n' % str(skipped).encode())


def heartbeat() -> bytes:
    return chunk(b": heartbeat\n")


def account(pieces: Iterable[bytes], published: int) -> Totals:
    frames, totals = Frames(Ledger(0)), Totals()
    for piece in pieces:
        frames.take(piece)
    totals.add(frames.ledger, published)
    return totals


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 16])
def test_any_split_of_the_bytes_gives_the_same_account(size: int) -> None:
    body = event(1) + heartbeat() + event(2) + gap(3) + event(6) + heartbeat() * 3 + event(7, b"end")
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    totals = account(pieces, published=7)
    assert totals.right
    assert (totals.owed, totals.delivered, totals.announced, totals.lost) == (7, 4, 3, 0)


def test_a_lost_event_is_found() -> None:
    totals = account([event(1) + event(2) + event(4)], published=4)
    assert not totals.right
    assert (totals.missing, totals.lost, totals.repeats) == (1, 1, 0)


def test_the_last_event_lost_is_found() -> None:
    totals = account([event(1) + event(2)], published=3)
    assert not totals.right
    assert (totals.missing, totals.lost, totals.behind, totals.incomplete) == (0, 1, 1, 1)


def test_a_repeated_event_is_found() -> None:
    totals = account([event(1) + event(2), event(2) + event(3)], published=3)
    assert not totals.right
    assert (totals.missing, totals.lost, totals.repeats) == (0, 0, 1)


def test_a_gap_announced_with_the_wrong_number_is_found() -> None:
    too_few, too_many = (account([event(1) + gap(n) + event(5)], published=5) for n in (2, 4))
    assert (too_few.right, too_few.missing) == (False, 1)
    assert (too_many.right, too_many.repeats) == (False, 1)


def test_a_gap_without_a_number_is_found() -> None:
    assert not account([event(1) + gap("null") + event(2)], published=2).right


def test_a_subscriber_that_got_nothing_is_found() -> None:
    totals = account([heartbeat()], published=3)
    assert (totals.right, totals.owed, totals.lost) == (False, 3, 3)


def test_who_came_late_is_owed_what_follows_its_first_event() -> None:
    frames, totals = Frames(Ledger(None)), Totals()
    frames.take(event(5) + event(6))
    totals.add(frames.ledger, published=6)
    assert totals.right
    assert (totals.owed, totals.delivered) == (2, 2)


def test_who_came_late_and_got_nothing_is_found() -> None:
    totals = Totals()
    totals.add(Ledger(None), published=6)
    assert (totals.right, totals.incomplete) == (False, 1)
    left = Totals()
    left.add(Ledger(None), published=None)
    assert left.right


def test_data_quoted_by_the_end_of_a_run_is_no_second_event() -> None:
    end = chunk(b'event: end\nid: e-3\ndata: {"exit_code":0,"result":{"seq":2,"t":2}}\n\n')
    frames = Frames(Ledger(0))
    frames.take(event(1) + event(2, b"BENCHMARKED") + end)
    assert frames.ended
    assert (frames.ledger.delivered, frames.ledger.repeats) == (2, 0)


def test_a_resuming_client_says_the_id_it_saw_last() -> None:
    frames = Frames(Ledger(0))
    assert frames.last_event_id is None
    frames.take(event(1) + event(2) + event(3)[:-9])
    frames.reconnected()
    assert frames.last_event_id == b"e-2"
    frames.take(event(3))
    assert frames.ledger.delivered == 3


@pytest.mark.parametrize("size", [1, 5, 1 << 16])
def test_the_probes_parser_gives_the_same_events_for_any_split(size: int) -> None:
    received = HEAD + heartbeat() + event(1) + event(2, b"end") + b"0\r\n\r\n"
    response = Response()
    events = [e for at in range(0, len(received), size) for e in response.feed(received[at : at + size])]
    assert (response.status, response.ended) == (200, True)
    assert [e.comment for e in events] == ["heartbeat", None, None]
    assert [(e.event, e.last_event_id, json.loads(e.data)["seq"]) for e in events[1:]] == [
        ("message", "e-1", 1),
        ("end", "e-2", 2),
    ]


def test_percentiles_are_within_a_bucket_of_the_truth() -> None:
    histogram = Histogram()
    for milliseconds in range(1, 1001):
        histogram.record(float(milliseconds))
    other = Histogram()
    other.merge(json.loads(json.dumps(histogram.to_dict())))
    for percent in (50, 90, 99):
        assert percent * 10 <= other.percentile(percent) <= percent * 10 * 1.05
    assert other.percentile(100) == 1000


@pytest.mark.parametrize("name", scenario.names())
def test_every_scenario_can_be_planned(name: str) -> None:
    asked = scenario.load(name, ["clients.processes=2"])
    first, second = (plan.parts(asked, share, mass=True) for share in plan.shares(asked.clients.count, 2))
    numbers = [part.number for part in first + second]
    assert len(numbers) == len(set(numbers)) >= asked.clients.count
    assert plan.parts(asked, plan.shares(asked.clients.count, 2)[0], mass=True) == first


def test_a_misspelt_key_of_a_scenario_is_named() -> None:
    with pytest.raises(scenario.ScenarioError, match=r"clients\.cuont"):
        scenario.load("smoke", ["clients.cuont=3"])


def test_a_bar_that_is_missed_says_by_how_much() -> None:
    missed = median("CPU", [1.5, 1.2, 1.1], "times floor", at_most=1.0)
    assert (missed.met, missed.verdict) == (False, "missed by 20 %")
    assert median("rate", [12.0], "times floor", at_least=15.0).verdict == "missed by 20 %"
    assert median("CPU", [1.0], "times floor", at_most=1.0).verdict == "met"
    assert worst("lost", [0, 0, 3], "events", at_most=0).verdict == "missed by 3 events"
    assert Figure("tail", None, "ms", missing="nchan is not installed").verdict.startswith("not measured: nchan")
    assert median("p50", [1.0], "ms").met is None


def test_every_bar_has_a_name_of_its_own_and_says_how_it_is_measured() -> None:
    names = [bar.name for bar in bars.ALL]
    assert len(names) == len(set(names))
    assert all(bar.what and bar.bar and bar.how for bar in bars.ALL)


def test_a_bar_that_cannot_be_measured_is_not_met_and_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(_stage: object) -> list[Figure]:
        raise OSError("no sockets left")

    good = bars.Bar("good", "what", "bar", "how", lambda _stage: [median("CPU", [1.0], "µs", at_most=2.0)])
    monkeypatch.setattr(bars, "ALL", (bars.Bar("bad", "what", "bar", "how", broken), good))
    monkeypatch.setattr(bars, "Stage", lambda *_: None)
    assert bars.run([], 1, tmp_path, strict=False) == 0
    assert bars.run([], 1, tmp_path, strict=True) == 1
    [record] = tmp_path.rglob("bars.json")
    kept = json.loads(record.read_text())
    assert [row["met"] for row in kept["rows"]] == [False, True]
    assert "no sockets left" in bars_table.markdown(kept)
    with pytest.raises(scenario.ScenarioError, match="god"):
        bars.run(["god"], 1, tmp_path, strict=False)


def test_each_peer_can_be_named_and_says_how_to_get_it_where_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [*peers.ALL, *shared_peers.ALL]
    names = [peer.name for peer in everything]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "," in name], "a comma parts names at the command line"
    monkeypatch.delenv("REDIS_SERVER", raising=False)
    monkeypatch.setattr(peers, "program", lambda _name: "")
    monkeypatch.setattr(shared_peers, "program", lambda _name: "")
    assert [peer.hint() for peer in shared_peers.ALL] == ["apt install redis-server"] * len(shared_peers.ALL)
    assert peers.Nchan.hint() == "apt install nginx libnginx-mod-nchan"


@pytest.mark.timeout(240)
def test_smoke_adds_up(tmp_path: Path) -> None:
    # Limits on time are the business of `make load`, so they are opened wide; the promises are checked all the same.
    limits = scenario.load("smoke").limits
    changes = [f"limits.at_most.{name}=60000" for name in limits.at_most if name.endswith("_ms")]
    changes += [f"limits.at_least.{name}=1" for name in limits.at_least]
    flags = [flag for change in changes for flag in ("--set", change)]
    command = [sys.executable, "-m", "loadtest", "run", "smoke", "--results", str(tmp_path), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = tmp_path.rglob("smoke.json")
    kept = json.loads(record.read_text())
    accounting = kept["accounting"]
    assert accounting["owed"] == accounting["delivered"] + accounting["announced"] > 0
    assert accounting["published_into_each_stream"] > 100
    assert kept["figures"]["resumed"] > 0
    page = record.with_suffix(".html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http_", "")


def test_a_number_of_the_metrics_that_is_not_the_readers_is_named(serve: Serve) -> None:
    server = serve(metrics=True)
    server.stream("load/0").publish("one")
    page = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=DEADLINE).read().decode()
    asked = scenario.from_dict({"name": "t", "clients": {"visits": 1.0}, "events": {"rate": 1.0, "duration": 1.0}})
    assert metrics.wrong(asked, Totals(), {}, page, page) == []
    lost = page.replace("sse_fast_events_published_total 1.0", "sse_fast_events_published_total 0.0")
    lost = lost.replace("sse_fast_events_published_total 1\n", "sse_fast_events_published_total 0\n")
    assert metrics.wrong(asked, Totals(), {}, page, lost) == ["sse_fast_events_published_total is 0, counted 1"]


@pytest.mark.timeout(120)
def test_several_streams_over_one_connection_add_up(tmp_path: Path) -> None:
    flags = ["--readers", "30", "--beside", "5", "--seconds", "2", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "loadtest", "several", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = tmp_path.rglob("several.json")
    rows = json.loads(record.read_text())["rows"]
    assert [row["connections"] for row in rows] == [30, 30, 5, 160]
    assert rows[1]["cuts"] > 0
    assert all(row["events"] > 1000 for row in rows)
