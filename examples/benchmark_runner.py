"""The runner of benchmark.py, a program of its own: it prints logs as it likes, and its events by `emit`."""

import logging
import os
import time

from sse_fast.runner import emit

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("runner")


def provision(seconds):  # Your provider in its place: it is asked again and again, and says nothing new for minutes.
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        logger.info("asking for a machine")  # Goes to the server's log, and not a byte of it into the stream.
        time.sleep(min(5.0, seconds / 5))


emit("PROVISIONING", {"status": "PROVISIONING"})
provision(float(os.environ.get("PROVISIONING_SECONDS", "360")))
emit("COMPILING", {"status": "COMPILING"})
emit("BENCHMARKED", {"status": "BENCHMARKED", "runtime_ms": 4.2})
