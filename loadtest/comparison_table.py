"""The comparison as a table: multiples of the floor, and Markdown.

Owns: which figure is shown for which load, how it is written, and the method and caveats that stand above it. Must not
know: how anything was measured.
"""

from __future__ import annotations

from typing import Any

_SHOWN = {
    "cpu_floor": "CPU per delivery, times floor",
    "cpu_us": "CPU per delivery, µs",
    "delivered": "delivered",
    "per_s": "deliveries/s",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "tail_p50_ms": "last has it (p50), ms",
    "grew_mb": "memory grew, MB",
    "accept_floor": "CPU per subscriber accepted, times floor",
    "accept_us": "CPU per subscriber accepted, µs",
    "connected_s": "all subscribed after, s",
    "idle_floor": "idle CPU, times floor",
    "idle_us_per_s": "idle CPU per subscriber and second, µs",
    "kib_per_subscriber": "memory per subscriber, KiB",
    "refused": "refused",
}
_DELIVERY = ("cpu_floor", "cpu_us", "delivered", "per_s", "p50_ms", "p99_ms", "tail_p50_ms", "grew_mb")
_CONNECTIONS = ("accept_floor", "accept_us", "connected_s", "kib_per_subscriber", "refused")
_IDLE = ("idle_floor", "idle_us_per_s", "kib_per_subscriber", "refused")
_MULTIPLES = {"cpu_floor": "cpu_us", "accept_floor": "accept_us", "idle_floor": "idle_us_per_s"}

_METHOD = """\
Every server ran alone, one after another, under the same client (`loadtest/neutral/subscribers.c`), which opens the
subscriptions from one process on the same machine, counts every event and times it by the publisher's clock. CPU is
user and system time of the server's whole process tree from /proc, between two moments at which every subscriber was
there. The floor (`loadtest/neutral/floor.c`) makes one `send()` for each subscriber and event on one thread and nothing
else.

Read it with care: client and server share the machine's cores, so delays hold the client's share too; memory is user
memory (Pss), the kernel's socket buffers come on top; servers that run in the publisher's own process are published to
there, the others over one HTTP connection, one request after another, which slows their "back to back" down. A server
that cannot keep up with a load is shown as it was seen, with the share it delivered.
"""


def add_multiples(rows: list[dict[str, Any]]) -> None:
    """Gives every row its figures as multiples of the floor's, which is the first row."""
    floor = rows[0]
    for row in rows:
        for name, figure in _MULTIPLES.items():
            if row.get(figure) is not None and floor.get(figure):
                row[name] = round(row[figure] / floor[figure], 3)


def markdown(kept: dict[str, Any]) -> str:
    """The whole document."""
    out = [
        "# sse_fast beside its peers",
        _about(kept),
        _METHOD.strip(),
    ]
    if kept["scale"] != 1:
        out.append(f"**Subscribers were multiplied by {kept['scale']:g}: this is a quick look, not a result.**")
    for load in kept["loads"].values():
        out.append(f"## {load['load']['name']}: {load['load']['description']}")
        out.append(_table(load))
    out += [f"- {name}: {note}." for name, note in kept["notes"].items()]
    if kept["missing"]:
        out.append("## Not measured, because not installed")
        out.append("\n".join(f"- {name}: {hint}" for name, hint in kept["missing"].items()))
    return "\n\n".join(out) + "\n"


def _about(kept: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    about = kept["machine"]
    return (
        f"{kept['date']}, revision {kept['revision']}. {about['cpu']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB, {about['system']} {about['kernel']}; load average before: "
        f"{about['load_average']}. {versions}."
    )


def _columns(load: dict[str, Any]) -> tuple[str, ...]:
    if load["load"]["events"]:
        return _DELIVERY
    return _IDLE if any("idle_floor" in row for row in load["rows"]) else _CONNECTIONS


def _table(load: dict[str, Any]) -> str:
    columns = _columns(load)
    lines = ["| server | " + " | ".join(_SHOWN[name] for name in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in load["rows"]:
        if "failed" in row:
            lines.append(f"| {row['server']} | failed: {row['failed']} |" + " |" * (len(columns) - 1))
        else:
            lines.append(f"| {row['server']} | " + " | ".join(_cell(name, row.get(name)) for name in columns) + " |")
    return "\n".join(lines)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "delivered":
        return f"{value * 100:.4g} %"
    if name.endswith("_floor"):
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"  # noqa: PLR2004
