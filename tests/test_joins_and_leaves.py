"""Who comes and goes.

Guards that each join and leave is told once, with its stream, in the order of each stream, so that at every moment
joins less leaves are those present; that readers are told of a closing, too; and that a callback holds up no reader.
"""

from __future__ import annotations

import threading

import sse_fast
from conftest import Open, Serve
from support.calls import Count
from support.deadline import DEADLINE, until
from support.reader import Reader


def test_joins_and_leaves_are_told_with_the_stream_and_the_reader(server: sse_fast.Server, read: Open) -> None:
    told: list[tuple[str, str, str | None]] = []
    done = threading.Event()

    @server.on_join
    def joined(stream: sse_fast.Stream, reader: str | None) -> None:
        told.append(("join", stream.name, reader))

    @server.on_leave
    def left(stream: sse_fast.Stream, reader: str | None) -> None:
        told.append(("leave", stream.name, reader))
        done.set()

    assert server.stream("s").readers() == {}
    with read().open():
        until(lambda: server.stream("s").readers() == {None: 1})
        with read().open():
            until(lambda: server.stream("s").readers() == {None: 2})
    assert done.wait(DEADLINE)
    until(lambda: len(told) == 4)
    assert told == [("join", "s", None)] * 2 + [("leave", "s", None)] * 2
    assert server.stream("s").readers() == {}


def test_joins_less_leaves_are_those_present_at_every_moment(serve: Serve) -> None:
    server = serve(shards=4)
    present: dict[str, int] = dict.fromkeys("ab", 0)
    least: dict[str, int] = dict.fromkeys("ab", 0)
    joins = Count()

    @server.on_join
    def joined(stream: sse_fast.Stream, _reader: str | None) -> None:
        present[stream.name] += 1
        joins()

    @server.on_leave
    def left(stream: sse_fast.Stream, _reader: str | None) -> None:
        present[stream.name] -= 1
        least[stream.name] = min(least[stream.name], present[stream.name])

    for name in present:
        server.stream(name)

    def come_and_go(name: str) -> None:
        for _ in range(50):
            with Reader(server.port, f"/streams/{name}") as reader:
                reader.open()

    threads = [threading.Thread(target=come_and_go, args=(name,)) for name in "abab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: joins.calls == 200, what="every join")
    until(lambda: present == {"a": 0, "b": 0}, what="every leave")
    assert least == {"a": 0, "b": 0}, "nobody leaves who has not come"
    assert server.stats().presence_missed == 0


def test_those_who_leave_at_the_closing_are_told_of_too(serve: Serve) -> None:
    server = serve()
    stream, left = server.stream("s"), Count()
    server.on_leave(left)
    readers = [Reader(server.port).open() for _ in range(20)]
    until(lambda: stream.subscribers == 20)
    server.close(DEADLINE)
    for reader in readers:
        reader.close()
    assert left.calls == 20


def test_a_callback_that_waits_holds_up_no_reader_and_no_publish(server: sse_fast.Server) -> None:
    stream, go, joins = server.stream("s", start="all"), threading.Event(), Count()

    @server.on_join
    def joined(_stream: sse_fast.Stream, _reader: str | None) -> None:
        joins()
        go.wait(2 * DEADLINE)

    try:
        for _ in range(3):
            with Reader(server.port) as reader:
                reader.open()
                stream.publish("x")
                reader.next()
        assert joins.calls == 1
    finally:
        go.set()
    until(lambda: joins.calls == 3)


def test_a_callback_may_publish_who_is_here(server: sse_fast.Server) -> None:
    """What presence is for."""

    @server.on_join
    @server.on_leave
    def tell(stream: sse_fast.Stream, _reader: str | None) -> None:
        stream.publish({"here": stream.subscribers}, event="presence")

    server.stream("room", start="last")
    with Reader(server.port, "/streams/room") as first:
        first.read_until(lambda: first.parser.events and first.parser.events[-1].json() == {"here": 1}, what="one")
        with Reader(server.port, "/streams/room") as second:
            first.read_until(lambda: first.parser.events[-1].json() == {"here": 2}, what="two")
            second.open()
        first.read_until(lambda: first.parser.events[-1].json() == {"here": 1}, what="one again")
