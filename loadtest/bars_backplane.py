"""The row about sharing: what a stream and an event cost the engine that has a copy, and Redis.

Owns: what is counted from when to when. Must not know: how a copy works. There is no bar for these: they are the
numbers that docs/guides/capacity.md plans with.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import redis_server
from .bars_figure import Bar, Figure, median
from .bars_stage import Ours, Stage, Tree
from .compare import settle
from .processes import cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bars_stage import Row

_STREAMS = 15000
_EVENTS, _BATCH = 100_000, 100
_LONE = 20_000
_SIZE = 100
_KEPT = 200  # Fewer than `history`.


def _backplane(stage: Stage) -> list[Figure]:
    if not redis_server.program():
        return [Figure("bytes of a stream", None, "bytes", missing="scripts/with-redis starts this with a Redis")]
    streams = [_streams(stage) for _ in range(stage.runs)]
    events = [_events(stage) for _ in range(stage.runs)]
    found = [
        median("a stream in an engine that has a copy", (run["copy_bytes"] for run in streams), "bytes"),
        median("a stream with its readers and an event, in Redis", (run["redis_bytes"] for run in streams), "bytes"),
        median("an event that Redis keeps, beside its data", (run["kept_bytes"] for run in events), "bytes"),
    ]
    for how, words in (("lists", f"one of {_BATCH} in a list"), ("lone", "published by itself")):
        for who, doing in (("publisher", "publishing it"), ("redis", "Redis"), ("copy", "its copy and one delivery")):
            figures = (run[f"{who}_{how}_us"] for run in events)
            found.append(median(f"an event {words}: {doing}", figures, "µs"))
    return found


@contextlib.contextmanager
def _sharing(stage: Stage, engines: int) -> Iterator[tuple[int, int, list[Ours]]]:
    """A Redis (its process and port), and engines that share it and have no stream yet."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bars-")))
        redis, url = redis_server.started("127.0.0.1", folder)
        stack.callback(redis.end)
        settings = {"streams": 0, "backplane": url}
        servers = [stack.enter_context(stage.serving(Ours, _SIZE, **settings)) for _ in range(engines)]
        yield redis.pid, urlsplit(url).port or 0, servers


def _streams(stage: Stage) -> Row:
    """One engine makes them; each has a reader at another, and one event."""
    with _sharing(stage, 2) as (_, port, [maker, copier]):
        redis, process = redis_server.used_memory("127.0.0.1", port), Tree(copier)
        maker.tell(f"m {_STREAMS}")
        maker.ask()
        settle()
        before = process.memory()
        with stage.crowd(copier, _STREAMS, path="/streams/load/{}"):
            settle(3)
            shared = process.memory() - before
            maker.tell(f"p 1 1 0 {_STREAMS}")
            maker.ask()
            redis = redis_server.used_memory("127.0.0.1", port) - redis
    with stage.serving(Ours, _SIZE, streams=_STREAMS) as alone:
        process = Tree(alone)
        before = process.memory()
        with stage.crowd(alone, _STREAMS, path="/streams/load/{}"):
            settle(3)
            readers = process.memory() - before
    row = {"copy_bytes": (shared - readers) / _STREAMS, "redis_bytes": redis / _STREAMS}
    stage.say(f"  {_STREAMS} streams behind Redis: {row}")
    return row


def _events(stage: Stage) -> Row:
    """One engine publishes, in lists as closely as it goes, then one by one; another has the one reader."""
    with _sharing(stage, 2) as (redis, port, [publisher, copier]):
        publisher.tell("m 1")
        kept = []
        for first, count in ((1, 1), (2, _KEPT)):
            publisher.tell(f"b {first} {count} {count}")
            publisher.ask()
            kept.append(redis_server.used_memory("127.0.0.1", port))
        row = {"kept_bytes": (kept[1] - kept[0]) / _KEPT - _SIZE}
        for name, order, count in (("lists", f"b 1 {_EVENTS} {_BATCH}", _EVENTS), ("lone", f"p 1 {_LONE} 0 1", _LONE)):
            with stage.crowd(copier, 1) as crowd:
                settle()
                trees = {"publisher": Tree(publisher), "copy": Tree(copier)}
                spent = {name: process.cpu() for name, process in trees.items()} | {"redis": cpu_seconds([redis])}
                publisher.tell(order)
                seen = crowd.seen(count)
                now = {name: process.cpu() for name, process in trees.items()} | {"redis": cpu_seconds([redis])}
            if seen["events"] != count:
                raise ValueError(f"{count - seen['events']} of {count} events were lost")
            row |= {f"{who}_{name}_us": (now[who] - spent[who]) / count * 1e6 for who in now}
        stage.say(f"  events behind Redis: {row}")
        return row


BARS = (
    Bar(
        "backplane",
        "a stream and an event that engines share through Redis",
        "none: docs/guides/capacity.md plans with them",
        "two engines behind one Redis. 15,000 streams, made at one, each with a reader at the other: what Pss of that "
        "grew by, without what as many readers take of an engine without a backplane; used_memory of Redis. 100,000 "
        "events of 100 B in lists of 100, then 20,000 in a loop, with one reader at the other engine: CPU of each",
        _backplane,
    ),
)
