"""A chart's lines are where the samples are."""

from __future__ import annotations

import re

from proxy.status.charts import HEIGHT, WIDTH, ceiling, chart
from proxy.status.history import KEPT


def line_of(points: list[tuple[float, float]], now: float) -> list[tuple[float, float]]:
    found = re.search(r'class="line" d="([^"]*)"', chart("received", points, now))
    assert found is not None
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", found[1])]


def test_the_scale() -> None:
    for value, top in ((0, 1), (1, 1), (1.1, 2), (2.1, 5), (300, 500), (501, 1024), (1500, 2048), (9 << 20, 10 << 20)):
        assert ceiling(value * 1024) == top * 1024


def test_where_the_points_are() -> None:
    places = line_of([(KEPT - 10, 0.0), (KEPT - 5, 2048.0), (KEPT, 1024.0)], KEPT)
    assert places[-1] == (WIDTH, HEIGHT - (HEIGHT - 4) / 2)
    assert places[0][1] == HEIGHT
    assert places[1][1] == 4.0, "a peak is within"
    assert places[0][0] < places[1][0] < places[2][0]
    assert line_of([(0.0, 1.0), (5.0, 1.0)], KEPT + 60)[0][0] == 0.0, "never to the left of it"


def test_a_sleep_is_a_gap_and_nothing_is_nothing() -> None:
    assert chart("sent", [(0.0, 1.0), (5.0, 1.0), (100.0, 1.0), (105.0, 1.0)], 105.0).count("M") == 2 * 2 + 2
    for points in ([], [(1.0, 5.0)]):
        assert line_of(points, 10.0) == []
