"""Who may write into a stream that a run or a watch writes already.

Guards that two runs are never mixed in one stream, however close they begin; that a refused one has changed nothing;
that what may write beside a run or a watch still may; and that a name is free again once its run is over.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

import sse_fast
from conftest import Open
from support.deadline import until

#: Says that it runs, then stays until its input ends it.
STAYS = [sys.executable, "-u", "-c", "print('SSE_EVENT:data: 1'); print('SSE_EVENT:'); import time; time.sleep(600)"]
SAYS = [sys.executable, "-u", "-c", "print('SSE_EVENT:data: \"mixed\"'); print('SSE_EVENT:')"]


@pytest.mark.parametrize("by", ["name", "stream", "nameless stream"])
def test_a_second_run_into_a_stream_is_refused_and_told_which_run_writes_there(
    server: sse_fast.Server, by: str
) -> None:
    stream = server.stream(None if by == "nameless stream" else "jobs/1")
    into: Any = "jobs/1" if by == "name" else stream
    first = server.run(STAYS, stream=into, history=77)
    called: list[object] = []
    with pytest.raises(sse_fast.StreamError) as caught:
        server.run(SAYS, stream=into, history=5, max_lag=5, on_event=called.append)
    assert not isinstance(caught.value, sse_fast.StreamEnded)
    text = str(caught.value)
    assert f"pid {first.pid}" in text
    assert sys.executable in text
    assert "kill()" in text
    until(lambda: first.result == 1)
    for number in range(20):
        stream.publish(number, event="by hand")
    first.kill()
    first.wait(20)
    events = [(event.event, event.data) for event in stream.events(start="all", timeout=20)]
    # All are there: a refused run sets no option of the first one's stream.
    assert events[:-1] == [("message", "1"), *(("by hand", str(number)) for number in range(20))]
    assert called == []


@pytest.mark.parametrize("name", [f"race/{number}" for number in range(10)])
def test_of_runs_that_begin_together_one_writes(server: sse_fast.Server, name: str) -> None:
    together = threading.Barrier(8)

    def begin(_number: int) -> sse_fast.Run | None:
        together.wait()
        with contextlib.suppress(sse_fast.StreamError):
            return server.run(STAYS, stream=name)
        return None

    with ThreadPoolExecutor(8) as threads:
        (run,) = [run for run in threads.map(begin, range(8)) if run is not None]
    assert run.poll() is None
    assert server.stream(name) == run.stream, "who was refused took the stream away"


def test_a_stream_whose_run_is_over_begins_anew_when_it_was_removed(server: sse_fast.Server) -> None:
    for _ in range(20):
        run = server.run(["true"], stream="again")
        assert run.wait(20) == 0
        with pytest.raises(sse_fast.StreamEnded, match=r"remove\(\)"):
            server.run(["true"], stream="again")
        run.stream.remove()


def test_a_run_that_could_not_start_leaves_its_place_to_the_next(server: sse_fast.Server) -> None:
    stream = server.stream("free")
    for _ in range(3):
        with pytest.raises(sse_fast.RunError):
            server.run(["/nonexistent"], stream=stream)
    assert server.run(["true"], stream=stream).wait(20) == 0


def test_a_removed_stream_s_run_is_not_in_the_way_of_its_name(server: sse_fast.Server) -> None:
    first = server.run(STAYS, stream="name")
    first.stream.remove()
    second = server.run(STAYS, stream="name")
    assert first.poll() is None
    assert second.poll() is None


def test_a_watch_and_a_program_may_write_beside_a_run(server: sse_fast.Server, read: Open) -> None:
    run = server.run(STAYS, stream="s")
    watch = server.watch(lambda: 40, every=0.01, stream="s", until=(), event="temperature")
    until(lambda: run.result == 1 and watch.value == 40)
    run.stream.publish("by hand", event="note")
    reader = read()
    run.kill()
    assert {event.event for event in reader.open().rest(20)} == {"message", "temperature", "note", "end"}
    watch.wait(20)


@pytest.mark.parametrize("event", [None, "state"])
def test_the_same_watch_twice_is_refused_until_the_first_is_over(server: sse_fast.Server, event: str | None) -> None:
    first = server.watch(lambda: "X", every=0.01, stream="s", until=(), event=event)
    with pytest.raises(sse_fast.StreamError, match=r"(?s)'s'.*event=") as caught:
        server.watch(lambda: "Y", every=0.01, stream="s", until=(), event=event)
    assert ("'state'" in str(caught.value)) is (event is not None)
    first.stop()
    first.wait(20)
    second = server.watch(lambda: "Y", every=0.01, stream="s", until={"Y"}, event=event)
    second.wait(20)
    assert [event.data for event in server.stream("s").events(start="all", timeout=20)][-1] == "Y"


def test_watches_with_events_of_their_own_write_side_by_side(server: sse_fast.Server) -> None:
    server.stream("board", start="all")
    watches = [
        server.watch(partial(str, value), every=0.01, stream="board", until=(), event=f"value-{value}")
        for value in range(3)
    ]
    events = server.stream("board").events(timeout=20)
    seen = {next(events).event for _ in watches}
    assert seen == {"value-0", "value-1", "value-2"}
    server.watch(lambda: "over", stream="board", until={"over"}, event="value-3").wait(20)
    for watch in watches:
        watch.wait(20)


def test_a_watch_s_event_is_a_name(server: sse_fast.Server) -> None:
    wrong: Any = ["status"]
    with pytest.raises(sse_fast.ArgumentTypeError, match="event"):
        server.watch(lambda: 1, stream="s", until=(), event=wrong)
