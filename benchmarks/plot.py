# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws line charts with logarithmic axes as SVG, side by side."""

from __future__ import annotations

import dataclasses
import math
import typing as t
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 520, 360, 55, 40, 300, 270
_COLOURS = ("#b3541e", "#7a6a53", "#4f7cac", "#16784a", "#6b4e9b")


@dataclasses.dataclass(frozen=True)
class Chart:
    """Curves by name, each a list of (x, y), both above 0."""

    title: str
    curves: t.Mapping[str, t.Sequence[tuple[float, float]]]


def draw(charts: t.Sequence[Chart]) -> str:
    size = f'width="{_WIDTH * len(charts)}" height="{_HEIGHT}"'
    parts = [
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, chart in enumerate(charts):
        parts += [f'<g transform="translate({number * _WIDTH} 0)">', *_drawn(chart), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _drawn(chart: Chart) -> t.Iterator[str]:
    points = [point for curve in chart.curves.values() for point in curve]
    if not points:
        return
    across, up = _Axis([x for x, _y in points], _PLOT_WIDTH), _Axis([y for _x, y in points], _PLOT_HEIGHT)
    bottom = _TOP + _PLOT_HEIGHT
    yield _words(_LEFT, 20, chart.title, weight="bold")
    yield _words(_LEFT + _PLOT_WIDTH / 2 - 15, bottom + 36, "files")
    for power in across.powers:
        x = _LEFT + across.at(10**power)
        yield _line([(x, _TOP), (x, bottom)], "#ddd", 1)
        yield _words(x - 20, bottom + 18, f"{10**power:,}")
    for power in up.powers:
        y = bottom - up.at(10**power)
        yield _line([(_LEFT, y), (_LEFT + _PLOT_WIDTH, y)], "#ddd", 1)
        yield _words(10, y + 4, f"{10.0**power:g}")
    ends: list[float] = []
    ordered = sorted((item for item in chart.curves.items() if item[1]), key=lambda item: -item[1][-1][1])
    for colour, (name, curve) in zip(_COLOURS, ordered, strict=False):
        way = [(_LEFT + across.at(x), bottom - up.at(y)) for x, y in curve]
        yield _line(way, colour, 2)
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in way)
        ends.append(max(way[-1][1] + 4, ends[-1] + 15 if ends else 0))  # names never on top of each other
        yield _words(way[-1][0] + 8, ends[-1], f"{name}: {curve[-1][1]:.2g}", colour=colour)


class _Axis:
    """A logarithmic axis of whole powers of ten around some values."""

    def __init__(self, values: t.Sequence[float], length: float) -> None:
        first = math.floor(math.log10(min(values)))
        self.powers = range(first, max(first + 1, math.ceil(math.log10(max(values)))) + 1)
        self._scale = length / (len(self.powers) - 1)

    def at(self, value: float) -> float:
        """Pixels from the beginning of the axis."""
        return (math.log10(value) - self.powers[0]) * self._scale


def _line(points: t.Sequence[tuple[float, float]], colour: str, width: int) -> str:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _words(x: float, y: float, text: str, colour: str = "#333", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-weight="{weight}">{escape(text)}</text>'
