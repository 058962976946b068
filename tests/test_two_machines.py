"""The load test of two machines: its accounts find what is lost, doubled or out of order, and a short run is right.

The run is the scenario itself with few readers: two groups of engines behind a real Redis, one group killed (-9) with
its publishers and started again, the other taken off the network where namespaces are permitted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from loadtest.histogram import Histogram  # noqa: E402
from loadtest.two_machines_account import Account, wrong  # noqa: E402
from loadtest.two_machines_readers import Reader  # noqa: E402

#: A stream's log as (id, publisher, number): two publishers, each counting for itself.
LOG = [("a-1", "x", 1), ("a-2", "y", 1), ("a-3", "x", 2), ("a-4", "x", 3), ("a-5", "y", 2)]
CONFIRMED = {"x": 3, "y": 2}


def account(events: list[tuple[str, str, int]]) -> dict:
    found = Account()
    for event in events:
        found.event(*event)
    return found.to_dict()


def test_readers_that_have_the_whole_log_are_right() -> None:
    assert wrong([account(LOG), account(LOG)], CONFIRMED, 0) == []


@pytest.mark.parametrize(
    ("events", "word"),
    [
        (LOG[:2] + LOG[3:], "lost 1"),
        (LOG[:-1], "has 1 of publisher y, which was told of 2"),
        ([*LOG[:3], LOG[2], *LOG[3:]], "doubled 1"),
        ([LOG[0], LOG[2], LOG[1], *LOG[3:]], "doubled 1"),
        ([*LOG[:3], ("a-4", "x", 4), LOG[4]], "disordered 1"),
        ([*LOG[:3], ("b-1", "x", 3), ("b-2", "y", 2)], "2 lives"),
    ],
    ids=["lost", "the last lost", "doubled", "out of order", "a number jumped", "another life"],
)
def test_what_is_wrong_is_found(events: list[tuple[str, str, int]], word: str) -> None:
    assert any(word in text for text in wrong([account(events)], CONFIRMED, 0)), wrong([account(events)], CONFIRMED, 0)


def test_one_id_for_two_events_is_found_though_each_reader_s_own_account_is_right() -> None:
    other = [*LOG[:1], ("a-2", "x", 2), ("a-3", "y", 1), *LOG[3:]]
    assert "the readers do not have the same" in wrong([account(LOG), account(other)], CONFIRMED, 0)


def test_a_gap_is_wrong_even_where_it_is_announced() -> None:
    found = Account()
    found.gap()
    assert "reader 0: gaps 1" in wrong([found.to_dict()], {}, 0)


def test_a_publisher_that_was_killed_may_have_published_what_it_did_not_hear_of() -> None:
    assert wrong([account(LOG)], {"x": 2, "y": 2}, 1) == []
    assert wrong([account(LOG)], {"x": 1, "y": 2}, 1) != []


@pytest.mark.parametrize("size", [1, 3, 17, 1 << 16])
def test_any_split_of_the_bytes_gives_the_same_account(size: int) -> None:
    frames = [f"id: {name}\ndata: {publisher} {number} 5 xx\n\n".encode() for name, publisher, number in LOG]
    frames.insert(2, b'event: gap\ndata: {"skipped":3}\n\n')
    body = b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames)
    received = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    reader = Reader(0, [("127.0.0.1", 1)], 0)
    reader.socket = Pieces([received[at : at + size] for at in range(0, len(received), size)])  # type: ignore[assignment]
    for _ in range(0, len(received), size):
        reader.take(Histogram())
    assert reader.account.to_dict() == {**account(LOG), "gaps": 1}
    assert reader.account.last_id == "a-5"


class Pieces:
    """A socket that gives what it was made with."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def recv(self, _size: int) -> bytes:
        return self._pieces.pop(0)


@pytest.mark.timeout(150)
def test_two_machines_lose_double_and_reorder_nothing(tmp_path: Path) -> None:
    words = ["--engines", "1", "--streams", "8", "--readers", "48", "--rate", "150", "--seconds", "5"]
    command = [sys.executable, "-m", "loadtest", "two-machines", *words, "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=140, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [record] = tmp_path.rglob("two-machines.json")
    kept = json.loads(record.read_text())
    assert kept["wrong"] == []
    assert kept["connected"] == 48
    assert kept["losses"] >= 24, "the readers of a killed engine came back at another"
    assert kept["events"] >= kept["confirmed"] > 300
