"""Small promises that were broken once, each found by reading or by attack.

Guards seams between two things: a close and a wait, options and publishers, an end
and a removal, a signal and a reader that takes nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import sse_fast
from conftest import Serve
from support.beats import Beats
from support.deadline import DEADLINE, until
from support.process import Program
from support.reader import Reader
from support.stuck import PREAMBLE
from support.threads import slept


@pytest.mark.parametrize("what_ends_the_wait", ["its timeout", "an event"])
def test_a_closed_iteration_stays_closed_though_it_was_waiting(
    server: sse_fast.Server, what_ends_the_wait: str
) -> None:
    """A thread that waits when the iteration is closed gets what it waits for, and nothing after that."""
    stream = server.stream("s")
    events = stream.events(timeout=0.3 if what_ends_the_wait == "its timeout" else None)
    outcomes: list[str] = []

    def take() -> str:
        try:
            return next(events).data
        except (StopIteration, sse_fast.WaitTimeout) as error:
            return type(error).__name__

    def read() -> None:
        for _ in range(10):
            outcomes.append(take())  # noqa: PERF401 - each is to be seen at once

    thread = threading.Thread(target=read, daemon=True)
    with Beats(server, 0.02) as beats:
        thread.start()
        until(lambda: slept(thread, beats))
    events.close()
    # On a busy machine some waits may be over by now; the one that was seen is not.
    before = len(outcomes)
    assert before < 10
    expected = ["StopIteration"] * (10 - before)
    if what_ends_the_wait == "an event":
        stream.publish("x")
        expected[0] = "x"
    thread.join(DEADLINE)
    assert outcomes[before:] == expected


def test_a_task_that_waits_is_told_of_a_close_by_another_thread(server: sse_fast.Server) -> None:
    async def main() -> None:
        for _ in range(50):
            events = server.stream("s").events()
            task = asyncio.ensure_future(anext(aiter(events), None))
            thread = threading.Thread(target=events.close)
            await asyncio.sleep(0)
            thread.start()
            assert await asyncio.wait_for(task, 20) is None
            thread.join()

    asyncio.run(main())


def test_a_name_that_was_removed_after_its_end_begins_anew(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.end("over")
    stream.remove()
    again = server.stream("s", start="all")
    assert not again.ended
    again.publish("1")
    assert [stream.name for stream in server.streams()] == ["s"]


def test_lives_of_a_name_that_is_taken_again_are_forgotten(server: sse_fast.Server) -> None:
    def megabytes() -> float:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1e6

    before = megabytes()
    for _ in range(300):
        stream = server.stream("s", expire=3600.0)
        stream.publish("x" * 900_000)
        stream.remove()
    until(lambda: megabytes() < before + 90, what="270 MB of former lives are given back")


@pytest.fixture
def healthy(serve: Serve, request: pytest.FixtureRequest) -> Iterator[tuple[sse_fast.Server, sse_fast.Stream]]:
    """A server with this `publish_wait`, and a stream whose one reader takes everything."""
    server = serve(publish_wait=request.param, history=16, max_lag=16, history_bytes=64 << 20)
    stream = server.stream("s")
    with Reader(server.port) as reader:
        reader.open()
        for number in range(15):  # So much that its socket fills, and not more than the log holds.
            stream.publish(f"{number} " + "x" * 900_000)
        until(lambda: server.stats().blocked == 1)
        thread = threading.Thread(target=reader.rest)
        thread.start()
        # What is delivered may still fill the socket; what was read does not.
        until(lambda: len(reader.parser.events) == 15)
        yield server, stream
        stream.end()
        thread.join()


@pytest.mark.parametrize("healthy", [None, 2.0], indirect=True, ids=["None", "2"])
@pytest.mark.parametrize("options", [{}, {"history": 16, "max_lag": 16}], ids=["plain", "options given each time"])
def test_an_event_loop_publishes_freely_once_its_reader_has_everything(
    healthy: tuple[sse_fast.Server, sse_fast.Stream], options: sse_fast.StreamOptions
) -> None:
    server, _ = healthy

    async def main() -> None:
        for number in range(100):
            server.stream("s", **options).publish(number)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert server.stats().publish_wait_timeouts <= 2
    assert server.stats().gaps == 0


WAITS = """
def interrupt():
    until_it_waits()
    os.kill(os.getpid(), signal.SIGINT)


threading.Thread(target=interrupt).start()
try:
    while True:
        {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
server.close(0.0)
"""


@pytest.mark.parametrize("call", ['stream.publish("x" * 3000)', 'stream.publish_many([("x" * 3000, None)] * 20)'])
def test_ctrl_c_ends_a_publish_that_waits_for_a_reader(call: str) -> None:
    with Program(PREAMBLE + WAITS.format(call=call)) as program:
        assert program.line() == "interrupted"
        assert program.wait() == 0
