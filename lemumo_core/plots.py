"""Plots as inline SVG, for self-contained pages."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

WIDTH, HEIGHT = 600, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 38, 34
COLORS = ("#1f5fa8", "#c8641e", "#3a8a4d", "#8b4ba1", "#7a7a7a")
TEXT = 'font-family="system-ui, sans-serif" font-size="11" fill="#555"'
STRIP_HEIGHT = 110
SCATTER_HEIGHT = 420
BINS = 40
TICKS = 5


def histogram(title: str, values: Sequence[float], label: str, marks: Mapping[str, float]) -> str:
    """Plot counts of values in equal bins.

    Args:
        title: above it.
        values: one or more, finite.
        label: below the axis, with the unit.
        marks: name to value of vertical lines, e.g. percentiles.
    """
    low, high = float(min(values)), float(max(values))
    high = high if high > low else low + 1.0
    counts, edges = np.histogram(values, BINS, (low, high))
    axes = _Axes(title, (low, high), (0.0, float(counts.max())), label)
    bars = [
        f'<rect x="{axes.x(a):.1f}" y="{axes.y(n):.1f}" width="{axes.x(b) - axes.x(a):.2f}" '
        f'height="{axes.y(0) - axes.y(n):.1f}" fill="{COLORS[0]}" opacity="0.75"/>'
        for n, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
        if n
    ]
    for i, (name, value) in enumerate(marks.items()):
        x, y = axes.x(value), TOP + 10 + 13 * i
        right = x > WIDTH * 0.75
        bars.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{axes.y(0):.1f}" stroke="#b00020" '
            f'stroke-dasharray="4 3"/><text x="{x + (-4 if right else 4):.1f}" y="{y}" '
            f'text-anchor="{"end" if right else "start"}" {TEXT}>{html.escape(name)} '
            f"{value:.4g}</text>"
        )
    return axes.svg(bars)


def lines(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    label: str,
    span: tuple[float, float] | None = None,
) -> str:
    """Plot values over time; NaN leaves a gap, a value between two of them is a dot.

    Args:
        title: above it.
        x: of every value.
        series: name to values.
        label: below the axis, with the unit of x.
        span: of the axis; by default that of x.
    """
    known = [value for values in series.values() for value in values if value == value]
    if span is None:
        span = (float(min(x)), float(max(x))) if len(x) else (0.0, 1.0)
    axes = _Axes(title, span, (min(0.0, *known, 0.0), max(known, default=1.0)), label)
    parts = []
    for i, (name, values) in enumerate(series.items()):
        color = COLORS[i % len(COLORS)]
        radius = 3 if sum(value == value for value in values) == 1 else 1.8
        parts += [
            f'<polyline points="{run}" fill="none" stroke="{color}" stroke-width="1.4"/>'
            for run in _runs(axes, x, values)
        ]
        parts += [
            f'<circle cx="{axes.x(a):.1f}" cy="{axes.y(b):.1f}" r="{radius}" fill="{color}"/>'
            for a, b, alone in zip(x, values, _alone(values), strict=True)
            if b == b and (len(x) <= 120 or alone)
        ]
        parts.append(
            f'<text x="{LEFT + 6 + 130 * i}" y="{TOP - 8}" font-family="system-ui, sans-serif" '
            f'font-size="11" fill="{color}">{html.escape(name)}</text>'
        )
    return axes.svg(parts)


def scatter(title: str, groups: Mapping[str, np.ndarray], label: str) -> str:
    """Plot points of several groups in one plane.

    Args:
        title: above it.
        groups: name to points (N, 2), finite.
        label: below the axis.
    """
    points = np.concatenate([np.asarray(one, float) for one in groups.values()])
    low, high = points.min(0), points.max(0)
    axes = _Axes(title, (low[0], high[0]), (low[1], high[1]), label, height=SCATTER_HEIGHT)
    parts = []
    for i, (name, group) in enumerate(groups.items()):
        color = COLORS[i % len(COLORS)]
        parts += [
            f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="2.2" fill="{color}" '
            'opacity="0.6"/>'
            for x, y in group
        ]
        parts.append(
            f'<text x="{LEFT + 6 + 130 * i}" y="{TOP - 8}" font-family="system-ui, sans-serif" '
            f'font-size="11" fill="{color}">{html.escape(name)}</text>'
        )
    return axes.svg(parts)


def strip(title: str, x: Sequence[float], colors: Sequence[str], label: str) -> str:
    """Plot one upright mark for each of many events along an axis.

    Args:
        title: above it.
        x: where they are.
        colors: of each.
        label: below the axis, with the unit of x.
    """
    span = (float(min(x)), float(max(x))) if len(x) else (0.0, 1.0)
    axes = _Axes(title, span, None, label, height=STRIP_HEIGHT)
    width = max(0.8, min(5.0, (WIDTH - LEFT - RIGHT) / max(1, len(x)) * 0.7))
    marks = [
        f'<rect x="{axes.x(at) - width / 2:.1f}" y="{TOP}" width="{width:.1f}" '
        f'height="{STRIP_HEIGHT - TOP - BOTTOM}" fill="{color}"/>'
        for at, color in zip(x, colors, strict=True)
    ]
    return axes.svg(marks)


class _Axes:
    """Axes with ticks; maps values to pixels."""

    def __init__(
        self,
        title: str,
        x: tuple[float, float],
        y: tuple[float, float] | None,
        label: str,
        height: int = HEIGHT,
    ):
        self._x, self._y, self._height = _around(x), y and _widened(y), height
        self._ticks = _ticks(*x) if x[1] > x[0] else [x[0]]
        self._title, self._label = title, label

    def x(self, value: float) -> float:
        low, high = self._x
        return float(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT))

    def y(self, value: float) -> float:
        low, high = self._y or (0.0, 1.0)
        span = self._height - TOP - BOTTOM
        return float(self._height - BOTTOM - (value - low) / (high - low) * span)

    def svg(self, parts: Sequence[str]) -> str:
        bottom = self._height - BOTTOM
        frame = [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#bbb"/>'
        ]
        for value in self._ticks:
            frame.append(
                f'<text x="{self.x(value):.1f}" y="{bottom + 14}" text-anchor="middle" {TEXT}>'
                f"{value:.6g}</text>"
            )
        if self._y:
            for value in _ticks(*self._y):
                y = self.y(value)
                frame.append(
                    f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                    f'stroke="#eee"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {TEXT}>'
                    f"{value:.6g}</text>"
                )
        frame.append(
            f'<text x="{LEFT}" y="14" font-family="system-ui, sans-serif" font-size="13" '
            f'font-weight="600" fill="#1c1c1c">{html.escape(self._title)}</text>'
        )
        frame.append(
            f'<text x="{(WIDTH + LEFT) / 2:.0f}" y="{self._height - 4}" text-anchor="middle" '
            f"{TEXT}>{html.escape(self._label)}</text>"
        )
        return (
            f'<svg viewBox="0 0 {WIDTH} {self._height}" width="{WIDTH}" height="{self._height}" '
            f'role="img">{"".join(frame)}{"".join(parts)}</svg>'
        )


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers within a span, about ``TICKS`` of them."""
    raw = (high - low) / TICKS
    size = 10.0 ** np.floor(np.log10(raw))
    step = size * min((m for m in (1, 2, 5, 10) if m * size >= raw), default=10)
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [float(n * step) + 0.0 for n in np.arange(first, last + 1)]  # no minus zero


def _widened(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    return (low, high) if high > low else (low, low + 1.0)


def _around(span: tuple[float, float]) -> tuple[float, float]:
    """Return a span, or one in whose middle its only value is."""
    low, high = span
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _alone(values: Sequence[float]) -> list[bool]:
    """Return which values are known while those before and after them are not."""
    known = [False, *(value == value for value in values), False]
    return [one and not (known[i] or known[i + 2]) for i, one in enumerate(known[1:-1])]


def _runs(axes: _Axes, x: Sequence[float], values: Sequence[float]) -> list[str]:
    """Return the points of each run of known values."""
    runs: list[list[str]] = [[]]
    for a, b in zip(x, values, strict=True):
        if b == b:
            runs[-1].append(f"{axes.x(a):.1f},{axes.y(b):.1f}")
        elif runs[-1]:
            runs.append([])
    return [" ".join(run) for run in runs if len(run) > 1]
