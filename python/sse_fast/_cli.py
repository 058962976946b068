"""The command `sse-fast`: starts the demos, and exports what a store has.

Owns: arguments, what is printed, exit codes: 0 for success, 1 for a failure, 2 for wrong arguments, 130 for Ctrl-C
before anything ran.
Must not know: what a demo does.
Invariants: nothing in the package imports this file.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import sse_fast

from . import _export, demos
from .demos.benchmarks.client import submit_and_print
from .demos.benchmarks.settings import Settings, user_data_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPILOG = """\
examples:
  sse-fast demo                 serve the demos on http://127.0.0.1:8080
  sse-fast demo --once          submit one benchmark over HTTP, print its events and its row, and exit
  sse-fast demo --speed 1       real life: six minutes of provisioning, with a heartbeat every 15 s

Each wait of the demos can also be set by itself, in seconds: SSE_FAST_DEMO_QUEUE, _PROVISIONING, _POLL, _WARM,
_HEARTBEAT, _KERNEL_TIMEOUT, _RUN_TIMEOUT; and _PACE, how long the workflow's nodes take, as a multiple of what they
do. How long a request waits for a workflow's row, and how often it is looked for: STREAM_DECISION_SET_MAX_WAIT and
STREAM_DECISION_SET_RETRY_DELAY. Settings of the server itself: SSE_FAST_<NAME>.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger().handlers[0].setLevel(logging.INFO if options.verbose else logging.WARNING)
    try:
        return int(options.command(options))
    except (sse_fast.SseFastError, OSError, ValueError) as error:
        print(f"sse-fast: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _demo(options: argparse.Namespace) -> int:
    data = Settings.from_environment(options.data).data
    place = demos.Place(data, local=demos.is_loopback(options.host), speed=options.speed)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sse-fast", description="Server-Sent Events with a Rust engine: demos.")
    parser.add_argument("--version", action="version", version=f"sse-fast {sse_fast.__version__}")
    parser.set_defaults(verbose=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    text = "print what a store's folder has, as JSON lines"
    kept = commands.add_parser("export", help=text, description=f"{text[0].upper()}{text[1:]}.")
    kept.set_defaults(command=_export.export)
    _export.add_arguments(kept)
    demo = commands.add_parser(
        "demo",
        help="serve the demo applications",
        description="Serves the demo applications, each with a page, until Ctrl-C.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.set_defaults(command=_demo)
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
    demo.add_argument("--verbose", action="store_true", help="log what the runners print")
    mode = demo.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="submit one benchmark, print its events and row, and exit")
    mode.add_argument("--push", action="store_true", help="submit one benchmark, print its events, and go on serving")
    return parser


def _factor(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value
