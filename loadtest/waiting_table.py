"""The rows of `make waiting` as lines in a terminal and as Markdown.

Owns: which of a row's figures are shown, and how. Must not know: how anything was measured, what is allowed.
"""

from __future__ import annotations

from typing import Any

from .bars_table import about

_METHOD = """\
Publishing threads are Python threads of the server's process. They sleep to the next millisecond (64 threads: to the
next 13 ms) and publish what is due into all streams in turn; what a call above 1 ms took was not made up for. Events
are about 20 B. Readers are in another process (`loadtest/neutral/readers.c`), spread over the streams: a *healthy*
one reads at once, a *slow* one takes 200 KB/s (of 32 streams 6.25 KB/s), a *dead* one reads its response head through
a receive buffer of 4 KiB and nothing more. Once publishing is over, all of them read what is there, and each account
must add up: delivered + announced = published. *Lost* is the rate against the base of the same run, with as many
threads, streams and healthy readers. *In long calls* is the share of all threads' time spent in calls above 1 ms;
*counted* is `publish_wait_s` of the server's stats, all threads together, and of it *for sockets* is
`publish_socket_wait_s`, once for each stream; the rest is for shards, and for a core after a wake-up. A delay goes
from right before `publish` to receipt by a healthy reader. *Skipped each* is the mean of the slow readers, or of the
dead ones where there is no slow one; three figures with strokes are the least, the median and the most of all
readers. *CPU* says how many cores server and readers used while events were published, and for how much of that time
some thread of the machine waited for a core: where that is much more than in the base, the row says little.
"""
_PACED = (
    *("case", "threads", "streams", "rate/s", "lost", "longest call", "in long calls", "counted"),
    *("healthy: not given / not whole", "p50 (base)", "p99 (base)", "slow got each", "skipped each", "closed"),
    *("CPU", "verdict"),
)
_LOOPS = (
    *("case", "loop", "unread", "counted", "longest call", "whole", "delivered each", "gaps", "skipped each"),
    *("wrong accounts", "CPU", "verdict"),
)


def line(row: dict[str, Any]) -> str:
    """For the terminal, as it goes."""
    cells = zip(*((_PACED, _paced(row)) if _is_paced(row) else (_LOOPS, _loop(row))), strict=True)
    return "; ".join(f"{name} {cell}" if number else cell for number, (name, cell) in enumerate(cells))


def markdown(kept: dict[str, Any]) -> str:
    """The whole document."""
    rows = kept["rows"]
    out = ["# What slow and dead readers cost", about(kept, f"{kept['seconds']:g} s each"), _METHOD.strip()]
    if kept["settings"]:
        out.append("Settings: " + ", ".join(f"`{name}={value}`" for name, value in kept["settings"].items()) + ".")
    out.append(f"{sum(row['met'] for row in rows)} of {len(rows)} rows are met.")
    for names, cells, paced in ((_PACED, _paced, True), (_LOOPS, _loop, False)):
        if chosen := [row for row in rows if _is_paced(row) is paced]:
            table = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
            out.append("\n".join([*table, *("| " + " | ".join(cells(row)) + " |" for row in chosen)]))
    return "\n\n".join(out) + "\n"


def _is_paced(row: dict[str, Any]) -> bool:
    return "rate" in row


def _paced(row: dict[str, Any]) -> list[str]:
    head = [row["name"], str(row["threads"]), str(row["streams"])]
    if "publisher" not in row:
        return [*head, *["-"] * (len(_PACED) - len(head) - 1), _verdict(row)]
    publisher, healthy, slow, dead = (row[name] for name in ("publisher", "healthy", "slow", "dead"))
    now, base = row["delays_ms"], row.get("base_delays_ms", {})
    return [
        *head,
        f"{publisher['per_s']:,.0f}",
        f"{row['lost_percent']:.1f} %" if "lost_percent" in row else "-",
        f"{publisher['longest_ms']:,.0f} ms",
        f"{publisher['held_s'] / publisher['seconds'] / row['threads'] * 100:.1f} %",
        _counted(publisher),
        f"{healthy['announced'] + healthy['lost']:,} / {healthy['subscribers'] - healthy['whole']}",
        *(f"{now[name]:,.3g} ({base.get(name, 0):,.3g}) ms" for name in ("p50", "p99")),
        f"{slow['kb_per_s']:,.0f} KB/s, {slow['delivered_each'][1]:,} events" if slow["subscribers"] else "-",
        _skipped(row),
        f"{healthy['closed'] + slow['closed'] + dead['closed']}",
        _cpu(row),
        _verdict(row),
    ]


def _skipped(row: dict[str, Any]) -> str:
    """By a slow reader on average, or where there is none, by a dead one."""
    for role in ("slow", "dead"):
        if row[role]["subscribers"]:
            skipped, gaps = (row[role][name] / row[role]["subscribers"] for name in ("announced", "gaps"))
            return f"{skipped:,.0f} by {gaps:,.1f} gaps"
    return "-"


def _loop(row: dict[str, Any]) -> list[str]:
    if "publisher" not in row:
        return [row["name"], *["-"] * (len(_LOOPS) - 2), _verdict(row)]
    publisher, healthy = row["publisher"], row["healthy"]
    return [
        row["name"],
        f"{publisher['seconds']:.3g} s",
        f"{row['unread_s']:.3g} s",
        _counted(publisher),
        f"{publisher['longest_ms']:,.0f} ms",
        f"{healthy['whole']} of {healthy['subscribers']}",
        " / ".join(f"{value:,}" for value in healthy["delivered_each"]),
        f"{healthy['gaps']:,}",
        " / ".join(f"{value:,}" for value in healthy["skipped_each"]),
        f"{healthy['wrong']:,}",
        _cpu(row),
        _verdict(row),
    ]


def _cpu(row: dict[str, Any]) -> str:
    used = f"server {row['server_cores']:.2f}, readers {row['reader_cores']:.2f}"
    return used if row["waited_percent"] is None else f"{used}; waited {row['waited_percent']:.0f} %"


def _counted(publisher: dict[str, Any]) -> str:
    waits, sockets = (publisher["stats"].get(name) for name in ("publish_wait_s", "publish_socket_wait_s"))
    # An engine of before it was counted has no such number.
    of_it = "" if sockets is None else f", {sockets:.3g} s for sockets"
    return "-" if waits is None else f"{waits:.3g} s{of_it}"


def _verdict(row: dict[str, Any]) -> str:
    bad = [
        f"{each['what']} {each['verdict']}"
        for each in row["figures"]
        if each["missing"] or each["verdict"].startswith("missed")
    ]
    return "; ".join(bad) or ("met" if row["row"] != "base" else "base")
