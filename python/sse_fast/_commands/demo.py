"""`sse-fast demo`: starts the demos.

Owns: its arguments and what is printed. Must not know: what a demo does.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from pathlib import Path

from sse_fast import demos
from sse_fast.demos.benchmarks.client import submit_and_print
from sse_fast.demos.benchmarks.settings import Settings, user_data_folder

DESCRIPTION = "Serves the demo applications, each with a page, until Ctrl-C."
EPILOG = """\
examples:
  sse-fast demo                 serve the demos on http://127.0.0.1:8080
  sse-fast demo --once          submit one benchmark over HTTP, print its events and its row, and exit
  sse-fast demo --speed 1       real life: six minutes of provisioning, with a heartbeat every 15 s
  sse-fast demo --store kept    kill it (-9) in the middle of a run, start it again, and look at its page

Each wait of the demos can also be set by itself, in seconds: SSE_FAST_DEMO_QUEUE, _PROVISIONING, _POLL, _WARM,
_HEARTBEAT, _KERNEL_TIMEOUT, _RUN_TIMEOUT; and _PACE, how long the workflow's nodes take, as a multiple of what they
do. How long a request waits for a workflow's row, and how often it is looked for: STREAM_DECISION_SET_MAX_WAIT and
STREAM_DECISION_SET_RETRY_DELAY. Settings of the server itself: SSE_FAST_<NAME>.
"""


def run(options: argparse.Namespace) -> int:
    """Runs the demos."""
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger().handlers[0].setLevel(logging.INFO if options.verbose else logging.WARNING)
    data = Settings.from_environment(options.data).data
    place = demos.Place(data, local=demos.is_loopback(options.host), speed=options.speed, store=options.store)
    if options.once:
        with demos.serve(place, host=options.host, port=options.port or 0) as server:
            return 0 if _submit(server.url)["status"] == "ACCEPTED" else 1
    lives = demos.lives(place, host=options.host, port=8080 if options.port is None else options.port)
    with contextlib.closing(lives):
        for number, server in enumerate(lives):
            again = " again" if number else ""
            print(f"sse_fast demos{again}: {server.url}/  (data in {data}; Ctrl-C ends)", flush=True)
            if options.push and not number:
                print(f"See it at {server.url}/benchmarks#{_submit(server.url)['id']}", flush=True)
            server.wait()
    return 0


def _submit(url: str) -> dict[str, object]:
    """Submits a benchmark, prints its events and its row."""
    row = submit_and_print(url)
    _print_row(row)
    return row


def _print_row(row: dict[str, object]) -> None:
    print("\nThe row in SQLite:")
    for name in ("id", "kernel", "gpu", "size", "status", "message", "runtime_ms", "gflops", "exit_code"):
        print(f"  {name:<12}{'NULL' if row[name] is None else row[name]}")
    for name in ("created_at", "updated_at", "finished_at"):
        print(f"  {name:<12}{row[name]}")
    print(flush=True)


def add_arguments(demo: argparse.ArgumentParser) -> None:
    """The arguments of `demo`."""
    demo.add_argument("--port", type=int, metavar="N", help="where to listen (default 8080; with --once, a free port)")
    demo.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on (default %(default)s); on any but a loopback address only built-in kernels run",
    )
    demo.add_argument(
        "--speed",
        type=_factor,
        default=60.0,
        metavar="N",
        help="how much faster than real life the simulated machines are (default 60: six minutes take six seconds)",
    )
    demo.add_argument(
        "--data", type=Path, metavar="DIR", help=f"where the databases are kept (default {user_data_folder()})"
    )
    demo.add_argument(
        "--store",
        type=Path,
        metavar="DIR",
        help="keep the streams in this folder, across restarts (default: in memory)",
    )
    demo.add_argument("--verbose", action="store_true", help="log what the runners print")
    mode = demo.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="submit one benchmark, print its events and row, and exit")
    mode.add_argument("--push", action="store_true", help="submit one benchmark, print its events, and go on serving")


def _factor(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value
