"""Streams that survive a restart: kill it, start it again, and every reader goes on where it was."""

import sse_fast

server = sse_fast.serve(store="streams")
stream = server.stream("ticks", start="all")

if __name__ == "__main__":
    number = stream.stats().published
    while not server.closed:
        number += 1
        stream.publish({"number": number}, event="tick")
        server.wait(timeout=1.0)
