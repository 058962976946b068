"""The rows of `make bars` as lines in a terminal and as Markdown.

Owns: how a figure, its bound and what stands beside it are written. Must not know: how anything was measured.
"""

from __future__ import annotations

from typing import Any

_METHOD = """\
Every server ran alone under the same client (`loadtest/neutral/subscribers.c`), floor and sse_fast in turn; a figure is
the median of its runs, which stand in bars.json, and "times floor" is the median of the runs' ratios. The floor
(`loadtest/neutral/floor.c`) makes one `send()` for each subscriber and event on one thread and nothing else. CPU is
user and system time of the server's whole process tree. Client and server share the machine's cores, so delays hold the
client's share too. Memory is user memory (Pss) where nothing else is said.
"""


def lines(row: dict[str, Any]) -> str:
    """For the terminal, as it goes."""
    found = [
        f"  {each['verdict']:24} {each['what']}: {_value(each)} ({_bound(each)}){_beside(each)}"
        for each in row["figures"]
    ]
    missed = any(each["verdict"].startswith("missed") for each in row["figures"])
    verdict = "met" if row["met"] else "MISSED" if missed else "not measured whole"
    return "\n".join([*found, f"  {verdict}: {row['name']}, after {row['seconds']:g} s"])


def markdown(kept: dict[str, Any]) -> str:
    """The whole document."""
    rows = kept["rows"]
    out = ["# Every bar, measured", about(kept, f"{kept['runs']} runs"), _METHOD.strip()]
    out.append(f"{sum(row['met'] for row in rows)} of {len(rows)} bars are met.")
    table = ["| bar | asked for | measured | figure | bound | verdict | beside |", "|---" * 7 + "|"]
    for row in rows:
        for number, each in enumerate(row["figures"]):
            head = f"**{row['name']}**: {row['what']} | {row['bar']}" if number == 0 else " | "
            cells = (head, each["what"], _value(each), _bound(each), each["verdict"], _beside(each).strip("; "))
            table.append("| " + " | ".join(cells) + " |")
    out.append("\n".join(table))
    out += ["## How each was measured", "\n".join(f"- **{row['name']}**: {row['how']}." for row in rows)]
    return "\n\n".join(out) + "\n"


def about(kept: dict[str, Any], how_much: str) -> str:
    """When, on which machine and with what a run was made."""
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    facts = kept["machine"]
    return (
        f"{kept['date']}, revision {kept['revision']}, {how_much}. {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['memory_gib']} GiB, {facts['system']} {facts['kernel']}; load average before: "
        f"{facts['load_average']}. {versions}."
    )


def _value(figure: dict[str, Any]) -> str:
    return "-" if figure["value"] is None else f"{figure['value']:,.4g} {figure['unit']}"


def _bound(figure: dict[str, Any]) -> str:
    if figure["at_most"] is not None:
        return f"≤ {figure['at_most']:,.4g}"
    return "none" if figure["at_least"] is None else f"≥ {figure['at_least']:,.4g}"


def _beside(figure: dict[str, Any]) -> str:
    return "".join(f"; {name} {value:,.4g}" for name, value in figure["beside"].items())
