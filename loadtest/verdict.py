"""Figures of a run by name, and the verdict on each limit.

Owns: the names that a scenario's limits may use, which promise is checked in every run whatever the scenario says, and
when a delay is void: locust above its CPU warning level measured itself. Must not know: how a run is done or shown.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .samples import WINDOW, busiest

if TYPE_CHECKING:
    from .harness import Result
    from .scenario import Scenario

CPU_LIMIT = 90.0  # Percent of a core: locust's own warning level (locust.runners.CPU_WARNING_THRESHOLD).
# What every run must show, whatever else it is for.
PROMISES = ("lost", "unannounced_gaps", "repeats", "unknown_gaps", "incomplete", "without_terminal_event", "refused")


@dataclass(frozen=True)
class Verdict:
    """One limit, what was seen, and whether it holds; None: void, because locust itself was too busy."""

    figure: str
    bound: str
    limit: float
    seen: float | None
    passed: bool | None


def figures(scenario: Scenario, result: Result) -> dict[str, float]:
    """Every figure by name; durations are milliseconds and end in ``_ms``."""
    values: dict[str, float] = {}
    for metric, histogram in {**result.series.whole, "tail": result.tails, "publish": result.publish}.items():
        for name, value in histogram.summary().items():
            key = metric.replace(" ", "_")
            values[f"{key}_count" if name == "count" else f"{key}_{name}_ms"] = value
    totals, since, until = result.totals, result.began, result.ended
    samples = result.samples
    ends = scenario.events.end or scenario.runs.count
    busy = busiest(samples, "reader_cpu", since, until)
    during = [s["server_cpu"] for s in samples if since <= s["at"] <= until]
    seconds = max(until - since, 1e-9)
    live = sum(result.counts.get(name, 0) for name in ("delivered",))
    return values | {
        "subscribers": totals.subscribers,
        "owed": totals.owed,
        "delivered": totals.delivered,
        "announced_gaps": totals.announced,
        "lost": totals.lost,
        "unannounced_gaps": totals.missing,
        "repeats": totals.repeats,
        "unknown_gaps": totals.unknown,
        "incomplete": totals.incomplete,
        "without_terminal_event": result.without_end if ends else 0,
        "refused": result.counts.get("refused", 0),
        "cut_by_server": result.counts.get("cuts", 0),
        "resumed": result.counts.get("resumed", 0),
        "deliveries_per_s": round(live / seconds),
        "locust_cpu": round(busy, 1),
        "locust_cpu_connecting": round(busiest(samples, "reader_cpu", 0, since), 1),
        "server_cpu": round(sum(during) / len(during), 1) if during else 0.0,
        "server_cpu_us_per_delivery": round(sum(during) / 100 / max(live, 1) * 1e6, 2) if during else 0.0,
        "server_memory_mb": max((sample["server_memory_mb"] for sample in samples), default=0.0),
        "server_open_files": max((sample["server_files"] for sample in samples), default=0),
        "locust_open_files": max((sample["reader_files"] for sample in samples), default=0),
        **_scrapes(scenario, result),
        "publish_waits": sum(stats.get("publish_waits", 0) for stats in result.server_stats),
    }


def _scrapes(scenario: Scenario, result: Result) -> dict[str, float]:
    """What reading /metrics cost: percent of a core at the scenario's pace, and what the page said that is not so."""
    if result.scrapes is None:
        return {}
    took = result.scrapes.took.summary()
    return {
        "scrape_cpu": round(100 * result.scrapes.cost / scenario.server.scrape, 3),
        "scrape_p50_ms": took["p50"],
        "scrape_p99_ms": took["p99"],
        "metrics_wrong": len(result.metrics_wrong),
    }


def delays_void(values: dict[str, float]) -> str | None:
    """Why delays say nothing about the server; None where they do."""
    if values["locust_cpu"] > CPU_LIMIT:
        return (
            f"a locust process used {values['locust_cpu']:.0f} % of a core over {WINDOW} s of publishing, above its "
            f"warning level of {CPU_LIMIT:.0f} %: the delays are locust's own"
        )
    return None


def judge(scenario: Scenario, values: dict[str, float]) -> list[Verdict]:
    """The promises first, then the scenario's limits."""
    verdicts = [Verdict(name, "at most", 0, values[name], values[name] == 0) for name in PROMISES]
    for bound, limits in (("at most", scenario.limits.at_most), ("at least", scenario.limits.at_least)):
        for name, limit in limits.items():
            verdicts.append(_one(name, bound, float(limit), values))
    return verdicts


def _one(name: str, bound: str, limit: float, values: dict[str, float]) -> Verdict:
    seen = values.get(name)
    if seen is None:  # A metric that never fired, or a misspelt name: either way the run did not show it.
        return Verdict(name, bound, limit, None, passed=False)
    if name.endswith("_ms") and not name.startswith("publish_") and delays_void(values):
        return Verdict(name, bound, limit, seen, None)
    within = seen <= limit if bound == "at most" else seen >= limit
    return Verdict(name, bound, limit, seen, within and not math.isnan(seen))


def passed(verdicts: list[Verdict]) -> bool:
    """Whether no limit failed; a void one does not fail a run, it proves nothing."""
    return all(verdict.passed is not False for verdict in verdicts)


def to_dicts(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """As plain values."""
    return [asdict(verdict) for verdict in verdicts]
