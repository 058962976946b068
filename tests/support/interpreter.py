"""A blocked interpreter, and a reader in another process that can tell.

`hold_the_interpreter` is what a long computation in C does; `WATCHER` is the
source of a program that prints the time at which each line of a stream came.
"""

from __future__ import annotations

import ctypes
import time

#: A reader in another process: prints the time of each line of the body that is not empty.
WATCHER = """
import socket, sys, time
port, path = int(sys.argv[1]), sys.argv[2]
sock = socket.create_connection(("127.0.0.1", port))
sock.sendall(f"GET {path} HTTP/1.0\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n".encode())
file = sock.makefile("rb")
while file.readline() != b"\\r\\n":
    pass
print("ready", flush=True)
for line in file:
    if line != b"\\n":
        print(time.monotonic(), line.decode().rstrip("\\n"), flush=True)
"""


def hold_the_interpreter(seconds: float) -> tuple[float, float]:
    """Sleep inside C without releasing the interpreter lock, as a long computation does."""
    libc = ctypes.PyDLL(None)
    start = time.monotonic()
    libc.usleep(ctypes.c_uint(int(seconds * 1_000_000)))
    return start, time.monotonic()
