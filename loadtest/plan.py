"""Who does what when: every client's part in a scenario, decided before the run and the same in every run.

Owns: the random choices (who is slow, who leaves, when a watcher comes), drawn from the scenario's seed. Must not know:
sockets, processes. Times are seconds after the beginning, the moment before the first event.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scenario import Scenario

_CHURN_SHARE = 0.9  # Of the time of publishing: events follow the last newcomer too, so one that gets none is a fault.


@dataclass
class Part:
    """What one client does."""

    number: int
    stream: int
    join: float | None = None  # None: before the beginning, so that every event is owed.
    leave: float | None = None  # When it goes for good.
    stall: tuple[float, float | None] | None = None  # From when to when it reads nothing; None: until all is published.
    drops: tuple[float, ...] = ()  # When it loses its connection and resumes.

    @property
    def base(self) -> int | None:
        """The number before the first event that it is owed; None where only its first event can tell."""
        return 0 if self.join is None else None


@dataclass(frozen=True)
class Share:
    """The clients that one process holds: so many from this number on."""

    first: int
    count: int


def shares(count: int, processes: int) -> list[Share]:
    """Splits the clients evenly."""
    edges = [count * index // processes for index in range(processes + 1)]
    return [Share(first, last - first) for first, last in itertools.pairwise(edges)]


def parts(scenario: Scenario, share: Share, *, mass: bool) -> list[Part]:
    """Every client's part in this share, newcomers of the churn included; probes are neither slow nor replaced."""
    chosen = random.Random(f"{scenario.seed} {share.first} {mass}")
    members = [_part(scenario, number, chosen) for number in range(share.first, share.first + share.count)]
    if not mass:
        return members
    slow = scenario.slow
    for part in chosen.sample(members, round(slow.share * len(members))):
        part.stall = (slow.at, slow.at + slow.seconds if slow.seconds else None)
    return members + _churn(scenario, members, chosen)


def starts_of_history(scenario: Scenario) -> bool:
    """Whether a subscriber who comes late is owed everything."""
    return bool(scenario.runs.count) or scenario.streams.options.get("start") == "all"


def _part(scenario: Scenario, number: int, chosen: random.Random) -> Part:
    if not scenario.clients.join:
        return Part(number, number % scenario.streams.count, drops=scenario.storms.at)
    runs = scenario.runs
    run = number % runs.count
    begins = run * runs.over / runs.count
    join = max(0.0, chosen.uniform(begins - runs.early, begins + runs.length + runs.late))
    drops: tuple[float, ...] = ()
    if chosen.random() < runs.cut:
        drops = (join + chosen.uniform(0.2, runs.length),)
    return Part(number, run, join=join, drops=drops)


def _churn(scenario: Scenario, members: list[Part], chosen: random.Random) -> list[Part]:
    """Lets members leave, evenly over time, and gives each a successor in the same stream."""
    rate = scenario.churn.per_second * len(members) / scenario.clients.count
    leaving = min(len(members), int(rate * scenario.events.duration * _CHURN_SHARE))
    newcomers = []
    for index, part in enumerate(chosen.sample([part for part in members if part.stall is None], leaving)):
        part.leave = (index + 1) / rate
        number = scenario.clients.count + scenario.clients.probes + part.number
        newcomers.append(Part(number, part.stream, join=part.leave))
    return newcomers
