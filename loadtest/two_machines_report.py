"""The report of `two-machines` as Markdown.

Owns: which figure is shown, and by which name. Must not know: how anything was measured.
"""

from __future__ import annotations

from typing import Any


def markdown(kept: dict[str, Any]) -> str:
    """The report."""
    lines = [
        "# Two machines behind one Redis",
        _about(kept),
        "## What happened",
        "\n".join(f"- {step}" for step in kept["steps"]),
        "| | |\n|---|---|",
    ]
    delays, away = kept["delays_ms"], kept["away_ms"]
    rows = {
        "events that readers have, of all streams": f"{kept['events']:,}",
        "of which `publish` had returned": f"{kept['confirmed']:,}",
        "events a second": f"{kept['events_per_s']:,}",
        "deliveries": f"{kept['delivered']:,}",
        "connections lost, and resumed at another engine": f"{kept['losses']:,}",
        "lost, doubled, out of order, gaps": "0" if not kept["wrong"] else "; ".join(kept["wrong"][:10]),
        "publish to reader, p50 and p99": f"{delays['p50']:.2f} ms, {delays['p99']:.2f} ms",
        "a reader was without connection, p50 and longest": f"{away['p50']:.0f} ms, {away['most']:.0f} ms",
        "every reader had everything, after the last event": f"{kept['complete_s']:g} s",
        "`publish` raised BackplaneUnavailable, and was repeated": f"{kept['unavailable']:g} times",
        "longest `publish`, repetitions included": f"{kept['slowest_publish_s']:g} s",
        "processor of the engines for each delivery, publishing included": f"{kept['engines_us_per_delivery']:g} µs",
        "processor of Redis for each event": f"{kept['redis_us_per_event']:g} µs",
    }
    lines[-1] += "".join(f"\n| {name} | {value} |" for name, value in rows.items())
    return "\n\n".join(lines) + "\n"


def _about(kept: dict[str, Any]) -> str:
    about, load = kept["machine"], kept["load"]
    return (
        f"{kept['date']}, revision {kept['revision']}. {about['cpu']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB, {about['system']} {about['kernel']}; load average before: "
        f"{about['load_average']}. Machines are {kept['machines']}, {load['engines']} engines on each; "
        f"{load['readers']} readers of {load['streams']} streams; each engine publishes {load['rate']:g} events of "
        f"{load['bytes']} B a second, {load['batch']} in a call. Clients, engines and Redis share the cores."
    )
