"""Whom a publish waits for, how much that may cost, and in what order publishers go on.

Guards the promise about readers whose sockets are full: `publish_wait` is a budget,
measured by the engine's own `publish_socket_wait_s`, never by a clock of a test. A dead
reader costs an eighth of it in a minute; 0 waits for no socket; None waits for the
slowest reader and skips nothing. And publishers append in the order they came.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.beats import Beats
from support.deadline import DEADLINE, until
from support.documented import SETTINGS
from support.reader import Reader
from support.threads import slept

PADDING = "x" * 2000
#: Enough that the kernel's buffers of one loopback connection cannot hold them.
MANY = 6000


@contextlib.contextmanager
def full(server: sse_fast.Server, count: int = 1) -> Iterator[list[Reader]]:
    """Subscribers of `s` that take nothing; their sockets are full."""
    stream = server.stream("s")
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(server.port, receive_buffer=2048)) for _ in range(count)]
        for reader in readers:
            reader.open()
        threading.Thread(target=fill, args=(stream,), daemon=True).start()
        until(lambda: server.stats().blocked >= count, what="full sockets")
        yield readers


def fill(stream: sse_fast.Stream) -> None:
    with contextlib.suppress(sse_fast.ServerClosed):
        for _ in range(MANY):
            stream.publish(PADDING)


def test_the_default_is_two_seconds() -> None:
    assert [row.default for row in SETTINGS if row.name == "publish_wait"] == [2.0]


@pytest.mark.parametrize("readers", [1, 20])
def test_dead_readers_cost_publishers_an_eighth_of_the_budget_or_all_of_it_once(serve: Serve, readers: int) -> None:
    """One of them W/8 in a minute; all of them together never more than W."""
    server = serve(stall_timeout=600.0, heartbeat=None)
    stream = server.stream("s")
    with full(server, readers):
        for number in range(MANY):
            stream.publish({"n": number, "pad": PADDING})
        stats = server.stats()
    wait = 2.0
    budget = min(readers * wait / 8, wait)
    # A machine that is busy gives the processor back late: a tenth more.
    assert 0 < stats.publish_socket_wait_s <= 1.1 * budget


def test_a_dead_reader_costs_healthy_ones_nothing(serve: Serve) -> None:
    server = serve(stall_timeout=600.0)
    stream = server.stream("s")
    with Reader(server.port) as healthy:
        healthy.open()
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.extend(healthy.rest(60)))
        thread.start()
        with full(server):
            until(lambda: server.stats().published == MANY, 60)
            stream.end("over")
            thread.join(60)
    assert [event.event for event in got] == [*["message"] * MANY, "end"]


@pytest.mark.parametrize("streams", [1, 8])
def test_one_publishing_thread_pays_the_budget_once_over_all_its_streams(serve: Serve, streams: int) -> None:
    server = serve(stall_timeout=600.0, heartbeat=None, publish_wait=0.8)
    names = [f"s{number}" for number in range(streams)]
    with contextlib.ExitStack() as stack:
        for name in names:
            server.stream(name)
            for _ in range(10):
                stack.enter_context(Reader(server.port, f"/streams/{name}", receive_buffer=2048)).open()
        for _ in range(3000):
            for name in names:
                server.stream(name).publish(PADDING)
        stats = server.stats()
    assert stats.blocked > 0
    assert 0 < stats.publish_socket_wait_s <= 1.1 * 0.8


def test_zero_waits_for_no_socket(serve: Serve) -> None:
    server = serve(publish_wait=0.0, stall_timeout=600.0, heartbeat=None)
    stream = server.stream("s")
    with full(server) as (dead,):
        until(lambda: server.stats().published == MANY, 60)
        before = server.stats()
        for number in range(MANY):
            stream.publish({"n": number, "pad": PADDING})
        after = server.stats()
        assert after.publish_wait_s == before.publish_wait_s
        stream.end("over")
        # It is told what that cost it.
        events = dead.rest(60)
    skipped = sum(event.json()["skipped"] for event in events if event.event == "gap")
    received = sum(event.event != "gap" for event in events)
    assert skipped > 0
    assert skipped + received == 2 * MANY + 1


def test_none_waits_for_the_slowest_reader_and_skips_nothing(serve: Serve) -> None:
    server = serve(publish_wait=None, stall_timeout=600.0)
    stream = server.stream("s", history=4, max_lag=4)
    with full(server) as (slowest,):
        # The publisher stands still: the log cannot hold what is missing, and nothing may be skipped.
        assert server.stats().published < MANY
        events = slowest.take(MANY, 60)
        assert {event.event for event in events} == {"message"}
        numbers = [int((event.own_id or "-0").rpartition("-")[2]) for event in events]
        assert numbers == list(range(1, MANY + 1))
        assert server.stats().skipped == 0
    assert stream.stats().published == MANY


def test_none_waits_no_longer_than_until_the_reader_is_cut(serve: Serve) -> None:
    server = serve(publish_wait=None, stall_timeout=0.5, heartbeat=None)
    with full(server):
        until(lambda: server.stats().published == MANY, 60, what="the publisher going on")
        assert server.stats().closed.stalled == 1


def test_none_ends_with_the_server(serve: Serve) -> None:
    """A publisher that waits when the server is closed is told so."""
    server = serve(publish_wait=None, stall_timeout=600.0)
    stream = server.stream("s", history=4, max_lag=4)
    outcome: list[BaseException] = []

    def publish() -> None:
        try:
            for _ in range(MANY):
                stream.publish(PADDING)
        except sse_fast.SseFastError as error:
            outcome.append(error)

    with Reader(server.port, receive_buffer=2048) as reader:
        reader.open()
        thread = threading.Thread(target=publish)
        thread.start()
        until(lambda: server.stats().blocked == 1)
        server.close(drain=0.0)
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert [type(error) for error in outcome] == [sse_fast.ServerClosed]


def test_publishers_go_on_in_the_order_they_came(serve: Serve) -> None:
    server = serve(publish_wait=None, stall_timeout=600.0)
    stream = server.stream("s", history=1, max_lag=1)
    threads: list[threading.Thread] = []
    with Reader(server.port, receive_buffer=2048) as reader, Beats(server, 0.02) as beats:
        reader.open()
        for number in range(MANY):
            thread = threading.Thread(target=stream.publish, args=(f"{number} {PADDING}",))
            thread.start()
            threads.append(thread)
            # The next one comes when this one has published, or waits for the reader.
            until(lambda thread=thread: not thread.is_alive() or slept(thread, beats))
            if sum(thread.is_alive() for thread in threads[-30:]) == 20:
                break
        events = reader.take(len(threads), 60)
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
    assert [int(event.data.partition(" ")[0]) for event in events] == list(range(len(threads)))
