"""Readers of a stream whose shard has its hands full: arriving, recovering, and many of them.

Guards that a reader which has its response head gets whatever is published next,
however many others are being served just then, and that one which was full and has
recovered is waited for again.
"""

from __future__ import annotations

import contextlib
import itertools
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

import sse_fast
from conftest import Serve
from support.deadline import DEADLINE, until
from support.reader import Reader, request

#: Serving so many takes a shard long enough that readers arrive during it.
CROWD = 2000
PADDING = "x" * 2000


@contextlib.contextmanager
def crowd(port: int, count: int) -> Iterator[None]:
    """Subscribers of `s` that read nothing; their sockets have room for what these tests publish."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE))
            sock.sendall(request("/streams/s", port))
        yield


@pytest.mark.timeout(180)
def test_a_reader_that_arrives_in_a_busy_moment_gets_the_next_event(serve: Serve) -> None:
    """Which could be the terminal one."""
    server = serve(shards=1, heartbeat=None)
    stream = server.stream("s", start="new")
    with crowd(server.port, CROWD):
        until(lambda: stream.subscribers == CROWD, 60, what="everybody having subscribed")
        for eighths in itertools.islice(itertools.cycle(range(1, 8)), 500):
            arrive(server, stream, eighths)


def arrive(server: sse_fast.Server, stream: sse_fast.Stream, eighths: int) -> None:
    """A reader comes when so many eighths of the crowd have an event, and another event waits for the shard."""
    before = server.stats().delivered
    stream.publish("one")
    until(lambda: server.stats().delivered >= before + CROWD * eighths // 8)
    stream.publish("two")
    with Reader(server.port) as reader:
        reader.open()
        published = stream.publish("next")
        # Nothing follows that could bring it along.
        reader.read_until(lambda: reader.parser.last_event_id == published, what="the next event")
    until(lambda: server.stats().delivered >= before + 3 * CROWD, what="the crowd having everything")


def test_a_reader_that_recovered_gets_a_flood_whole(serve: Serve) -> None:
    """Beside one that never reads. The flood is many histories long, and its socket has room for each part of it."""
    server = serve(shards=1, heartbeat=None, stall_timeout=600.0)
    stream = server.stream("s", start="new")
    with Reader(server.port, receive_buffer=4096) as silent, Reader(server.port, receive_buffer=4096) as reader:
        silent.open()
        reader.open()
        published = stream.publish(0)
        for number in itertools.count(1):  # Until both are full, and publishers wait for neither.
            before = server.stats().publish_socket_wait_s
            published = stream.publish_many([{"data": PADDING}] * 300)[-1]
            if server.stats().blocked == 2 and server.stats().publish_socket_wait_s == before:
                break
            assert number < 1000
        reader.read_until(lambda: reader.parser.last_event_id == published, what="what it had missed")
        reader.take(len(reader.parser.events) - reader._taken)
        for number in range(3):  # It keeps up again.
            stream.publish(number)
            assert reader.next().data == str(number)
        for number in range(200):  # Each part fits into its buffers, for it does not read while it is published.
            stream.publish_many([{"data": "x"}] * 200)
            events = reader.take(200)
            assert {event.event for event in events} == {"message"}, f"a gap in part {number}"


def test_a_burst_of_one_publish_reaches_readers_of_many_streams_whole(serve: Serve) -> None:
    """Each of the streams has its own history; none is let down because another is busy."""
    server = serve(shards=1, heartbeat=None)
    streams = [server.stream(f"s{number}") for number in range(20)]
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(server.port, f"/streams/{stream.name}")) for stream in streams]
        for reader in readers:
            reader.open()
        for _ in range(4):  # As much as a socket has room for.
            for stream in streams:
                stream.publish_many([{"data": "x"}] * 400)
        for stream, reader in zip(streams, readers, strict=True):
            stream.end("over")
            assert [event.event for event in reader.rest()] == [*["message"] * 1600, "end"]


def test_a_reader_opened_while_another_publishes_gets_an_unbroken_run(server: sse_fast.Server) -> None:
    """It arrives at any moment of a stream that is written all the time: from its first event on none is missing."""
    stream = server.stream("s", start="new")
    over = threading.Event()

    def publish() -> None:
        while not over.is_set():
            stream.publish_many([{"data": "x"}] * 10)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(100):
            with Reader(server.port) as reader:
                numbers = [int((event.own_id or "-0").rpartition("-")[2]) for event in reader.open().take(50)]
                assert numbers == list(range(numbers[0], numbers[0] + 50))
    finally:
        over.set()
        thread.join()
