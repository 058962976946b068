"""The beginnings of programs that wait, or whose reader takes nothing.

With `TELLS` a program prints "waiting" once `Server.wait` or `wait_async` has taken the signals over.

With `PREAMBLE` a program publishes until it waits: it has `server`, `stream`, `reader`, a socket that has only asked,
and `until_it_waits`, for another thread. With `STALLED` it has `stalled(**settings)`, a server that cannot drain.
"""

from __future__ import annotations

TELLS = """
import signal, threading, time


def tell_once_it_waits():
    while getattr(signal.getsignal(signal.SIGINT), "__module__", None) != "sse_fast._signals":
        time.sleep(0.001)
    print("waiting", flush=True)


threading.Thread(target=tell_once_it_waits, daemon=True).start()
"""

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

STALLED = """
import socket, sse_fast

readers = []


def stalled(**settings):
    server = sse_fast.serve(0, publish_wait=0.0, history=5000, max_lag=5000, history_bytes=1 << 28, **settings)
    stream = server.stream("s")
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(b"GET /streams/s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    reader.recv(100)
    for _ in range(4000):
        stream.publish("x" * 4000)
    readers.append(reader)
    return server
"""
