"""Reading a stream in the process that publishes it, with `for`.

Guards `Stream.events`: the same events, gaps and end as over a socket, timeouts
that are errors and can be continued, and that waiting does not block the
interpreter. `async for` is in test_async_readers.py.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

import sse_fast
from conftest import Open, Serve
from support.deadline import DEADLINE
from support.process import Program


def test_iteration_gives_what_a_socket_gives(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", start="all")
    stream.publish("a\r\nb", event="e", id="own", retry=1.5)
    stream.publish({"n": 1})
    stream.end("over")
    inside = list(stream.events(timeout=10.0))
    outside = read().open().rest()
    assert [(event.event, event.data, event.id) for event in inside] == [
        (event.event, event.data, event.own_id) for event in outside
    ]
    assert inside[0] == sse_fast.Event("a\nb", event="e", id="own", retry=1.5)
    assert inside[1].json() == {"n": 1}


def test_iteration_follows_a_stream_that_is_written_meanwhile(server: sse_fast.Server) -> None:
    stream = server.stream("s", start="all", history=5000, max_lag=5000)

    def publish() -> None:
        for number in range(3000):
            stream.publish(number)
        stream.end("over")

    thread = threading.Thread(target=publish)
    thread.start()
    got = [event.data for event in stream.events(timeout=20.0)]
    thread.join()
    assert got == [*map(str, range(3000)), "over"]


def test_a_silent_stream_raises_wait_timeout_and_iteration_goes_on(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    events = stream.events(timeout=0.05)
    with pytest.raises(sse_fast.WaitTimeout) as caught:
        next(events)
    assert isinstance(caught.value, TimeoutError)
    stream.publish("x")
    assert next(events).data == "x"
    with pytest.raises(sse_fast.WaitTimeout):
        next(events)


def test_last_event_id_and_start_choose_where_to_begin(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    ids = [stream.publish(number) for number in range(5)]
    stream.end("over")
    assert [event.data for event in stream.events(start="all")] == ["0", "1", "2", "3", "4", "over"]
    assert [event.data for event in stream.events(start="last")] == ["over"]
    assert [event.data for event in stream.events(last_event_id=ids[2])] == ["3", "4", "over"]
    with pytest.raises(ValueError, match="start"):
        stream.events(start="middle")  # type: ignore[arg-type]


@pytest.mark.parametrize(("on_lag", "first"), [("skip", 15), ("latest", 19), ("disconnect", 15)])
def test_a_reader_that_fell_out_of_history_is_told_exactly(server: sse_fast.Server, on_lag: Any, first: int) -> None:
    """Whatever the policy: there is no connection that could be closed."""
    stream = server.stream("s", history=5, max_lag=5, on_lag=on_lag)
    events = stream.events(timeout=10.0)
    ids = [stream.publish(number) for number in range(20)]
    gap = next(events)
    assert gap.event == "gap"
    assert gap.json() == {"skipped": first, "from": ids[0], "to": ids[first - 1]}
    assert [next(events).data for _ in range(first, 20)] == [*map(str, range(first, 20))]
    # And the next time it falls behind it is told again.
    for number in range(20, 40):
        stream.publish(number)
    assert next(events).json()["skipped"] == first
    stream.end("over")
    assert [event.data for event in events][-1] == "over"


def test_no_heartbeat_is_seen_inside(server: sse_fast.Server) -> None:
    stream = server.stream("s", heartbeat=0.05, heartbeat_event="heartbeat")
    events = stream.events(timeout=0.3)
    with pytest.raises(sse_fast.WaitTimeout):
        next(events)


def test_readers_inside_are_no_subscribers(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    events = stream.events(timeout=5.0)
    assert stream.subscribers == 0
    stream.end("over")
    assert [event.data for event in events] == ["over"]


def test_closing_the_server_and_removing_the_stream_end_the_iteration(serve: Serve) -> None:
    for way in ("close", "remove"):
        server = serve()
        stream = server.stream("s")
        ended = threading.Event()

        def follow(stream: Any = stream, ended: threading.Event = ended) -> None:
            for _ in stream.events():
                pass
            ended.set()

        thread = threading.Thread(target=follow)
        thread.start()
        (server.close if way == "close" else stream.remove)()
        assert ended.wait(20), way
        thread.join()


def test_waiting_leaves_the_interpreter_to_others(server: sse_fast.Server) -> None:
    """Each reader answers an event with one of its own, so the publisher must run while all of them wait."""
    question, answers = server.stream("question"), server.stream("answers", history=5000, max_lag=5000)
    readers = [question.events(timeout=DEADLINE) for _ in range(20)]
    answered = answers.events(timeout=DEADLINE)

    def answer(events: Any) -> None:
        for event in events:
            answers.publish(event.data)

    threads = [threading.Thread(target=answer, args=(events,)) for events in readers]
    for thread in threads:
        thread.start()
    for number in range(20):
        question.publish(number)
        assert [next(answered).data for _ in readers] == [str(number)] * 20
    question.end("over")
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_ctrl_c_interrupts_a_waiting_reader() -> None:
    with Program(
        """
        import sse_fast
        server = sse_fast.serve(0)
        try:
            print("waiting")
            for event in server.stream("s").events():
                pass
        except KeyboardInterrupt:
            print("interrupted")
        """
    ) as program:
        assert program.line() == "waiting"
        # Ctrl-C may come in the moment before the wait; that is no different for the user.
        os.kill(program.pid, signal.SIGINT)
        assert program.line() == "interrupted"
        assert program.wait() == 0
