"""Readers that take an answer too slowly.

Guards that an answer nobody reads holds its connection for `stall_timeout` and no longer, and that a reader which is
only late gets everything. Readers that take a little now and then are tested where time can be simulated, in
the engine's `socket/pace.rs`.
"""

from __future__ import annotations

import sse_fast
from conftest import Serve
from support.beats import Beats
from support.deadline import until
from support.reader import Reader

LARGE = "x" * 8_000_000


def serving(serve: Serve, stall_timeout: float) -> sse_fast.Server:
    server = serve(stall_timeout=stall_timeout)
    server.get("/large")(lambda _req: sse_fast.Response(LARGE))
    return server


def test_a_reader_that_takes_nothing_is_cut(serve: Serve) -> None:
    server = serving(serve, 0.5)
    readers = [Reader(server.port, "/large", receive_buffer=4096) for _ in range(5)]
    try:
        until(lambda: server.stats().requests == 5)
        until(lambda: server.stats().connections == 0)
        for reader in readers:
            assert len(reader.read_eof()) < len(LARGE)
    finally:
        for reader in readers:
            reader.close()


def test_a_reader_that_is_late_gets_everything(serve: Serve) -> None:
    server = serving(serve, 5.0)
    with Beats(server, 0.2) as beats, Reader(server.port, "/large", receive_buffer=4096) as reader:
        reader.read_head()
        beats.wait(5)  # The answer waits for room, and the server watches that.
        assert server.stats().connections == 2, "the reader's, and that of the heartbeats"
        assert reader.read_to_end() == LARGE.encode()


def test_an_idle_connection_is_not_watched(serve: Serve) -> None:
    server = serving(serve, 0.2)
    server.get("/small")(lambda _req: "small")
    with Reader(server.port, "/small") as reader:
        assert reader.read_to_end() == b'"small"'
        reader.assert_silent(0.6)
