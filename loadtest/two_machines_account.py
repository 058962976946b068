"""The accounts of `two-machines`: what one reader of one stream was given, and whether all readers were given the same.

Owns: the arithmetic. Must not know: sockets, processes, time.

Events of a stream come from several publishers at once. So a number in the id counts the stream's events, and a number
in the data counts its publisher's. Law: both are one more than the last of their kind, at every reader; and
readers of one stream have, in the end, the same digest over all of it.
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclasses.dataclass
class Account:
    """One reader of one stream, which reads from its beginning."""

    events: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    lives: int = 0
    gaps: int = 0
    digest: int = 0

    def __post_init__(self) -> None:
        """Nothing has come yet."""
        self.last_id: str | None = None
        self.publishers: dict[str, int] = {}
        self._epoch: str | None = None
        self._number = 0

    def event(self, event_id: str, publisher: str, number: int) -> None:
        """Accounts for an event in the order in which it came."""
        epoch, _, position = event_id.rpartition("-")
        if epoch != self._epoch:
            self.lives += 1
            self._epoch, self._number = epoch, 0
        expected = self._number + 1
        if int(position) < expected:
            self.doubled += 1
            return
        self.lost += int(position) - expected
        self._number, self.last_id = int(position), event_id
        self.disordered += number != self.publishers.get(publisher, 0) + 1
        self.publishers[publisher] = number
        self.events += 1
        self.digest = zlib.crc32(f"{publisher} {number};".encode(), self.digest)

    def gap(self) -> None:
        """Accounts for an announced gap, of which there must be none: history covers what is done here."""
        self.gaps += 1

    def to_dict(self) -> dict[str, object]:
        """As plain values."""
        return dataclasses.asdict(self) | {"publishers": self.publishers}


def owed(confirmed: Iterable[list[int]], patience: float) -> str:
    """The order for an account; `confirmed` says for each publisher how many events its `publish` returned, by stream.

    A killed publisher may have published one more in its stead; `wrong` tells them apart, this only says when to look.
    """
    return " ".join(["account", str(patience), *(str(sum(counts)) for counts in zip(*confirmed, strict=True))])


def wrong(accounts: list[dict], confirmed: dict[str, int], most_open: int) -> list[str]:
    """What is wrong with the accounts of one stream's readers, in words; nothing where all is right.

    `confirmed` is, for each publisher, the number of the last event whose `publish` returned. A publisher that was
    killed may have published `most_open` more that it did not live to hear of.
    """
    found = [
        f"reader {at}: {name} {account[name]}"
        for at, account in enumerate(accounts)
        for name in ("lost", "doubled", "disordered", "gaps")
        if account[name]
    ]
    found += [f"reader {at}: {account['lives']} lives" for at, account in enumerate(accounts) if account["lives"] > 1]
    for at, account in enumerate(accounts):
        for publisher, number in confirmed.items():
            has = account["publishers"].get(publisher, 0)
            if not number <= has <= number + most_open:
                found.append(f"reader {at}: has {has} of publisher {publisher}, which was told of {number}")
    if len({(account["events"], account["digest"]) for account in accounts}) > 1:
        found.append("the readers do not have the same")
    return found
