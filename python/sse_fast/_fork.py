"""What a forked child lets go of: port, connections and polls of the servers that its parent had open.

Owns: telling the engine's descriptors from all others. Must not know: servers, hooks.
Invariants: the child closes its own copies and does nothing else with them: whatever changes a socket (`shutdown`) or
a registration with a poll reaches the parent, too. It looks at what there is, instead of keeping books: books would
have to be right at any moment that another thread forks. It takes no lock; those of the engine may be held by threads
that do not exist in the child. A descriptor that is not surely the engine's stays open.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_TARGET = re.compile(r"^tfd:\s*(\d+) events:\s*\w+ data:\s*(\w+)", re.MULTILINE)
_WAKE = "f" * 16  # What the engine's polls say for their wake-up; see `WAKE` in the engine's `shard/net.rs`.


@dataclass(frozen=True)
class Held:
    """What a server has open, for each of its listeners.

    Attributes:
        address: where it listens; its connections have the same address at this end.
        port: the same.
        polls: descriptors of its polls.
        folder: the folder of its store, if it has one.
    """

    address: str
    port: int
    polls: Sequence[int]
    folder: str | os.PathLike[str] | None = None


def let_go(inherited: Iterable[Held]) -> None:
    """Closes what the servers of the parent had open; called in the child, before anything else runs there."""
    inherited = list(inherited)
    sockets, polls = _descriptors(inherited)
    known = {poll for held in inherited for poll in held.polls}
    ours = set(sockets)
    ours.update(poll for poll in known & polls.keys() if _WAKE in polls[poll].values())
    # What a poll of the engine watches is the engine's, and so is a poll that watches something of the engine's.
    while found := [poll for poll, targets in polls.items() if poll in ours or not ours.isdisjoint(targets)]:
        for poll in found:
            ours.update((poll, *polls.pop(poll)))
    for descriptor in ours:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _descriptors(inherited: list[Held]) -> tuple[list[int], dict[int, dict[int, str]]]:
    """The sockets and files of these servers; and every poll with what it watches, by number."""
    sockets, polls = [], {}
    files = {file for held in inherited if held.folder is not None for file in _files(Path(held.folder))}
    for descriptor in _open_descriptors():
        with contextlib.suppress(OSError):  # The one that the list was read from, or a system without /proc.
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) in files:
                sockets.append(descriptor)
            elif stat.S_ISSOCK(status.st_mode):
                if _is_of(descriptor, inherited):
                    sockets.append(descriptor)
            elif str(Path(f"/proc/self/fd/{descriptor}").readlink()) == "anon_inode:[eventpoll]":
                watched = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
                polls[descriptor] = {int(target): data for target, data in _TARGET.findall(watched)}
    return sockets, polls


def _files(folder: Path) -> Iterator[tuple[int, int]]:
    """The files of a store, by device and number: its lock, which is the parent's, and its segments."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name in {"lock", "spare", "next"} or path.suffix == ".segment":
                status = path.stat()
                yield status.st_dev, status.st_ino


def _open_descriptors() -> list[int]:
    try:
        return [int(path.name) for path in Path("/dev/fd").iterdir() if path.name.isdigit()]
    except OSError:
        return []


def _is_of(descriptor: int, inherited: list[Held]) -> bool:
    """Whether a socket is a TCP socket whose address at this end is a server's."""
    # A default timeout would make the socket non-blocking, for the parent, too.
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)
    try:
        looked_at = socket.socket(fileno=descriptor)
    finally:
        socket.setdefaulttimeout(default)
    try:
        name = looked_at.getsockname()
        if looked_at.type != socket.SOCK_STREAM or not isinstance(name, tuple):
            return False
    finally:
        looked_at.detach()
    address, port = str(name[0]).partition("%")[0], name[1]
    return any(port == held.port and held.address in {address, *_ANY_ADDRESS} for held in inherited)
