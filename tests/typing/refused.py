"""Calls that a type checker must refuse, one on each line that says `refused`; nothing runs it."""

from __future__ import annotations

import sse_fast


def wrong(server: sse_fast.Server, stream: sse_fast.Stream) -> None:
    stream.publish({}, event=5)  # refused
    stream.publish({}, retry="3s")  # refused
    stream.publish({}, "name")  # refused
    stream.events(start="newest")  # refused
    print(stream.stats()["published"])  # refused
    stream.stats().published = 0  # refused
    print(server.stats().nothing)  # refused
    server.stream("s", histori=5)  # refused
    server.watch(5, stream=stream, until="DONE")  # refused
    server.run("sleep 1", stream=5)  # refused
    server.run(["sleep"], stream="s", stdin=5)  # refused
    server.get("/path")(5)  # refused
    sse_fast.serve(0, json=5)  # refused
    sse_fast.Event(b"data")  # refused
