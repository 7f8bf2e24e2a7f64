"""A chart of a rate over the last minutes, as inline SVG: no script, and colours from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.status.history import KEPT
from proxy.status.markup import Markup, fill
from proxy.status.wording import rate

WIDTH: Final = 600
HEIGHT: Final = 120
FLOOR: Final = 1024.0  # B/s: an idle tunnel's keepalives do not look like a storm
GAP: Final = 12.0  # s without a sample: the machine slept, and the line breaks


def chart(label: str, points: Sequence[tuple[float, float]], now: float) -> Markup:
    """`points`: when and how much, the oldest first, of any steady clock; `now` is the right edge."""
    top = ceiling(max((value for _, value in points), default=0.0))
    lines, areas = [], []
    for run in _runs(points):
        places = [(_x(at, now), _y(value, top)) for at, value in run]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(f"M{path}")
        areas.append(f"M{places[0][0]:.1f},{HEIGHT} L{path} L{places[-1][0]:.1f},{HEIGHT} Z")
    return fill(
        '<div class="plot"><svg class="chart" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img">'
        "<title>{label}, the last {minutes} minutes</title>"
        '<path class="grid" d="M0,{middle} H{width} M0,0.5 H{width}"/>'
        '<path class="area" d="{areas}"/><path class="line" d="{lines}"/></svg>'
        '<span class="top">{top}</span></div>'
        '<div class="axis"><span>{minutes} min ago</span><span>now</span></div>',
        label=label, width=WIDTH, height=HEIGHT, middle=HEIGHT / 2, minutes=f"{KEPT / 60:.0f}",
        areas=" ".join(areas), lines=" ".join(lines), top=rate(top),
    )  # fmt: skip


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Apart where samples are missing."""
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if not runs or point[0] - runs[-1][-1][0] > GAP:
            runs.append([])
        runs[-1].append(point)
    return [run for run in runs if len(run) > 1]


def ceiling(value: float) -> float:
    """The next of 1, 2, 5, 10 and so on to 500 KiB/s, then MiB/s: round, and it does not jump with every sample."""
    unit = FLOOR
    while value > 500 * unit:
        unit *= 1024
    return next(step * unit for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if value <= step * unit)


def _x(at: float, now: float) -> float:
    return max(0.0, WIDTH * (1 - (now - at) / KEPT))


def _y(value: float, top: float) -> float:
    return HEIGHT - (HEIGHT - 4) * value / top
