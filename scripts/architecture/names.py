"""One word for each concept: public names, settings, counters and metrics that use another word.

Owns: the words of the architecture's vocabulary and what each is used instead of, and the known exceptions.
Must not know: private names. Needs the package installed, because the names are read from it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
#: Words that public names do not use, and the word to use instead.
NEVER = {
    "message": "event", "payload": "event", "chunk": "frame", "packet": "frame", "channel": "stream", "topic": "stream",
    "room": "stream", "buffer": "log", "queue": "log", "initial": "snapshot",
    "client": "subscriber", "listener": "subscriber", "consumer": "subscriber", "session": "connection",
    "offset": "cursor", "backlog": "lag", "dropped": "gap", "drop": "gap", "drops": "gap", "loss": "gap", "lost": "gap",
    "done": "terminal event", "ping": "heartbeat", "keepalive": "heartbeat", "worker": "shard", "workers": "shards",
    "reactor": "shard", "job": "run", "task": "run", "send": "publish", "broadcast": "publish", "emit": "publish",
    "manager": "", "helper": "", "util": "", "utils": "", "service": "", "get": "",
}  # fmt: skip

#: Names that use such a word in another meaning, and which.
KNOWN = {
    *("Client", "AsyncClient"),  # Of HTTP: a program that asks a server. It need read nothing.
    "Run.send_signal",  # subprocess.Popen's name.
    *("Request.client", "client"),  # The address of the other end of an HTTP request, which need not be a subscriber.
    "Server.get",  # The HTTP method.
    "Watch.done",  # asyncio's and concurrent.futures' word for "it is over".
    "runner.emit",  # A child process does not publish; it writes lines.
    "chunked",  # The transfer coding's own name.
    "send",  # ASGI's own name.
    "handler_queue",  # Of calls, which no subscriber reads.
    "engine_loss",  # What the backplane's server may lose, which is announced as gaps.
    *("BackplaneStats.lost_tails", "lost_tails"),  # As above.
}


def words() -> Iterator[str]:
    """Public names of the installed package with another word than the concept's own."""
    return wrong_words(public_names())


def wrong_words(names: Iterable[str]) -> Iterator[str]:
    """Those of the names that use another word."""
    for name in names:
        owner, _, member = name.rpartition(".")
        for word in re.findall(r"[A-Z]?[a-z]+", member if owner in KNOWN else name):
            if word.lower() in NEVER and name not in KNOWN:
                instead = NEVER[word.lower()]
                better = (
                    f"the word for {word.lower()!r} here is {instead!r}"
                    if instead
                    else f"{word.lower()!r} says nothing"
                )
                yield f"{name}: {better}"


def public_names() -> list[str]:
    """Exports, their members and the names of their arguments, settings, and counters."""
    import sse_fast  # noqa: PLC0415 - the other rules need no installed package
    from sse_fast import _settings, asgi, client, runner, testing, wsgi  # noqa: PLC0415 - as above

    names = [setting.name for setting in _settings.SETTINGS]
    for module in (sse_fast, asgi, client, runner, testing, wsgi):
        for name in module.__all__:
            value = getattr(module, name)
            names.append(name if module in {sse_fast, client} else f"{module.__name__.rpartition('.')[2]}.{name}")
            members = vars(value) if isinstance(value, type) else {}
            names += [f"{name}.{member}" for member in members if not member.startswith("_")]
            for called in [value, *members.values()]:
                if inspect.isfunction(called):
                    names += [argument for argument in inspect.signature(called).parameters if argument[0] != "_"]
    with sse_fast.serve(0) as server:
        stream = server.stream("names")
        stream.publish("x")
        names += [*keys(dataclasses.asdict(server.stats())), *keys(dataclasses.asdict(stream.stats()))]
    return sorted(set(names))


def keys(value: object) -> Iterator[str]:
    """Every key of nested dicts."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from keys(inner)
