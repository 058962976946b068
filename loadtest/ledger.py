"""Sequence accounting: what one subscriber was owed, given, and told that it missed.

Owns: the arithmetic of the promise "every event once, in order, or announced". Must not know: bytes, sockets, time.

Law: delivered + announced + missing == last - base, at every moment; a run is right when missing, repeats and unknown
are zero and every subscriber that stayed has last == published.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


class Ledger:
    """One subscriber's account of one stream's events, which are numbered from 1."""

    __slots__ = ("announced", "base", "delivered", "last", "missing", "repeats", "unknown")

    def __init__(self, base: int | None) -> None:
        """`base` is the number before the first that is owed; None: the first event to come decides."""
        self.base = base
        self.last = base
        self.delivered = 0
        self.announced = 0
        self.missing = 0  # Events jumped over without a gap event.
        self.repeats = 0
        self.unknown = 0  # Gap events without a number: another epoch, which no scenario has.

    def event(self, number: int) -> None:
        """Accounts for an event that arrived."""
        last = self.last
        if last is None:
            self.base = last = number - 1
        if number <= last:
            self.repeats += 1
            return
        self.missing += number - last - 1
        self.delivered += 1
        self.last = number

    def gap(self, skipped: int | None) -> None:
        """Accounts for a gap event."""
        if skipped is None:
            self.unknown += 1
        elif self.last is None:
            # Nothing was owed yet, so nothing is announced either; the next event sets the base.
            return
        else:
            self.announced += skipped
            self.last += skipped


@dataclass
class Totals:
    """The accounts of many subscribers, added up."""

    subscribers: int = 0
    owed: int = 0
    delivered: int = 0
    announced: int = 0
    missing: int = 0
    repeats: int = 0
    unknown: int = 0
    behind: int = 0  # Events that subscribers who stayed to the end had neither got nor been told of.
    incomplete: int = 0  # How many subscribers those are.

    def add(self, ledger: Ledger, published: int | None) -> None:
        """Adds one account; `published` is None for a subscriber that left of its own will."""
        last = ledger.last or 0
        base = ledger.base or 0
        end = last if published is None or ledger.last is None else published
        self.subscribers += 1
        self.owed += end - base
        self.delivered += ledger.delivered
        self.announced += ledger.announced
        self.missing += ledger.missing
        self.repeats += ledger.repeats
        self.unknown += ledger.unknown
        self.behind += max(0, end - last)
        # Who stayed and got nothing at all has no base to be behind of, but is no less incomplete.
        self.incomplete += end > last or (published is not None and ledger.last is None)

    def merge(self, other: dict[str, int]) -> None:
        """Adds the totals of another process."""
        for name, value in other.items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def lost(self) -> int:
        """Events that were owed, but neither delivered nor announced."""
        return self.owed - self.delivered - self.announced

    @property
    def right(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.missing or self.repeats or self.unknown or self.incomplete)

    def to_dict(self) -> dict[str, int]:
        """As plain values."""
        return asdict(self)
