"""The report of `durable` as Markdown.

Owns: which figure is shown, and by which name. Must not know: how anything was measured.
"""

from __future__ import annotations

from typing import Any


def markdown(kept: dict[str, Any]) -> str:
    """The report."""
    away = kept["away_ms"]
    rows = {
        "events that readers have, of all streams": f"{kept['events']:,}",
        "of which publishers were told": f"{kept['confirmed']:,}",
        "deliveries": f"{kept['delivered']:,}",
        "lost, doubled, out of order, gaps, new lives": "0" if not kept["wrong"] else "; ".join(kept["wrong"][:10]),
        "connections lost, and resumed": f"{kept['losses']:,}",
        "nothing was at the port, from the kill to the next process": f"{kept['engine_away_s']:g} s",
        "a reader was without connection, p50 and longest": f"{away['p50']:.0f} ms, {away['most']:.0f} ms",
        "the folder": f"{kept['store_bytes'] / 2**20:.1f} MiB",
        "syncs of the last process": f"{kept['store_syncs']:,}",
    }
    table = "".join(f"\n| {name} | {value} |" for name, value in rows.items())
    return (
        "\n\n".join(
            [
                "# An engine with a store, killed and started again",
                _about(kept),
                "## What came of it",
                f"| | |\n|---|---|{table}",
                _durations(kept["phases"]),
            ]
        )
        + "\n"
    )


def _durations(phases: dict[str, Any]) -> str:
    lines = ["| | before the kill | until every reader was back | after |", "|---|---|---|---|"]
    for name, key in (
        ("publish to reader, p50 and p99", "delivery_ms"),
        ("a publish over HTTP, p50 and p99", "publish_ms"),
    ):
        cells = [f"{phase[key]['p50']:.2f} ms, {phase[key]['p99']:.2f} ms" for phase in phases.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    most = [f"{phase['publish_ms']['most']:.0f} ms" for phase in phases.values()]
    lines.append(f"| the longest publish, repetitions included | {' | '.join(most)} |")
    return "\n".join(lines)


def _about(kept: dict[str, Any]) -> str:
    about, load = kept["machine"], kept["load"]
    return (
        f"{kept['date']}, revision {kept['revision']}. {about['cpu']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB, {about['system']} {about['kernel']}; load average before: "
        f"{about['load_average']}. `durable` is {load['durable']}; {load['readers']} readers of {load['streams']} "
        f"streams; {load['publishers']} publishers send {load['rate']:g} events of {load['bytes']} B a second, one in "
        f"a request, and repeat what has no answer. Clients and engine share the cores; events that are replayed are "
        f"left out of the times."
    )
