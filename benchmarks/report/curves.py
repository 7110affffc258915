"""Curves as inline SVG in the page's own colours: values at equal distances, times on a logarithmic scale."""

from __future__ import annotations

import math
from html import escape

from benchmarks.report.blocks import Lines
from benchmarks.report.style import PALETTE

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 60, 30, 12, 30
"""Room for the axes' numbers."""

MOST_TICKS = 6


def to_svg(lines: Lines) -> str:
    """The chart; its legend is the page's."""
    times = [time for _, series in lines.series for time in series if time]
    if not times:
        return ""
    ticks = log_ticks(min(times), max(times))
    low, high = ticks[0], ticks[-1]
    marks = _axes(lines.values, ticks)
    for number, (name, series) in enumerate(lines.series):
        points = [(_x(i, len(lines.values)), _y(t, low, high), t) for i, t in enumerate(series) if t]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        colour = f"k{number % len(PALETTE)}"
        marks += f'<polyline class="{colour}" points="{path}"/>'
        marks += "".join(
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(name)}: {time:.1f} '
            f"{escape(lines.unit)}</title></circle>"
            for x, y, time in points
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(lines.caption)}">{marks}</svg>'


def log_ticks(least: float, greatest: float) -> list[float]:
    """Round numbers around all times, at most MOST_TICKS of them between the first and the last."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(greatest)) + 2)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(step for step in steps if step <= least)
    last = min(step for step in steps if step >= greatest and step > first)
    inside = [step for step in steps if first < step < last]
    if len(inside) > MOST_TICKS:
        inside = [10.0**power for power in powers if first < 10.0**power < last]
    return [first, *inside, last]


def _axes(values: tuple[str, ...], ticks: list[float]) -> str:
    marks = ""
    for tick in ticks:
        y = _y(tick, ticks[0], ticks[-1])
        marks += f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        marks += f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    for index, value in enumerate(values):
        x = _x(index, len(values))
        marks += f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(value)}</text>'
    return marks


def _x(index: int, count: int) -> float:
    """Values stand in the middle of equal cells, so that long names keep inside."""
    return LEFT + (index + 0.5) / count * (WIDTH - LEFT - RIGHT)


def _y(time: float, low: float, high: float) -> float:
    share = (math.log10(time) - math.log10(low)) / (math.log10(high) - math.log10(low))
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
