"""Many events as few requests.

Owns: how many events, and how many bytes of them, go into one request.
Must not know: how an event is encoded; connections.
Invariants: the order is kept; a request has an event at least, and none has more than a server is known to take.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .questions import TOO_MUCH

if TYPE_CHECKING:
    from sse_fast._exceptions import RequestError

MAX_EVENTS = 256  # What a stream retains where nothing else is set: more at once would not be taken.
MAX_BYTES = 1 << 20  # Of JSON; a single event may be longer.


def batches(events: list[bytes], start: int, limit: int) -> Iterator[tuple[int, list[bytes]]]:
    """The events from number `start` on, in parts of at most `limit` events: the first one's number, and the part."""
    part: list[bytes] = []
    size = 0
    for number in range(start, len(events)):
        event = events[number]
        if part and (len(part) == limit or size + len(event) > MAX_BYTES):
            yield number - len(part), part
            part, size = [], 0
        part.append(event)
        size += len(event) + 1
    if part:
        yield len(events) - len(part), part


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
