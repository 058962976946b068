"""A callable that is polled, and whose changes are a stream.

Guards `server.watch`: published on change only, ended at a terminal status, and
a poll that fails is logged, retried and at last an `error` event.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from typing import Any

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import until


def test_s0_3_a_watch_publishes_changes_only_and_a_terminal_status_ends_the_stream(
    server: sse_fast.Server, read: Open
) -> None:
    server.stream("s", start="all")
    states = iter(
        [
            {"status": "IN_QUEUE"},
            {"status": "IN_QUEUE"},
            {"status": "PROVISIONING"},
            {"status": "PROVISIONING", "vm": 1},
            {"status": "PROVISIONING", "vm": 1},
            {"status": "IN_QUEUE"},
            {"status": "BENCHMARKED", "ms": 4},
        ]
    )
    watch = server.watch(lambda: next(states), every=0.01, stream="s", until={"BENCHMARKED", "FAILED"})
    events = read().open().rest()
    assert [(event.event, event.data) for event in events] == [
        ("IN_QUEUE", '{"status":"IN_QUEUE"}'),
        ("PROVISIONING", '{"status":"PROVISIONING"}'),
        ("PROVISIONING", '{"status":"PROVISIONING","vm":1}'),
        ("IN_QUEUE", '{"status":"IN_QUEUE"}'),
        ("BENCHMARKED", '{"status":"BENCHMARKED","ms":4}'),
    ]
    watch.wait(20)
    assert watch.done
    assert next(states, None) is None


@pytest.mark.parametrize("until_", [lambda value: value >= 3, None])
def test_until_may_be_a_callable_or_statuses(server: sse_fast.Server, read: Open, until_: Any) -> None:
    server.stream("s", start="all")
    if until_ is None:
        numbers = iter(["a", "b", "DONE"])
        watch = server.watch(lambda: next(numbers), every=0.01, stream="s", until="DONE")
        expected = ["a", "b", "DONE"]
    else:
        counter = itertools.count()
        watch = server.watch(lambda: next(counter), every=0.01, stream="s", until=until_)
        expected = ["0", "1", "2", "3"]
    watch.wait(20)
    assert [event.data for event in read().open().rest()] == expected


def test_an_object_that_is_changed_in_place_is_a_new_state(server: sse_fast.Server, read: Open) -> None:
    server.stream("s", start="all")
    state = {"status": "RUNNING", "done": [1]}
    polls = itertools.count(1)

    def poll() -> dict[str, Any]:
        number = next(polls)
        state["done"] = [*state["done"], number] if number % 2 else state["done"]
        state["status"] = "DONE" if number == 6 else "RUNNING"
        return state

    server.watch(poll, every=0.01, stream="s", until={"DONE"}).wait(20)
    assert [event.json()["done"] for event in read().open().rest()] == [[1, 1], [1, 1, 3], [1, 1, 3, 5], [1, 1, 3, 5]]


def test_an_async_poll_keeps_its_event_loop_and_leaves_no_task(server: sse_fast.Server, read: Open) -> None:
    """What belongs to a loop, such as a lock or a client's connections, serves the next poll, too."""
    server.stream("s", start="all")
    loops: set[Any] = set()
    cancelled = threading.Event()
    lock: list[asyncio.Lock] = []

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    states = iter(["A", "A", "B", "DONE"])

    async def stepped() -> str:
        await asyncio.sleep(0)
        loops.add(asyncio.get_running_loop())
        if not lock:
            lock.append(asyncio.Lock())
            loops.add(asyncio.create_task(for_ever()).get_loop())
        async with lock[0]:
            return next(states)

    watch = server.watch(stepped, every=0.01, stream="s", until={"DONE"})
    watch.wait(20)
    assert [event.data for event in read().open().rest()] == ["A", "B", "DONE"]
    (loop,) = loops
    assert loop.is_closed()
    assert cancelled.is_set()
    assert watch.value == "DONE"


def test_an_async_poll_that_fails_is_a_failure(server: sse_fast.Server, read: Open) -> None:
    server.stream("s", start="all")

    async def poll() -> str:
        raise LookupError("no such job")

    server.watch(poll, every=0.01, stream="s", until={"DONE"}, max_failures=2).wait(20)
    (event,) = read().open().rest()
    assert event.json()["detail"] == "LookupError: no such job"


def test_poll_runs_on_its_own_thread_and_heartbeats_go_on_while_it_is_blocked(
    server: sse_fast.Server, read: Open
) -> None:
    server.stream("s", heartbeat=0.05, start="all")
    gate = threading.Event()
    threads: list[str] = []

    def poll() -> str:
        threads.append(threading.current_thread().name)
        gate.wait(30)
        return "DONE"

    watch = server.watch(poll, every=0.01, stream="s", until={"DONE"})
    reader = read().open()
    reader.read_until(lambda: len(reader.parser.comments) >= 5, what="heartbeats during a blocked poll")
    gate.set()
    assert reader.rest()[-1].data == "DONE"
    watch.wait(20)
    assert threading.main_thread().name not in threads


def test_a_poll_that_fails_now_and_then_is_logged_counted_and_retried(
    server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture
) -> None:
    server.stream("s", start="all")
    answers: list[Any] = [OSError("provisioner is away"), "QUEUED", OSError("again"), "DONE"]

    def poll() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    with caplog.at_level(logging.WARNING, "sse_fast"):
        watch = server.watch(poll, every=0.01, stream="s", until={"DONE"}, max_failures=2)
        watch.wait(20)
    assert [event.data for event in read().open().rest()] == ["QUEUED", "DONE"]
    assert "provisioner is away" in caplog.text
    assert watch.failures == 0


def test_after_max_failures_the_stream_ends_with_an_error_event(
    server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture
) -> None:
    server.stream("s", start="all")
    times: list[float] = []

    def poll() -> str:
        times.append(time.monotonic())
        raise OSError("the provisioner \ud800 is away")

    with caplog.at_level(logging.WARNING, "sse_fast"):
        watch = server.watch(poll, every=0.02, stream="s", until={"DONE"}, max_failures=7)
        watch.wait(30)
    (event,) = read().open().rest()
    assert event.event == "error"
    report = {"error": "watch_failed", "failures": 7, "detail": "OSError: the provisioner ? is away"}
    assert event.json() == report, "with its text, whatever characters that has"
    assert watch.failures == 7
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(pauses) == 6
    # The last is 32 times as long as the first; a busy machine may make one of those longer, not both.
    assert pauses[-1] > 4 * min(pauses[:2]), f"no back-off: {pauses}"


def test_stop_leaves_the_stream_open(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    watch = server.watch(lambda: "RUNNING", every=0.01, stream=stream, until={"DONE"})
    until(lambda: stream.last_id)
    watch.stop()
    watch.wait(20)
    assert not stream.ended
    stream.publish("someone else goes on")


def test_a_watch_ends_with_its_stream_and_with_its_server(serve: Serve) -> None:
    server = serve()
    ended, open_ = server.stream("ended"), server.stream("open")
    first = server.watch(time.monotonic_ns, every=0.01, stream=ended, until={"DONE"})
    second = server.watch(time.monotonic_ns, every=0.01, stream=open_, until={"DONE"})
    ended.end("over")
    first.wait(20)
    server.close()
    second.wait(20)


def test_what_cannot_be_published_counts_as_a_failure_not_a_silent_death(
    server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """A poll that returns something without JSON must not leave readers with nothing but heartbeats."""
    server.stream("s", start="all")
    with caplog.at_level(logging.WARNING, "sse_fast"):
        watch = server.watch(lambda: {"status": object()}, every=0.01, stream="s", until={"DONE"}, max_failures=2)
        watch.wait(20)
    assert caplog.records
    assert read().open().rest()[-1].event == "error"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"every": 0}, "every"),
        ({"every": -1}, "every"),
        ({"every": float("nan")}, "every"),
        ({"max_failures": 0}, "max_failures"),
        ({"max_failures": 1.5}, "max_failures"),
    ],
    ids=repr,
)
def test_a_bad_argument_is_a_value_error_naming_it(server: sse_fast.Server, options: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        server.watch(lambda: 1, stream="s", until={"DONE"}, **options)


def test_wait_with_a_timeout_raises_wait_timeout(server: sse_fast.Server) -> None:
    watch = server.watch(lambda: 1, every=0.01, stream="s", until={"DONE"})
    with pytest.raises(sse_fast.WaitTimeout):
        watch.wait(0.05)
    watch.stop()
