"""A stream that is read and says nothing: `stall_after`.

Guards that each silence is told once, in the log, in the stream's numbers and in the server's; that heartbeats and
readers that come and go are no events; and that nobody hears of a stream that has no readers or is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

import sse_fast
from conftest import Open
from support.beats import Beats
from support.deadline import until

LONG = 600.0


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sse_fast.stream"]


def test_a_silence_is_told_once(server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture) -> None:
    stream = server.stream("s", stall_after=0.3, heartbeat=0.05)
    reader = read().open()
    assert not stream.stats().stalled
    until(lambda: stream.stats().stalled and warnings(caplog), what="the stall")
    heartbeats = server.stats().heartbeats
    until(lambda: server.stats().heartbeats >= heartbeats + 20, what="heartbeats for as long again, and longer")
    assert len(warnings(caplog)) == server.stats().stalls == 1
    assert warnings(caplog)[0].startswith('"s" is stalled: its readers (1) had nothing but heartbeats for 0.')
    assert caplog.records[-1].levelno == logging.WARNING
    stream.publish("x")
    assert not stream.stats().stalled
    until(lambda: server.stats().stalls == 2, what="the next silence being told")
    until(lambda: len(warnings(caplog)) == 2, what="its warning")
    reader.close()


def test_nobody_hears_of_a_stream_that_nobody_reads(
    server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture
) -> None:
    stream = server.stream("s", stall_after=0.1)
    with Beats(server, 0.1) as beats:
        beats.wait(5)
        assert not stream.stats().stalled
        assert server.stats().stalls == 0
        assert stream.stats().silent_s >= 0.4
    with read().open():
        until(
            lambda: stream.stats().stalled and server.stats().stalls == 1, what="the silence for the reader that came"
        )
    until(lambda: not stream.stats().stalled, what="the reader being gone")
    with read().open():
        with Beats(server, 0.1) as beats:
            beats.wait(15)
        assert server.stats().stalls == 1, "the same silence, told again"
    assert stream.stats().silent_s > 1.5, "a reader that leaves is no event"


def test_an_ended_stream_is_not_stalled(server: sse_fast.Server, read: Open) -> None:
    stream = server.stream("s", stall_after=0.1)
    with read().open():
        stream.end("over")
        with Beats(server, 0.1) as beats:
            beats.wait(4)
        assert not stream.stats().stalled
    assert server.stats().stalls == 0


@pytest.mark.parametrize("before", [None, LONG])
def test_given_later_it_acts_and_can_be_taken_back(server: sse_fast.Server, read: Open, before: float | None) -> None:
    stream = server.stream("s", stall_after=before)
    with read().open():
        server.stream("s", stall_after=0.1)
        until(lambda: server.stats().stalls == 1, what="the stall")
        server.stream("s", stall_after=None)
        assert not stream.stats().stalled
        stream.publish("x")
        with Beats(server, 0.1) as beats:
            beats.wait(4)
    assert server.stats().stalls == 1


def test_a_stream_without_a_name_is_told_of_too(
    server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture
) -> None:
    made = []

    @server.get("/chat")
    def chat(_: sse_fast.Request) -> sse_fast.Stream:
        made.append(server.stream(None, stall_after=0.1))
        return made[0]

    with read("/chat").open():
        until(lambda: len(warnings(caplog)) == 1, what="the stall")
        assert warnings(caplog)[0].startswith("a nameless stream is stalled")
        assert made[0].stats().stalled


def test_a_generator_that_hangs_is_told_of(
    server: sse_fast.Server, read: Open, caplog: pytest.LogCaptureFixture
) -> None:
    @server.get("/slow", stall_after=0.1)
    async def slow(_: sse_fast.Request) -> AsyncIterator[str]:
        yield "first"
        await asyncio.Event().wait()

    with read("/slow").open():
        until(lambda: len(warnings(caplog)) == 1, what="the stall")
