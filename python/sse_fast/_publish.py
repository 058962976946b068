"""Publishing from coroutines: `apublish`, `apublish_many`, `asnapshot`, `aend`.

Owns: waiting between two steps of a publish, and letting others run. Must not know: when an event may be appended,
which the engine decides (`stream/task.rs`); event loops (`_loops`).
Invariants: nothing here holds up the loop, and no event is published once its coroutine was cancelled. A task pays for
waiting as a thread does: from an account of its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ._loops import TURN, current, take_turn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._core import Publishing, Stream


_LOG = logging.getLogger("sse_fast")


def warn_of_waiting(name: str, what: str) -> None:
    """Says that `Stream.publish` holds an event loop up; the engine calls it once for each server."""
    _LOG.warning(
        "publish into %r waits for the %s in the thread of a running event loop, which does nothing else "
        "meanwhile: use `await stream.apublish(...)` there",
        name,
        what,
    )


async def apublish(  # noqa: PLR0913, PLR0917 - the arguments of Stream.apublish
    stream: Stream,
    data: object,
    event: str | None,
    id_: str | None,
    retry: float | None,
    snapshot: object,
    idempotency_key: str | None,
) -> str:
    """See `Stream.apublish`, which calls this."""
    await take_turn()
    # Part of this package.
    begun = stream._begin(data, event, id_, retry, snapshot, idempotency_key)  # noqa: SLF001
    return begun if isinstance(begun, str) else (await _finish(begun, idempotency_key))[0]


async def apublish_many(stream: Stream, events: Iterable[Any], idempotency_key: str | None) -> list[str]:
    """See `Stream.apublish_many`, which calls this."""
    publishing = stream._begin_many(events)  # noqa: SLF001 - part of this package
    loop = current()
    part: list[object] = []
    added = 0
    for event in events:
        part.append(event)
        if len(part) == TURN:
            publishing.add(part, added)
            added += TURN
            part = []
            await loop.let_others()
    publishing.add(part, added)
    return await _finish(publishing, idempotency_key)


async def asnapshot(stream: Stream, data: object, event: str | None) -> None:
    """See `Stream.asnapshot`, which calls this."""
    await take_turn()
    begun = stream._begin_snapshot(data, event)  # noqa: SLF001 - part of this package
    if begun is not None:
        await _finish(begun)


async def aend(stream: Stream, data: object, event: str | None) -> str:
    """See `Stream.aend`, which calls this."""
    return (await _finish(stream._begin_end(data, event)))[0]  # noqa: SLF001 - part of this package


async def _finish(publishing: Publishing, idempotency_key: str | None = None) -> list[str]:
    """Steps until everything is published; the ids."""
    loop = current()
    if idempotency_key is not None and (again := publishing.once(idempotency_key)) is not None:
        return again
    account = loop.account()
    ids: list[str] = []
    with loop.room() as (number, signal_again):
        try:
            while publishing.left:
                signal = signal_again()  # Before it looks: whatever happens from here on settles it.
                published, wait = publishing.step(loop.engine, number, account)
                ids += published
                if wait is not None:
                    await loop.wait(signal, wait)
                elif publishing.left:
                    await loop.let_others()
        finally:
            publishing.give_up(account)
    return ids
