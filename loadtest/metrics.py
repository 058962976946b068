"""What a server's `/metrics` says, checked against what a run's readers counted.

Owns: which number of the page must equal which of the load test's. Must not know: how pages and accounts come about.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ledger import Totals
    from .scenario import Scenario

_LINE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


def values(page: str) -> dict[str, float]:
    """The numbers of a page by name, those of all labels added up; a histogram's buckets are left out."""
    found: dict[str, float] = {}
    for name, number in _LINE.findall(page):
        if not name.endswith("_bucket"):
            found[name] = found.get(name, 0.0) + float(number)
    return found


def wrong(scenario: Scenario, totals: Totals, counts: dict[str, int], during: str, after: str) -> list[str]:
    """What the page says otherwise than the load test: `during` with all readers there, `after` with all accounts.

    Probes that come and go take events that no account has; where a scenario has them deliveries are a lower bound.
    """
    early, late = values(during), values(after)
    streams = scenario.runs.count or scenario.streams.count
    readers = scenario.clients.count + scenario.clients.probes
    exact: dict[str, tuple[Any, Any]] = {
        "sse_fast_streams": (early["sse_fast_streams"], streams),
        "sse_fast_events_published_total": (late["sse_fast_events_published_total"], scenario.published * streams),
        "sse_fast_publish_seconds_count": (late["sse_fast_publish_seconds_count"], scenario.published * streams),
        "sse_fast_gaps_total": (late["sse_fast_gaps_total"] == 0, totals.announced == 0),
        "sse_fast_skipped_events_total": (late["sse_fast_skipped_events_total"], totals.announced),
        "sse_fast_refused_total": (late["sse_fast_refused_total"], counts.get("refused", 0)),
    }
    if not scenario.clients.visits and not scenario.clients.join:
        exact["sse_fast_subscribers"] = (early["sse_fast_subscribers"], readers)
        # The connection of the scrapes is one.
        exact["sse_fast_connections"] = (early["sse_fast_connections"], readers + 1)
        exact["sse_fast_events_delivered_total"] = (late["sse_fast_events_delivered_total"], totals.delivered)
        exact["sse_fast_resumes_total"] = (late["sse_fast_resumes_total"], counts.get("resumed", 0))
    elif late["sse_fast_events_delivered_total"] < totals.delivered:
        exact["sse_fast_events_delivered_total"] = (late["sse_fast_events_delivered_total"], totals.delivered)
    return [f"{name} is {said:g}, counted {seen:g}" for name, (said, seen) in exact.items() if said != seen]
