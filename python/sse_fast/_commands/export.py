"""`sse-fast export`: prints what a store's folder has.

Owns: its lines. Must not know: the folder's format, which the engine reads.
Invariants: a server may be using the folder: nothing in it is changed. A stream is one line that says what it is, one
for its snapshot, and one for each event, in their order; each names its stream.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sse_fast import _core

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

DESCRIPTION = "Prints what a store's folder has, as JSON lines. A server may be using it."
EPILOG = """\
examples:
  sse-fast export streams
  sse-fast export streams --stream runs/42 | jq .data

What is damaged in the folder is said on standard error. The exit code is 1 where there is no stream of that name.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `export`."""
    parser.add_argument("folder", help="the folder that a server was given as its store")
    parser.add_argument("--stream", metavar="NAME", help="that stream alone")


def run(options: argparse.Namespace) -> int:
    """Prints the folder's streams; 1 where there is none of that name."""
    streams, damage = _core.read_store(options.folder)
    if not streams and not damage and not (Path(options.folder) / "session.json").is_file():
        print(f"sse-fast: {options.folder}: there is no store", file=sys.stderr)
        return 1
    for text in damage:
        print(f"sse-fast: {options.folder}: {text}", file=sys.stderr)
    found = options.stream is None
    for name, epoch, ended, private, forgotten, snapshot, events in streams:
        if options.stream not in {None, name}:
            continue
        found = True
        _print({"stream": name, "epoch": epoch, "ended": ended, "private": private, "forgotten": forgotten})
        if snapshot is not None:
            _print({"stream": name, "snapshot": dict(_fields(snapshot))})
        for event in events:
            _print({"stream": name, **dict(_fields(event))})
    if not found:
        print(f"sse-fast: {options.folder}: there is no stream {options.stream!r}", file=sys.stderr)
    return 0 if found else 1


def _fields(row: tuple[str, str | None, int | None, str]) -> Iterator[tuple[str, object]]:
    identifier, event, retry, data = row
    yield "id", identifier
    yield "event", event
    if retry is not None:
        yield "retry", retry / 1000
    yield "data", data


def _print(line: dict[str, object]) -> None:
    print(json.dumps(line, ensure_ascii=False))
