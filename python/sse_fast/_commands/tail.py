"""`sse-fast tail`: prints the events of streams as they come.

Owns: its arguments, the three forms of a line, threads that read streams.
Must not know: how a stream is followed across connections, which `sse_fast.client` knows.
"""

from __future__ import annotations

import argparse
import json
import math
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

from sse_fast import client as clients
from sse_fast._exceptions import SseFastError, UnknownStream

from .credentials import add_credentials, credentials, server_and_stream
from .terminal import Colours, escaped

if TYPE_CHECKING:
    from collections.abc import Callable

    from sse_fast._event import Event

DESCRIPTION = """\
Prints the events of streams as they come, one on a line, until all of them have ended. A connection that is cut is
followed by another that goes on where it was; what the server no longer has is shown as a "gap" event.
"""
EPILOG = """\
examples:
  sse-fast tail http://127.0.0.1:8080/runs/42
  sse-fast tail http://127.0.0.1:8080/runs/42 http://127.0.0.1:8080/runs/43 --json | jq .data
  sse-fast tail http://127.0.0.1:8080/runs/42 --last-event-id hodg0s4tjq-7 --count 10
  SSE_FAST_TOKEN=... sse-fast tail https://app.example/sse/streams/users/7/inbox

A line is: the id, the event's name, the data, separated by tabs; of several streams the stream's name first. Control
characters are shown as \\n or \\x1b. Colours are for terminals, and never with NO_COLOR.
"""

_PAUSE = 1.0  # Seconds between two looks for a stream that is not there yet.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `tail`."""
    parser.add_argument("urls", nargs="+", metavar="URL/NAME", help="a server and a stream: http://HOST:PORT/NAME")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a JSON object a line: stream, id, event, data")
    form.add_argument("--data", action="store_true", help="the data alone, as it is")
    parser.add_argument("--last-event-id", metavar="ID", help="begin after this event")
    parser.add_argument("--count", type=int, metavar="N", help="end after so many events")
    parser.add_argument("--event", action="append", metavar="NAME", help="only events of this name; may be repeated")
    parser.add_argument("--wait", action="store_true", help="wait for a stream that there is not yet")
    parser.add_argument(
        "--retry-for",
        type=float,
        default=math.inf,
        metavar="S",
        help="how long a server may be away (default: any time)",
    )
    add_credentials(parser, key=False)


def run(options: argparse.Namespace) -> int:
    """Prints until every stream has ended."""
    streams = [server_and_stream(url) for url in options.urls]
    form, given = _form(options, several=len(streams) > 1), credentials(options)
    news: queue.Queue[tuple[str, Event | Exception | None]] = queue.Queue(1024)
    for url, name in streams:
        arguments = (url, name, options, given, news)
        threading.Thread(target=_follow, args=arguments, daemon=True).start()
    left, printed, failures = len(streams), 0, 0
    while left and printed != options.count:
        name, item = news.get()
        if isinstance(item, Exception):
            failures += 1
            print(f"sse-fast: {item}", file=sys.stderr, flush=True)
        elif item is None:
            left -= 1
        elif not options.event or item.event in options.event:
            printed += 1
            print(form(name, item), flush=news.empty())
    sys.stdout.flush()
    return 1 if failures else 0


def _follow(
    url: str,
    name: str,
    options: argparse.Namespace,
    given: dict[str, str],
    news: queue.Queue[tuple[str, Event | Exception | None]],
) -> None:
    """Hands on the events of one stream, then None; before it what went wrong."""
    try:
        with clients.connect(url, **given) as client:  # type: ignore[arg-type]
            place = options.last_event_id
            while True:
                events = client.stream(name).events(last_event_id=place, retry_for=options.retry_for)
                try:
                    for event in events:
                        news.put((name, event))
                    break
                except UnknownStream:
                    if not options.wait:
                        raise
                    place = events.last_id
                    time.sleep(_PAUSE)
    except (SseFastError, OSError, ValueError) as error:
        news.put((name, error))
    finally:
        news.put((name, None))


def _form(options: argparse.Namespace, *, several: bool) -> Callable[[str, Event], str]:
    """What prints an event."""
    if options.json:
        return lambda name, event: json.dumps(
            {"stream": name, "id": event.id, "event": event.event, "data": event.data}, ensure_ascii=False
        )
    if options.data:
        return (lambda _, event: escaped(event.data)) if sys.stdout.isatty() else (lambda _, event: event.data)
    colours = Colours(sys.stdout)

    def line(name: str, event: Event) -> str:
        first = [colours.name(escaped(name))] if several else []
        return "\t".join(
            [*first, colours.dim(escaped(event.id or "-")), colours.name(escaped(event.event)), escaped(event.data)]
        )

    return line
