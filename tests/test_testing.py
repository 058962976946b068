"""`sse_fast.testing`, tried as a project would use it: its fixtures in a pytest run of their own, its functions here.

Guards that the plugin starts and closes servers, that waits end with what was waited for or say what there was, that
heartbeats of minutes come at once, and that a pytest run which does not ask for it loads no engine.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import sse_fast
from conftest import Serve
from sse_fast.testing import aevents_of, events_of, heartbeats_of, serve


def test_events_are_given_up_to_a_number_a_name_or_the_end(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.publish_many([("1", "A"), ("2", "B"), ("3", "B")])
    assert events_of(stream, 0) == []
    assert [event.data for event in events_of(stream, 2)] == ["1", "2"]
    assert [event.data for event in events_of(stream, "B")] == ["1", "2"]
    stream.end("over")
    assert [event.data for event in events_of(stream)] == ["1", "2", "3", "over"]


def test_what_comes_later_is_waited_for(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    threading.Timer(0.05, stream.end, ["over"]).start()
    assert [event.data for event in events_of(stream)] == ["over"]


@pytest.mark.parametrize("until", [3, "C", None])
def test_what_does_not_come_is_a_failure_that_shows_what_there_was(
    server: sse_fast.Server, until: int | str | None
) -> None:
    stream = server.stream("s")
    stream.publish_many([("1", "A"), ("2", "B")])
    with pytest.raises(AssertionError, match=r"stream 's' did not come to .* 0.05 s have passed; .* A '1', B '2'"):
        events_of(stream, until, timeout=0.05)


def test_an_end_before_what_was_waited_for_is_a_failure_at_once(server: sse_fast.Server) -> None:
    stream = server.stream("s")
    stream.end()
    with pytest.raises(
        AssertionError, match=r"did not come to an event 'DONE', and it has ended; its events: end 'null'"
    ):
        events_of(stream, "DONE", timeout=60.0)


def test_a_stream_that_never_rests_is_read_no_longer_than_the_timeout(server: sse_fast.Server) -> None:
    stream, over = server.stream("s"), threading.Event()

    def publish() -> None:
        while not over.wait(0.001):
            stream.publish("more")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        with pytest.raises(AssertionError, match="did not come to its end"):
            events_of(stream, timeout=0.2)
    finally:
        over.set()
        thread.join()


def test_in_a_coroutine_the_loop_goes_on(server: sse_fast.Server) -> None:
    stream = server.stream("s")

    async def publish() -> None:
        for number in range(3):
            await asyncio.sleep(0.001)
            stream.publish(number)

    async def test() -> list[str]:
        publishing = asyncio.create_task(publish())
        found = [event.data for event in await aevents_of(stream, 3)]
        await publishing
        return found

    assert asyncio.run(test()) == ["0", "1", "2"]
    with pytest.raises(AssertionError, match="did not come to 4 events"):
        asyncio.run(aevents_of(stream, 4, timeout=0.05))


def test_heartbeats_of_minutes_come_without_waiting_for_them() -> None:
    began = time.monotonic()
    with serve(heartbeat_pace=3000, heartbeat=60.0) as server:
        assert heartbeats_of(server, server.stream("options"), 2) == ["heartbeat", "heartbeat"]
        stream = server.stream("a block/ü")
        with stream.heartbeat(every=45.0, comment="computing"):
            assert heartbeats_of(server, stream, 3) == ["computing"] * 3
        named = server.stream("named", heartbeat_event="beat")
        (beat,) = heartbeats_of(server, named, event="beat")
        assert beat.startswith('{"timestamp":')
    assert time.monotonic() - began < 60.0, "one alone would take a minute by the clock"


def test_an_early_head_beats_at_the_same_pace() -> None:
    """Heartbeats while a handler works, which the engine writes by another clock than a shard's."""
    with serve(heartbeat_pace=3000, heartbeat=60.0) as server:
        gate = threading.Event()

        @server.get("/slow", early_head=True)
        def slow(_request: sse_fast.Request) -> sse_fast.Stream:
            gate.wait(60)
            stream = server.stream("s", start="all")
            stream.end("over")
            return stream

        from support.reader import Reader

        with Reader(server.port, "/slow") as reader:
            reader.open()
            reader.read_until(lambda: len(reader.parser.comments) >= 2, what="heartbeats")
            gate.set()
            assert reader.rest()[-1].data == "over"


def test_heartbeats_that_do_not_come_are_a_failure(serve: Serve) -> None:
    server = serve(settle=0)
    stream = server.stream("s", heartbeat=None)
    with pytest.raises(
        AssertionError, match=r"1 heartbeats of stream 's' did not come within 0.1 s; those that came: \[\]"
    ):
        heartbeats_of(server, stream, timeout=0.1)
    stream.end()
    stream.remove()
    with pytest.raises(AssertionError, match="cannot be read: the answer is 404"):
        heartbeats_of(server, stream)


@pytest.mark.parametrize("pace", [0, -1, 1.5, True, "2", 1 << 32])
def test_a_bad_pace_is_refused(pace: object) -> None:
    with pytest.raises(sse_fast.SettingError, match="heartbeat_pace"):
        serve(heartbeat_pace=pace)  # type: ignore[arg-type]


def pytest_run(folder: Path, conftest: str, tests: str) -> str:
    (folder / "conftest.py").write_text(textwrap.dedent(conftest))
    (folder / "test_app.py").write_text(textwrap.dedent(tests))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_app.py"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, timeout=60)
    return done.stdout + done.stderr


def test_the_fixtures_in_a_project_s_own_run(tmp_path: Path) -> None:
    output = pytest_run(
        tmp_path,
        'pytest_plugins = ["sse_fast.testing"]',
        """
        import pytest, sse_fast
        from sse_fast.testing import events_of, heartbeats_of

        servers = []

        def job(server):
            stream = server.stream("jobs/1")
            with stream.heartbeat(every=15.0, comment="computing"):
                stream.publish({"step": 1}, event="STEP")
            stream.end(event="DONE")
            return stream

        def test_job(sse_server):
            servers.append(sse_server)
            assert [event.event for event in events_of(job(sse_server))] == ["STEP", "DONE"]

        def test_several(sse_serve):
            assert servers[0].closed
            servers.extend([sse_serve(), sse_serve(heartbeat_pace=1000, history=2, max_lag=2)])
            assert servers[1].port != servers[2].port
            assert heartbeats_of(servers[2], servers[2].stream("s")) == ["heartbeat"]

        def test_they_are_closed():
            assert all(server.closed for server in servers) and len(servers) == 3
        """,
    )
    assert "3 passed" in output, output


def test_a_run_that_does_not_ask_for_it_loads_no_engine(tmp_path: Path) -> None:
    output = pytest_run(
        tmp_path,
        "",
        """
        import sys

        def test_nothing():
            assert not [name for name in sys.modules if name.startswith("sse_fast")]
        """,
    )
    assert "1 passed" in output, output
