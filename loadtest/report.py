"""A run's record (JSON) and its page (HTML): one file, no script, no request to anywhere.

Owns: what is written and how it reads. Must not know: how it was measured; what a limit means (`verdict`).
"""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from . import machine, verdict
from .histogram import Histogram, edge
from .plots import bars, lines

if TYPE_CHECKING:
    from pathlib import Path

    from .harness import Result
    from .scenario import Scenario

_PACKAGES = ("sse-fast", "locust", "gevent")
_PERCENTILES = (50, 90, 99)
_COLUMNS = ("count", "p50", "p90", "p99", "p99_9", "max", "mean")

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--good:#1a7f37;--bad:#cf222e;--dim:#777;
--c0:#2563eb;--c1:#d97706;--c2:#dc2626;--c3:#059669}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.15rem .8rem .15rem 0;text-align:left;
border-bottom:1px solid var(--line)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.bad{color:var(--bad)}.void,.none,figcaption{color:var(--dim)}
.verdict{font-size:1.3rem;font-weight:600}.warning{border-left:4px solid var(--bad);padding-left:.8rem}
figure{margin:0 0 1.5rem}svg{width:100%;height:auto}.grid{stroke:var(--line)}.tick,.name{fill:var(--dim);font-size:11px}
.line{fill:none;stroke-width:1.6}.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}
.line.c3{stroke:var(--c3)}.dot{fill:var(--c0)}.bar{fill:var(--c0)}.key{margin-right:1.2rem}
.key.c0{color:var(--c0)}.key.c1{color:var(--c1)}.key.c2{color:var(--c2)}.key.c3{color:var(--c3)}
pre{overflow:auto;padding:.6rem;border:1px solid var(--line)}
"""


def record(
    scenario: Scenario, result: Result, values: dict[str, float], verdicts: list[verdict.Verdict]
) -> dict[str, Any]:
    """Everything about a run, as plain values."""
    metrics = {name: histogram.summary() for name, histogram in sorted(_metrics(result).items())}
    return {
        "scenario": scenario.to_dict(),
        "passed": verdict.passed(verdicts),
        "limits": verdict.to_dicts(verdicts),
        "delays_void": verdict.delays_void(values),
        "accounting": {"published_into_each_stream": result.published, "lost": result.totals.lost}
        | result.totals.to_dict(),
        "figures": values,
        "metrics": metrics,
        "histograms": {name: histogram.to_dict() for name, histogram in sorted(_metrics(result).items())},
        "faults": result.faults,
        "locust_cpu_warning": result.cpu_warning,
        "server_stats": result.server_stats,
        "samples": result.samples,
        "machine": machine.facts(),
        "versions": machine.versions(*_PACKAGES),
        "revision": machine.revision(),
        "date": machine.today(),
    }


def write(folder: Path, kept: dict[str, Any], result: Result) -> tuple[Path, Path]:
    """Writes both files; returns their paths."""
    name = kept["scenario"]["name"]
    as_json, as_html = folder / f"{name}.json", folder / f"{name}.html"
    as_json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    as_html.write_text(page(kept, result), encoding="utf-8")
    return as_json, as_html


def sum_line(kept: dict[str, Any]) -> str:
    """The accounting in one sentence."""
    a = kept["accounting"]
    sign = "=" if a["owed"] == a["delivered"] + a["announced"] else "≠"
    return (
        f"{a['delivered']:,} delivered + {a['announced']:,} announced as gaps {sign} {a['owed']:,} owed to "
        f"{a['subscribers']:,} subscribers ({a['missing']:,} missing unannounced, {a['repeats']:,} repeated)"
    )


def page(kept: dict[str, Any], result: Result) -> str:
    """The HTML page."""
    scenario, values = kept["scenario"], kept["figures"]
    void = kept["delays_void"]
    outcome = '<span class="good">passed</span>' if kept["passed"] else '<span class="bad">failed</span>'
    machine_facts, versions = kept["machine"], kept["versions"]
    about = {
        "date": kept["date"],
        "revision": kept["revision"],
        "machine": f"{machine_facts['cpu']}, {machine_facts['cores']} cores, {machine_facts['memory_gib']} GiB, "
        f"{machine_facts['system']} {machine_facts['kernel']}; load average before: {machine_facts['load_average']}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    parts = [
        f"<h1>{html.escape(scenario['name'])}</h1><p>{html.escape(scenario['description'])}</p>",
        f'<p class="verdict">{outcome}</p><p>{html.escape(sum_line(kept))}</p>',
        f'<p class="warning">{html.escape(void)}</p>' if void else "",
        _table(("", ""), list(about.items())),
        "<h2>Limits</h2>" + _limits(kept["limits"]),
        "<h2>Durations, in milliseconds</h2>" + _durations(kept["metrics"]),
        "<h2>Delivery delay of the probes</h2>" + _over_time(result, "probe delivery"),
        _histogram(result.series.whole["probe delivery"]),
        "<h2>Time to head</h2>" + _over_time(result, "crowd head"),
        "<h2>Reconnects</h2>" + _over_time(result, "crowd reconnect") if "crowd reconnect" in kept["metrics"] else "",
        "<h2>CPU, in percent of one core</h2>"
        + _samples(result, {"servers": "server_cpu", "busiest locust process": "reader_cpu"}, "%"),
        "<h2>Memory of the servers, in MB</h2>" + _samples(result, {"Pss": "server_memory_mb"}, "MB"),
        "<h2>All figures</h2>"
        + _table(("figure", "value"), [(name, _number(value)) for name, value in values.items()]),
        f"<h2>Scenario</h2><pre>{html.escape(json.dumps(scenario, indent=1))}</pre>",
    ]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(scenario['name'])}: load test</title>"
    return f"{head}<style>{_STYLE}</style>{''.join(parts)}</html>\n"


def _metrics(result: Result) -> dict[str, Histogram]:
    whole = {**result.series.whole, "tail": result.tails, "publish": result.publish}
    return {name: histogram for name, histogram in whole.items() if histogram.count}


def _limits(limits: list[dict[str, Any]]) -> str:
    words = {
        True: '<span class="good">passed</span>',
        False: '<span class="bad">failed</span>',
        None: '<span class="void">void</span>',
    }
    rows = "".join(
        f"<tr><td>{html.escape(row['figure'])}<td>{row['bound']}<td class=n>{_number(row['limit'])}"
        f"<td class=n>{_number(row['seen'])}<td>{words[row['passed']]}"
        for row in limits
    )
    return f"<table><tr><th>figure<th><th class=n>limit<th class=n>seen<th>{rows}</table>"


def _durations(metrics: dict[str, dict[str, float]]) -> str:
    rows = [(name, *(_number(summary[column]) for column in _COLUMNS)) for name, summary in metrics.items()]
    return _table(("metric", *_COLUMNS), rows)


def _over_time(result: Result, metric: str) -> str:
    seconds = sorted(result.series.seconds[metric].items())
    series = {f"p{p}": [(second - result.began, h.percentile(p)) for second, h in seconds] for p in _PERCENTILES}
    series["max"] = [(second - result.began, histogram.greatest) for second, histogram in seconds]
    return lines(series, y="milliseconds, logarithmic", x="seconds since the first event", logarithmic=True)


def _histogram(histogram: Histogram) -> str:
    counts = [(edge(bucket - 1), edge(bucket), count) for bucket, count in sorted(histogram.buckets.items())]
    return bars(counts, x="milliseconds, logarithmic")


def _samples(result: Result, names: dict[str, str], unit: str) -> str:
    series = {shown: [(s["at"] - result.began, s[key]) for s in result.samples] for shown, key in names.items()}
    return lines(series, y=unit, x="seconds since the first event")


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head = (
        "".join(f"<th{' class=n' if i else ''}>{html.escape(name)}" for i, name in enumerate(heads))
        if any(heads)
        else ""
    )
    number = " class=n" if any(heads) else ""
    body = "".join(
        "<tr>" + "".join(f"<td{number if i else ''}>{html.escape(str(cell))}" for i, cell in enumerate(row))
        for row in rows
    )
    return f"<table>{'<tr>' + head if head else ''}{body}</table>"


def _number(value: float | None) -> str:
    if value is None:
        return "not seen"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}".rstrip("0").rstrip(".")
