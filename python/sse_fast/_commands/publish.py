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
from typing import TYPE_CHECKING, cast

from sse_fast import client as clients
from sse_fast._exceptions import EventError

from .credentials import add_credentials, credentials, server_and_stream
from .terminal import Progress
from .usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sse_fast._settings import StreamOptions

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
  sse-fast publish http://127.0.0.1:8080/runs/42 begun --option history=1000 --option start=all

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
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the stream; without VALUE it is None",
    )
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
        stream = client.stream(name, **_stream_options(options.option))
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


def _stream_options(given: list[str]) -> StreamOptions:
    """The options of the stream, from texts such as ``history=1000``, as the environment has them."""
    if not given:
        return {}
    from sse_fast import _settings  # noqa: PLC0415 - only where there are any

    pairs = [text.partition("=") for text in given]
    if not all(equals for _, equals, _ in pairs):
        raise UsageError("--option must be NAME=VALUE, such as history=1000")
    checked: dict[str, object] = {}
    for name, _, text in pairs:
        if name in checked:
            raise UsageError(f"--option {name} is given twice")
        value = text if text or not _settings.may_be_none(name) else None  # As in a query.
        checked[name] = _settings.from_file(name, value, f"--option {name}", stream=True)
    return cast("StreamOptions", checked)


def _check(options: argparse.Namespace) -> None:
    """What argparse cannot say."""
    if options.lines:
        wrong = [name for name in ("data", "id", "retry", "idempotency_key") if getattr(options, name) is not None]
        if wrong:
            raise UsageError(f"--lines publishes what standard input has: {' and '.join(wrong)} cannot be given")
    elif options.data is None and not options.end:
        raise UsageError("there is nothing to publish: give DATA, - for standard input, --lines or --end")
    if (options.end or options.snapshot) and not options.lines:
        wrong = [name for name in ("id", "retry", "idempotency_key") if getattr(options, name) is not None]
        if wrong or (options.end and options.snapshot):
            raise UsageError("--end and --snapshot exclude each other, and take --event alone")


def _publish_lines(stream: clients.RemoteStream, options: argparse.Namespace) -> int:
    """Publishes lines as they come: those that wait together, and none waits for others to come."""
    progress, began, count, last = Progress(), time.monotonic(), 0, None
    try:
        for part in _waiting(_lines()):
            try:
                last = stream.publish_many([(line, options.event) for line in part])[-1]
                count += len(part)
            except EventError as error:
                # One of them is none, and those before it are published.
                count += len(error.ids)
                for line in part[len(error.ids) :]:
                    last = _publish_line(stream, line, options.event, count + 1)
                    count += 1
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


def _publish_line(stream: clients.RemoteStream, line: bytes, event: str | None, number: int) -> str:
    """Publishes one line; returns its id."""
    try:
        return stream.publish(line, event=event)
    except EventError as error:
        raise EventError(f"line {number} of standard input: {error}") from None


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
