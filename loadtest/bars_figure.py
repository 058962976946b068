"""What a row of `make bars` says: figures, the bound each has, the verdict.

Owns: met or missed and by how much, and medians of runs. Must not know: how anything is measured or printed.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Figure:
    """One number of a row. Without a bound it is there for comparison; without a value `missing` says why."""

    what: str
    value: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    runs: tuple[float, ...] = ()
    beside: dict[str, float] = field(default_factory=dict)
    missing: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; None where there is nothing to judge."""
        if self.value is None or (self.at_most is None and self.at_least is None):
            return None
        return self.value <= self.at_most if self.at_most is not None else self.value >= self.at_least

    @property
    def verdict(self) -> str:
        """In words."""
        if self.missing:
            return f"not measured: {self.missing}"
        if self.met is None:
            return "for comparison"
        if self.met:
            return "met"
        bound = self.at_most if self.at_most is not None else self.at_least
        if not bound:
            return f"missed by {self.value:,.4g} {self.unit}"
        return f"missed by {abs(self.value / bound - 1) * 100:.3g} %"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Bar:
    """A row: its name, the bar in the project's words, how it is measured, and the function that does it."""

    name: str
    what: str
    bar: str
    how: str
    measure: Callable[[Any], list[Figure]]


def median(what: str, values: Iterable[float], unit: str, **bound: Any) -> Figure:
    """The median of the runs' values."""
    runs = tuple(round(value, 4) for value in values)
    return Figure(what, round(statistics.median(runs), 4), unit, runs=runs, **bound)


def worst(what: str, values: Iterable[float], unit: str, **bound: Any) -> Figure:
    """The greatest of the runs' values: for what may never happen."""
    runs = tuple(round(value, 4) for value in values)
    return Figure(what, max(runs), unit, runs=runs, **bound)


def times(pairs: list[dict[str, Any]], figure: str, *, over: str = "floor") -> list[float]:
    """sse_fast's figure as a multiple of another server's, run by run."""
    return [pair["sse_fast"][figure] / pair[over][figure] for pair in pairs]


def beside(pairs: list[dict[str, Any]], figure: str) -> dict[str, float]:
    """Every server's own median of a figure."""
    return {name: round(statistics.median(pair[name][figure] for pair in pairs), 4) for name in pairs[0]}
