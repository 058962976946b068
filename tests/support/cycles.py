"""Servers that come and go with every combination of connections, in a process of its own.

    python cycles.py WARM CYCLES

serves and closes WARM times, then CYCLES times, and prints two JSON lines: what the
process held after the first and after the second: descriptors, threads, bytes of
memory. Each cycle insists that every connection ends when `close` has returned, also
one that was kept and asks for a stream while the server closes.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sse_fast
from support.deadline import until
from support.left_behind import descriptors, resident_in_use, threads
from support.reader import Reader, request

#: More than the buffers of one connection hold.
EVENTS, DATA = 60, "x" * 100_000


def live(server: sse_fast.Server) -> Reader:
    return Reader(server.port, "/streams/live").open()


def stalled(server: sse_fast.Server) -> Reader:
    reader = Reader(server.port, "/streams/big", receive_buffer=4096).open()
    until(lambda: server.stats().blocked == 1, what="a full socket")
    return reader


def kept(server: sse_fast.Server) -> Reader:
    reader = Reader(server.port, "/page")
    reader.read_to_end()
    return reader


def half_a_request(server: sse_fast.Server) -> Reader:
    return Reader(server.port, raw=request("/page", server.port)[:20])


def waiting(server: sse_fast.Server) -> Reader:
    asked = server.stats().requests
    reader = Reader(server.port, "/wait/7")
    until(lambda: server.stats().requests > asked, what="the request having arrived")
    return reader


KINDS: tuple[Callable[[sse_fast.Server], Reader], ...] = (live, stalled, kept, half_a_request, waiting)
#: 64: none, one, several or all kinds of connection, and a close that waits for nobody or for a moment.
COMBINATIONS = [
    (chosen, drain)
    for count in range(len(KINDS) + 1)
    for chosen in itertools.combinations(KINDS, count)
    for drain in (0.0, 0.05)
]


def cycle(chosen: tuple[Callable[[sse_fast.Server], Reader], ...], drain: float) -> None:
    server = sse_fast.serve(0, shards=2, stall_timeout=600.0, header_timeout=600.0)
    server.get("/page")(lambda _req: "page")
    server.route("/wait/{id}", "none/{id}", wait=600.0)
    big = server.stream("big", start="all", history=EVENTS, max_lag=EVENTS, history_bytes=64 << 20)
    big.publish_many([{"data": DATA}] * EVENTS)
    stream = server.stream("live")
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(kind(server)) for kind in chosen]
        ids = [stream.publish(number) for number in range(3)]
        closing = threading.Thread(target=server.close, kwargs={"drain": drain})
        closing.start()
        until(lambda: server.closed, what="closing having begun")
        for kind, reader in zip(chosen, readers, strict=True):
            if kind is kept:
                with contextlib.suppress(ConnectionError):  # It is closed already.
                    reader.ask(request("/streams/live", server.port))
        closing.join()
        for kind, reader in zip(chosen, readers, strict=True):
            reader.read_eof()
            if kind is live:
                assert drain == 0.0 or [event.own_id for event in reader.parser.events] == ids


def held() -> dict[str, int]:
    gc.collect()
    return {"descriptors": descriptors(), "threads": threads(), "resident": resident_in_use()}


def combinations() -> Iterator[tuple[tuple[Callable[[sse_fast.Server], Reader], ...], float]]:
    return itertools.cycle(COMBINATIONS)


def main() -> None:
    logging.getLogger("sse_fast").addHandler(logging.NullHandler())  # Requests that waited in vain are no news.
    warm, cycles = int(sys.argv[1]), int(sys.argv[2])
    for number in (warm, cycles):
        for chosen, drain in itertools.islice(combinations(), number):
            cycle(chosen, drain)
        print(json.dumps(held()), flush=True)


main()
