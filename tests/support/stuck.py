"""The beginning of programs that publish until they wait for a reader that takes nothing.

The program has `server`, `stream` and `reader`, a socket that has only asked, and `until_it_waits`, for another thread.
"""

from __future__ import annotations

PREAMBLE = """
import os, signal, socket, sys, sse_fast, threading, time

server = sse_fast.serve(0, publish_wait=None, heartbeat=None, stall_timeout=600.0)
stream = server.stream("s", history=8, max_lag=8)
reader = socket.socket()
reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
reader.connect(("127.0.0.1", server.port))
reader.sendall(b"GET /streams/s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
while not stream.subscribers:
    time.sleep(0.001)


def until_it_waits():
    published, same = 0, 0
    while same < 30:  # It waits once nothing more is published.
        time.sleep(0.01)
        same = same + 1 if stream.stats().published == published else 0
        published = stream.stats().published
"""
