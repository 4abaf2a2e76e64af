"""Line charts as SVG elements, for notebooks without matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, log10

import numpy as np

from ..html import Markup, escape

_WIDTH, _HEIGHT = 400, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 376, 40, 202  # of the axes
_LETTER = 6.5  # width
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728")
#: A curve of more points than this is thinned: there are no more pixels.
_MOST_POINTS = 400


def line_chart(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str,
    x_label: str,
    log_x: bool = False,
    log_y: bool = False,
) -> Markup:
    """An SVG element with a line for each curve, by name its x and its y; values that cannot be drawn are left out.

    Text is in the colour of the page's text, so that it can be read in a dark notebook. Nothing if there is no point.
    """
    points = {name: _drawable(x, y, log_x, log_y) for name, (x, y) in curves.items()}
    joined = np.concatenate([np.zeros((2, 0)), *points.values()], axis=1)
    if not joined.size:
        return Markup("")
    x_axis, y_axis = _Axis(joined[0], _LEFT, _RIGHT, log_x), _Axis(joined[1], _BOTTOM, _TOP, log_y)
    parts = [_text((_LEFT + _RIGHT) / 2, 16, title, "middle", ' font-weight="bold"')]
    for value, label in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="currentColor" opacity="0.15"/>')
        parts.append(_text(_LEFT - 5, y + 4, label, "end"))
    parts += [_text(x_axis.place(value), _BOTTOM + 15, label, "middle") for value, label in x_axis.ticks()]
    parts.append(_text((_LEFT + _RIGHT) / 2, _HEIGHT - 6, x_label, "middle"))
    name_at = float(_LEFT)  # in a row above the axes
    for number, (name, curve) in enumerate(points.items()):
        if not curve.size:
            continue
        colour = _COLOURS[number % len(_COLOURS)]
        line = " ".join(f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in curve.T)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(_text(name_at, _TOP - 7, name, "start", f' style="fill:{colour}"'))
        name_at += 12 + _LETTER * len(name)
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


class _Axis:
    """An axis from pixel `start` to pixel `end`, of values or, if `log`, of their decimal logarithms."""

    def __init__(self, values: np.ndarray, start: float, end: float, log: bool):
        self.low, self.high = float(values.min()), float(values.max())
        if self.low == self.high:
            margin = 0.05 * abs(self.low) or 1.0
            self.low, self.high = self.low - margin, self.high + margin
        self.start, self.end, self.log = start, end, log

    def place(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """A few round values on the axis, and their labels."""
        if self.log:
            decades = range(floor(self.low), ceil(self.high) + 1)
            few = self.high - self.low < 2
            numbers = [factor * 10.0**k for k in decades for factor in ((1, 2, 5) if few else (1,))]
            ticks = [(log10(number), f"{number:.4g}") for number in numbers]
        else:
            step = 10.0 ** floor(log10((self.high - self.low) / 6))
            step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
            ticks = [(k * step, f"{k * step:,.6g}") for k in range(ceil(self.low / step), floor(self.high / step) + 1)]
        return [tick for tick in ticks if self.low <= tick[0] <= self.high]


def _drawable(x: np.ndarray, y: np.ndarray, log_x: bool, log_y: bool) -> np.ndarray:
    """The points of a curve that can be drawn, no more than there are pixels: shape (2, n)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        points = np.array([np.log10(x) if log_x else x, np.log10(y) if log_y else y], float)
    points = points[:, np.isfinite(points).all(axis=0)]
    count = points.shape[1]
    return points[:, np.linspace(0, max(count - 1, 0), min(count, _MOST_POINTS)).round().astype(int)]


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
