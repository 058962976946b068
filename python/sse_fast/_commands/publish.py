"""`sse-fast publish`: one event, or each line of standard input as one.

Owns: its arguments, reading lines as they come, the progress shown.
Must not know: how publishing is done and repeated, which `sse_fast.client` knows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

from sse_fast import client as clients

from .credentials import add_credentials, credentials, server_and_stream
from .terminal import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIPTION = """\
Publishes one event into a stream of a server, and prints its id. With --lines each line of standard input is an event,
published as it comes.
"""
EPILOG = """\
examples:
  export SSE_FAST_KEY=...                       the server's publish_key
  sse-fast publish http://127.0.0.1:8080/runs/42 '{"status":"COMPILING"}' --event COMPILING
  sse-fast publish http://127.0.0.1:8080/runs/42 '{"status":"DONE"}' --event DONE --end
  make 2>&1 | sse-fast publish http://127.0.0.1:8080/runs/42 --lines --event log
  sse-fast publish http://127.0.0.1:8080/report - < report.json

The data is sent as it is given; JSON stays JSON. A request without an answer is repeated for --retry-for seconds, and
is published once.
"""

_AT_ONCE = 256  # Lines that wait are published together, up to so many.
_READ_AHEAD = 4096  # Lines; beyond it the program that writes them waits.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `publish`."""
    parser.add_argument("url", metavar="URL/NAME", help="the server and the stream: http://HOST:PORT/NAME")
    parser.add_argument("data", nargs="?", metavar="DATA", help="the event's data; - reads all of standard input")
    parser.add_argument("--event", metavar="NAME", help="the event's name")
    parser.add_argument("--id", metavar="ID", help="an id of your own")
    parser.add_argument("--retry", type=float, metavar="S", help="how long readers are to wait before they reconnect")
    parser.add_argument("--idempotency-key", metavar="KEY", help="publishes once, however often this is called with it")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--lines", action="store_true", help="each line of standard input is an event")
    mode.add_argument("--snapshot", action="store_true", help="set the snapshot, without an event")
    parser.add_argument(
        "--end", action="store_true", help="end the stream with this event; with --lines, after the last"
    )
    parser.add_argument("--retry-for", type=float, default=5.0, metavar="S", help="default: %(default)s")
    add_credentials(parser, key=True)


def run(options: argparse.Namespace) -> int:
    """Publishes."""
    url, name = server_and_stream(options.url)
    _check(options)
    with clients.connect(url, retry_for=options.retry_for, **credentials(options)) as client:  # type: ignore[arg-type]
        stream = client.stream(name)
        if options.lines:
            return _publish_lines(stream, options)
        data = sys.stdin.buffer.read() if options.data == "-" else options.data
        if options.snapshot:
            stream.snapshot(data, event=options.event or "snapshot")
        elif options.end:
            print(stream.end(data, event=options.event or "end"))
        else:
            print(
                stream.publish(
                    data,
                    event=options.event,
                    id=options.id,
                    retry=options.retry,
                    idempotency_key=options.idempotency_key,
                )
            )
    return 0


def _check(options: argparse.Namespace) -> None:
    """What argparse cannot say."""
    if options.lines:
        wrong = [name for name in ("data", "id", "retry", "idempotency_key") if getattr(options, name) is not None]
        if wrong:
            raise ValueError(f"--lines publishes what standard input has: {' and '.join(wrong)} cannot be given")
    elif options.data is None and not options.end:
        raise ValueError("there is nothing to publish: give DATA, - for standard input, --lines or --end")
    if (options.end or options.snapshot) and not options.lines:
        wrong = [name for name in ("id", "retry", "idempotency_key") if getattr(options, name) is not None]
        if wrong or (options.end and options.snapshot):
            raise ValueError("--end and --snapshot exclude each other, and take --event alone")


def _publish_lines(stream: clients.RemoteStream, options: argparse.Namespace) -> int:
    """Publishes lines as they come: those that wait together, and none waits for others to come."""
    progress, began, count, last = Progress(), time.monotonic(), 0, None
    try:
        for part in _waiting(_lines()):
            last = stream.publish_many([(line, options.event) for line in part])[-1]
            count += len(part)
            now = time.monotonic()
            progress.show(f"{count:,} lines, {count / max(now - began, 0.001):,.0f} a second", now)
        if options.end:
            last = stream.end()
    finally:
        progress.clear()
        print(f"{count} events published into {stream.name}", file=sys.stderr)
    if last is not None:
        print(last)
    return 0


def _lines() -> Iterator[bytes]:
    """Read from the descriptor: a thread that waits in `sys.stdin` when the program ends aborts it."""
    rest = b""
    while piece := os.read(sys.stdin.fileno(), 1 << 16):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest.removesuffix(b"\r")


def _waiting(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Lists of the lines that are there, as soon as there is one."""
    waiting: queue.Queue[bytes | None] = queue.Queue(_READ_AHEAD)

    def read() -> None:
        for line in lines:
            waiting.put(line)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        part = [waiting.get()]
        with contextlib.suppress(queue.Empty):
            while part[-1] is not None and len(part) < _AT_ONCE:
                part.append(waiting.get_nowait())
        found = [line for line in part if line is not None]
        if found:
            yield found
        if len(found) < len(part):
            return
