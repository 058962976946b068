"""Durations counted in buckets that grow by five percent, mergeable between processes, second by second.

Owns: what a percentile means here (the upper edge of its bucket, never above the greatest value seen). Must not know:
what is timed. Kept beside locust's own statistics because those round to two digits and cannot be cut into seconds.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

_GROWTH = math.log(1.05)
_SMALLEST = 0.001  # Milliseconds: the edge of the first bucket.


class Histogram:
    """Counts of durations in milliseconds."""

    __slots__ = ("buckets", "count", "greatest", "total")

    def __init__(self) -> None:
        """Starts empty."""
        self.buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.greatest = 0.0

    def record(self, milliseconds: float) -> None:
        """Counts one duration."""
        above = max(milliseconds, _SMALLEST) / _SMALLEST
        self.buckets[math.ceil(math.log(above) / _GROWTH)] += 1
        self.count += 1
        self.total += milliseconds
        self.greatest = max(self.greatest, milliseconds)

    def percentile(self, percent: float) -> float:
        """The duration that `percent` of all do not exceed; 0 where there are none."""
        wanted, seen = self.count * percent / 100, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(edge(bucket), self.greatest)
        return 0.0

    def merge(self, other: dict[str, Any]) -> None:
        """Adds what another process counted."""
        self.buckets.update({int(bucket): count for bucket, count in other["buckets"].items()})
        self.count += other["count"]
        self.total += other["total"]
        self.greatest = max(self.greatest, other["greatest"])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, whole."""
        return {
            "buckets": {str(bucket): count for bucket, count in sorted(self.buckets.items())},
            "count": self.count,
            "total": self.total,
            "greatest": self.greatest,
        }

    def summary(self) -> dict[str, float]:
        """What a table shows, in milliseconds."""
        shown = {f"p{percent:g}".replace(".", "_"): self.percentile(percent) for percent in (50, 90, 99, 99.9)}
        mean = self.total / self.count if self.count else 0.0
        values = {**shown, "max": self.greatest, "mean": mean}
        return {"count": self.count, **{name: round(value, 3) for name, value in values.items()}}


def edge(bucket: int) -> float:
    """The upper edge of a bucket, in milliseconds."""
    return _SMALLEST * math.exp(bucket * _GROWTH)


class Series:
    """A histogram for every metric, and one for each of its seconds."""

    def __init__(self) -> None:
        """Starts empty."""
        self.whole: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.seconds: defaultdict[str, defaultdict[int, Histogram]] = defaultdict(lambda: defaultdict(Histogram))

    def record(self, metric: str, second: int, milliseconds: float) -> None:
        """Counts one duration that was seen in that second of the run."""
        self.whole[metric].record(milliseconds)
        self.seconds[metric][second].record(milliseconds)

    def merge(self, other: dict[str, Any]) -> None:
        """Adds what another process recorded."""
        for metric, seconds in other.items():
            for second, counted in seconds.items():
                self.whole[metric].merge(counted)
                self.seconds[metric][int(second)].merge(counted)

    def to_dict(self) -> dict[str, Any]:
        """Every metric's seconds; the whole is their sum."""
        return {
            metric: {str(second): histogram.to_dict() for second, histogram in seconds.items()}
            for metric, seconds in self.seconds.items()
        }
