"""Line and bar plots as inline SVG, without a library, so that a report is one file that opens anywhere.

Owns: scales, axes, colours by CSS class. Must not know: what is plotted.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 34
_TICKS = 5
_WHOLE = 20  # An axis longer than this is marked in whole numbers.

Points = list[tuple[float, float]]


def lines(series: dict[str, Points], *, y: str, x: str = "seconds", logarithmic: bool = False) -> str:
    """A plot with one line for each series, over a common time axis."""
    series = {name: points for name, points in series.items() if points}
    if not series:
        return "<p class=none>nothing was recorded</p>"
    every = [point for points in series.values() for point in points]
    low_x, high_x = min(p[0] for p in every), max(p[0] for p in every)
    scale = _Scale([p[1] for p in every], logarithmic=logarithmic)
    span = max(high_x - low_x, 1e-9)
    body = _axes(scale, [low_x + span * i / _TICKS for i in range(_TICKS + 1)], x, y)
    for index, points in enumerate(series.values()):
        path = " ".join(f"{_x((px - low_x) / span):.1f},{scale.place(py):.1f}" for px, py in points)
        body += f'<polyline class="line c{index}" points="{path}"/>'
        if len(points) == 1:
            body += f'<circle class="dot c{index}" cx="{_x(0):.1f}" cy="{scale.place(points[0][1]):.1f}" r="3"/>'
    legend = "".join(f'<span class="key c{i}">{html.escape(name)}</span>' for i, name in enumerate(series))
    return f"<figure>{_svg(body)}<figcaption>{legend}</figcaption></figure>"


def bars(counts: Sequence[tuple[float, float, int]], *, x: str) -> str:
    """A histogram: (from, to, count), over a logarithmic axis."""
    if not counts:
        return "<p class=none>nothing was recorded</p>"
    low, high = math.log(counts[0][0]), math.log(counts[-1][1])
    span = max(high - low, 1e-9)
    scale = _Scale([0.0, *(float(count) for _, _, count in counts)], logarithmic=False)
    body = _axes(scale, [math.exp(low + span * i / _TICKS) for i in range(_TICKS + 1)], x, "count")
    for start, end, count in counts:
        left, right = _x((math.log(start) - low) / span), _x((math.log(end) - low) / span)
        top = scale.place(count)
        width, height = max(right - left - 0.5, 0.5), HEIGHT - _BOTTOM - top
        body += f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    return f"<figure>{_svg(body)}</figure>"


class _Scale:
    """Where a value stands between bottom and top."""

    def __init__(self, values: list[float], *, logarithmic: bool) -> None:
        positive = [value for value in values if value > 0]
        self.logarithmic = logarithmic and bool(positive)
        if self.logarithmic:
            self.low, self.high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
            self.high = max(self.high, self.low + 1)
        else:
            self.low, self.high = 0, max(values, default=0.0) * 1.05 or 1.0

    def place(self, value: float) -> float:
        """The y coordinate."""
        if self.logarithmic:
            value = math.log10(value) if value > 0 else self.low
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def ticks(self) -> list[float]:
        """The values to name."""
        if self.logarithmic:
            return [10.0**power for power in range(int(self.low), int(self.high) + 1)]
        step = _round_step(self.high / _TICKS)
        return [step * i for i in range(int(self.high / step) + 1)]


def _round_step(step: float) -> float:
    power = 10 ** math.floor(math.log10(step))
    return next(power * nice for nice in (1, 2, 5, 10) if power * nice >= step * 0.999)


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _axes(scale: _Scale, xs: Sequence[float], x: str, y: str) -> str:
    out = ""
    for value in scale.ticks():
        at = scale.place(value)
        out += f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        out += f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:,g}</text>'
    for index, value in enumerate(xs):
        at = _x(index / _TICKS)
        shown = f"{value:,.0f}" if abs(xs[-1] - xs[0]) > _WHOLE else f"{value:,.3g}"
        out += f'<text class="tick" x="{at:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{shown}</text>'
    out += f'<text class="name" x="{WIDTH - _RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{html.escape(x)}</text>'
    return out + f'<text class="name" x="4" y="{HEIGHT - 2}">{html.escape(y)}</text>'


def _svg(body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{body}</svg>'
