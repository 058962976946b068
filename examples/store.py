"""Streams that survive a restart: kill it, start it again, and every reader goes on where it was."""

import contextlib
import threading

import sse_fast

server = sse_fast.serve(store="streams")
stream = server.stream("ticks", start="all")


def tick():
    with contextlib.suppress(sse_fast.ServerClosed):
        while not server.closed:
            stream.publish({"number": stream.stats().published + 1}, event="tick")
            threading.Event().wait(0.2)


threading.Thread(target=tick, daemon=True).start()
print(f"curl -N {server.url}/streams/ticks", flush=True)
server.wait()
