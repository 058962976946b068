"""What becomes of connections when the server closes, whatever they were doing just then.

Guards that the port refuses as soon as closing has begun, that what is under way is
answered within `drain`, that a request which comes during the drain is answered or its
connection closed, and that no connection and no descriptor is left when `close` returns.

Each test is a cell of a matrix: what a connection does, and when it does that. The
drain lasts as long as one reader, the holder, takes nothing: no clock is needed.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.left_behind import descriptors
from support.reader import Reader, fetch, request

#: More than the buffers of one connection hold.
EVENTS, DATA = 60, "x" * 100_000

STATES = {
    "idle": "",
    "half a request": "/page",
    "waiting for a stream": "/wait/7",
    "in a handler": "/slow",
    "subscribed": "/streams/live",
    "subscribed and stalled": "/streams/big",
}
EVERY_STATE = pytest.mark.parametrize("state", STATES)


@dataclass
class Closing:
    """A server with something to answer for every state, and a close that can be held up."""

    server: sse_fast.Server
    gate: threading.Event = field(default_factory=threading.Event)
    called: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        server = self.server
        server.get("/page")(lambda _req: "page")
        server.route("/wait/{id}", "none/{id}", wait=600.0)
        for name in ("big", "holder"):
            stream = server.stream(name, start="all", history=EVENTS, max_lag=EVENTS, history_bytes=64 << 20)
            stream.publish_many([{"data": DATA}] * EVENTS)

        @server.get("/slow")
        def slow(_req: sse_fast.Request) -> str:
            self.called.set()
            self.gate.wait(DEADLINE)
            return "slow"

        server.stream("live")

    def kept(self, state: str) -> Reader:
        """A connection that has been answered once and is kept."""
        reader = Reader(self.server.port, "/page", receive_buffer=4096 if "stalled" in state else None)
        assert reader.read_to_end() == b'"page"'
        return reader

    def send(self, reader: Reader, state: str) -> None:
        """Sends what brings the connection into that state."""
        raw = request(STATES[state], self.server.port) if STATES[state] else b""
        reader.ask(raw[: len(raw) // 2] if state == "half a request" else raw)

    def enter(self, reader: Reader, state: str) -> None:
        """Sends it, and waits until the connection is in that state, as far as that can be seen."""
        before = self.server.stats()
        self.send(reader, state)
        if state.startswith("subscribed"):
            reader.open()
        if "stalled" in state:
            until(lambda: self.server.stats().blocked > before.blocked, what="a full socket")
        elif state == "in a handler":
            assert self.called.wait(DEADLINE)
        elif state == "waiting for a stream":
            until(lambda: self.server.stats().requests > before.requests, what="the request having arrived")

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[], bool]]:
        """Closing goes on inside the block, which is given whether it still does."""
        with Reader(self.server.port, "/streams/holder", receive_buffer=4096) as holder:
            holder.open()
            closing = threading.Thread(target=self.server.close, kwargs={"drain": 60.0})
            closing.start()
            until(lambda: self.server.closed, what="closing having begun")
            yield closing.is_alive
            assert len(holder.rest()) == EVENTS
        closing.join(DEADLINE)
        assert not closing.is_alive(), "closing has not ended although everybody has everything"


@pytest.fixture
def closing(serve: Serve) -> Iterator[Closing]:
    made = Closing(serve(shards=2, stall_timeout=600.0, heartbeat=None))
    yield made
    made.gate.set()


def answered_or_closed(reader: Reader) -> None:
    """Its connection ends, and where an answer was begun it is whole."""
    reader.read_eof()
    if reader.received:
        assert reader.head is not None
        assert reader.finished or reader._length_reached(), reader.seen()


@EVERY_STATE
def test_what_a_connection_did_before_closing_began_is_finished(closing: Closing, state: str) -> None:
    """While somebody else still holds the drain up."""
    with closing.kept(state) as reader:
        closing.enter(reader, state)
        ids = [closing.server.stream("live").publish(number) for number in range(100)]
        with closing.held() as goes_on:
            closing.gate.set()
            if state == "in a handler":
                assert reader.read_to_end() == b'"slow"'
                assert reader.read_head().status == 200
            elif state == "subscribed":
                assert [event.own_id for event in reader.rest()] == ids
            elif state == "subscribed and stalled":
                assert len(reader.rest()) == EVENTS
            elif state == "idle":
                assert reader.read_eof() == b""
            answered_or_closed(reader)
            assert goes_on(), "nothing was held up, so nothing was shown"


@EVERY_STATE
def test_a_request_during_the_drain_is_answered_or_its_connection_closed(closing: Closing, state: str) -> None:
    closing.gate.set()
    with contextlib.ExitStack() as stack:
        # Enough of them to meet each shard.
        readers = [stack.enter_context(closing.kept(state)) for _ in range(8)]
        with closing.held() as goes_on:
            for reader in readers:
                with contextlib.suppress(ConnectionError):  # It is closed already.
                    closing.send(reader, state)
            for reader in readers:
                answered_or_closed(reader)
            assert goes_on(), "nothing was held up, so nothing was shown"


@EVERY_STATE
def test_no_connection_goes_on_when_close_has_returned(closing: Closing, state: str) -> None:
    """Whatever it did, and however little of `drain` there was for it."""
    with closing.kept(state) as reader:
        closing.enter(reader, state)
        closing.server.close(drain=0.1)
        # What was on its way may still be read. Then there is the end.
        reader.read_eof()
        with contextlib.suppress(ConnectionError):
            closing.send(reader, state)
        assert reader.read_eof() == b""
        with pytest.raises(ConnectionRefusedError):
            Reader(closing.server.port)


@EVERY_STATE
def test_no_descriptor_is_left_when_close_has_returned(serve: Serve, state: str) -> None:
    serve(shards=2).close()  # What is needed once, and kept, is there now.
    gc.collect()
    before = descriptors()
    for _ in range(4):
        closing = Closing(serve(shards=2, stall_timeout=600.0, heartbeat=None))
        with contextlib.ExitStack() as stack:
            for reader in [stack.enter_context(closing.kept(state)) for _ in range(4)]:
                closing.enter(reader, state)
            closing.server.close(drain=0.1)
            closing.gate.set()
        # The server's own are given back though the server is still held.
        assert descriptors() <= before


def test_the_port_refuses_as_soon_as_closing_has_begun(closing: Closing) -> None:
    with closing.held() as goes_on:
        until(lambda: refused(closing.server.port), what="the port refusing")
        # And the next server can have it.
        with sse_fast.serve(closing.server.port) as following:
            following.get("/")(lambda _req: "following")
            assert fetch(following.port, "/")[1] == b'"following"'
        assert goes_on(), "nothing was held up, so nothing was shown"


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def test_a_rolling_restart_sends_nobody_to_the_server_that_closes(serve: Serve) -> None:
    """Two share the port; once the old one closes, every client comes to the new one and is answered."""
    old = Closing(serve(reuse_port=True, stall_timeout=600.0, heartbeat=None))
    new = serve(old.server.port, reuse_port=True)
    for server, name in ((old.server, "old"), (new, "new")):
        server.get("/who")(lambda _req, name=name: name)
    until(lambda: fetch(new.port, "/who")[1] == b'"new"', what="both being asked")
    with contextlib.ExitStack() as stack:
        holder = until(lambda: subscribed(stack, new.port), what="a reader of the old server")
        asked = [fetch(new.port, "/who")[1] for _ in range(50)]
        assert set(asked) == {b'"old"', b'"new"'}
        closing = threading.Thread(target=old.server.close, kwargs={"drain": 60.0})
        closing.start()
        until(lambda: listening(new.port) == 1, what="the old one's port being shut")
        assert [fetch(new.port, "/who")[1] for _ in range(100)] == [b'"new"'] * 100
        assert closing.is_alive(), "nothing was held up, so nothing was shown"
        assert len(holder.rest()) == EVENTS
    closing.join(DEADLINE)
    assert not closing.is_alive()


def listening(port: int) -> int:
    """How many sockets listen on the port, as the kernel has it (state 0A)."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


def subscribed(stack: contextlib.ExitStack, port: int) -> Reader | None:
    """A reader of the stream that only the old server has; None where the new one was asked."""
    reader = stack.enter_context(Reader(port, "/streams/holder", receive_buffer=4096))
    return reader if reader.read_head().status == 200 else None


@contextlib.contextmanager
def beating(server: sse_fast.Server) -> Iterator[Callable[[], object]]:
    """What is given waits for ten beats: readers are served that long, whatever the closing server did before."""
    server.stream("beats", heartbeat=0.05, heartbeat_event="beat")
    with Reader(server.port, "/streams/beats") as reader:
        reader.open()
        yield lambda: reader.take(10)


def publishes_late(closing: Closing, outcome: list[object]) -> None:
    @closing.server.get("/late")
    def late(_req: sse_fast.Request) -> str:
        closing.called.set()
        closing.gate.wait(DEADLINE)
        try:
            outcome.append(closing.server.stream("live").publish("late").rpartition("-")[2])
        except sse_fast.SseFastError as error:
            outcome.append(type(error))
        return "late"


def test_what_a_request_in_flight_publishes_is_published_and_read(closing: Closing) -> None:
    outcome: list[object] = []
    publishes_late(closing, outcome)
    with Reader(closing.server.port, "/streams/live") as subscriber, Reader(closing.server.port, "/late") as reader:
        subscriber.open()
        assert closing.called.wait(DEADLINE)
        with beating(closing.server) as beats, closing.held():
            beats()
            closing.gate.set()
            assert reader.read_to_end() == b'"late"'
            assert [event.data for event in subscriber.rest()] == ["late"]
    assert outcome == ["1"]


def test_a_handler_that_publishes_when_its_time_is_over_is_told(closing: Closing) -> None:
    outcome: list[object] = []
    publishes_late(closing, outcome)
    with Reader(closing.server.port, "/late"):
        assert closing.called.wait(DEADLINE)
        closing.server.close(drain=0.0)
        closing.gate.set()
        until(lambda: outcome, what="the handler's outcome")
    assert outcome == [sse_fast.ServerClosed]


def test_a_stream_that_a_handler_answers_during_the_drain_is_read_whole(closing: Closing) -> None:
    """With an early head, before and after that went out, and without."""
    server = closing.server

    def chat(_req: sse_fast.Request) -> sse_fast.Stream:
        stream = server.stream(None, start="all")
        stream.publish("first")
        assert closing.gate.wait(DEADLINE)
        stream.publish("second")
        stream.end()
        return stream

    server.get("/plain")(chat)
    server.get("/early", early_head=True)(chat)
    server.get("/early-sent", early_head=True, heartbeat=0.05)(chat)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(server.port, path)) for path in ("/plain", "/early", "/early-sent")]
        readers[2].read_head()
        until(lambda: server.stats().requests == 3, what="the requests")
        with beating(server) as beats, closing.held():
            beats()
            closing.gate.set()
            for reader in readers:
                events = [(event.event, event.data) for event in reader.rest()]
                assert events == [("message", "first"), ("message", "second"), ("end", "null")]
