"""Calls of clients that hang up before a handler thread took them.

Guards that such a call leaves the queue wherever it stands and never runs, and that those around it do, in order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from conftest import Serve
from support.deadline import DEADLINE, until
from support.held import Held
from support.reader import Reader


@pytest.mark.parametrize("leave", [Reader.reset, Reader.close], ids=["reset", "closed"])
def test_a_call_whose_client_left_never_runs_and_holds_up_no_other(
    serve: Serve, leave: Callable[[Reader], None]
) -> None:
    server = serve(handler_threads=1)

    def call(name: bytes) -> Reader:
        before = server.stats().requests
        reader = stack.enter_context(Reader(server.port, "/work", method="POST", body=name + b"x" * 100_000))
        until(lambda: server.stats().requests == before + 1)
        return reader

    with contextlib.ExitStack() as stack:
        held = stack.enter_context(Held())
        server.post("/work")(held)
        readers = {name: call(name) for name in (b"a", b"b", b"c", b"d", b"e")}
        assert held.begun.wait(DEADLINE)
        for name in (b"b", b"d"):  # One at the front of the queue, one in its middle.
            leave(readers[name])
        until(lambda: server.stats().connections == 3)
        held.go.set()
        for name in (b"a", b"c", b"e"):
            assert readers[name].read_to_end() == b'"done"'
        assert [req.body[:1] for req in held.asked] == [b"a", b"c", b"e"]


def test_an_early_head_s_call_is_dropped_too(serve: Serve) -> None:
    server = serve(handler_threads=1)
    with Held() as held:
        server.get("/work", early_head=True)(held)
        with Reader(server.port, "/work?n=1") as first:
            assert held.begun.wait(DEADLINE)
            with Reader(server.port, "/work?n=2") as second:
                until(lambda: server.stats().requests == 2)
                second.reset()
            until(lambda: server.stats().connections == 1)
            held.go.set()
            assert first.read_head().status == 200
            server.get("/last")(lambda _req: "last")
            with Reader(server.port, "/last") as last:  # It stands behind whatever is still in the queue.
                assert last.read_to_end() == b'"last"'
    assert [req.query["n"] for req in held.asked] == ["1"]
