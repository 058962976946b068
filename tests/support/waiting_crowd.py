"""Many readers in one process that ask at the same moment for a stream which does not exist yet.

    python waiting_crowd.py PORT COUNT

opens COUNT connections and prints `ready`. The first event of the stream `go` says which path all of them ask for; each
is read to its end. Prints how many readers were given what, as one JSON list of `[[first event, nodes that it knows to
have started, and to have ended, gaps, last event], readers]`: by the plan that came first, or by events after it.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.http import ChunkDecoder
from support.reader import Reader, request
from support.sse import Parser

DEADLINE = 100.0


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    control = Reader(port, "/streams/go").open()
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    print("ready", flush=True)
    asked = request(control.next(DEADLINE).data, port)
    selector = selectors.DefaultSelector()
    for sock in sockets:
        sock.sendall(asked)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, bytearray())
    found: Counter[tuple[str | int, ...]] = Counter()
    end = time.monotonic() + DEADLINE
    while selector.get_map() and time.monotonic() < end:
        for key, _ in selector.select(timeout=1.0):
            data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
            key.data.extend(data)
            # The data of the terminal event may come apart from its name: a last chunk of no bytes follows both.
            if not data or key.data.endswith(b"\r\n0\r\n\r\n"):
                selector.unregister(key.fileobj)
                found[given(bytes(key.data))] += 1
    found[("unfinished",)] += len(selector.get_map())
    print(json.dumps([[list(what), readers] for what, readers in found.items() if readers]), flush=True)


def given(received: bytes) -> tuple[str | int, ...]:
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        return (head.partition(b"\r\n")[0].decode(),)
    decoder, parser = ChunkDecoder(), Parser()
    parser.feed(decoder.feed(body))
    names = [event.event for event in parser.events]
    nodes = parser.events[0].json()["nodes"].values() if names[0] == "plan" else []
    started = [node["status"] for node in nodes if node["status"] != "waiting"]
    starts, ends = names.count("node-start"), names.count("node-end")
    return (names[0], len(started) + starts, started.count("done") + ends, names.count("gap"), names[-1])


main()
