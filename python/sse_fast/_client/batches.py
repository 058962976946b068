"""Many events as few requests.

Owns: how many events, and how many bytes of them, go into one request.
Must not know: how an event is encoded; connections.
Invariants: the order is kept; a request has an event at least, and none has more than a server is known to take. With
`MAX_EVENTS` as the limit the parts of a list depend on the list alone: a caller's key needs that to be known again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .questions import TOO_MUCH

if TYPE_CHECKING:
    from sse_fast._exceptions import RequestError

MAX_EVENTS = 256  # What a stream retains where nothing else is set: more at once would not be taken.
MAX_BYTES = 1 << 20  # Of JSON; a single event may be longer.


def part_of(events: list[bytes], start: int, limit: int) -> list[bytes]:
    """The events from number `start` on that go into one request: at most `limit`, and one at least."""
    part: list[bytes] = []
    size = 0
    for event in events[start : start + limit]:
        if part and size + len(event) > MAX_BYTES:
            break
        part.append(event)
        size += len(event) + 1
    return part


def body_of(events: list[bytes]) -> bytes:
    """The body of a request with these events, in one array."""
    return b"[" + b",".join(events) + b"]"


def smaller(error: RequestError, count: int, limit: int) -> int:
    """How many events to put into a request after one with `count` of them was refused.

    Raises:
        RequestError: the refusal, where fewer would not be taken either.
    """
    if error.error not in TOO_MUCH or count == 1:
        raise error
    return max(1, min(limit, count) // 2)
