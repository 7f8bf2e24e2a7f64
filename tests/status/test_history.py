"""Counters at known times give known rates."""

from __future__ import annotations

import pytest

from proxy.status.history import KEPT, History, StreamRates


def test_rates_and_points() -> None:
    history = History()
    assert history.rates() == {}
    history.take(0.0, {"a": (1000, 0), "b": (0, 50)}, 1)
    assert (history.rates(), list(history.points)) == ({}, [])
    history.take(2.0, {"a": (5000, 200), "b": (0, 50)}, 3)
    assert history.rates() == {"a": (2000.0, 100.0), "b": (0.0, 0.0)}
    assert list(history.points) == [(2.0, 2000.0, 100.0, 3)]


def test_a_peer_that_comes_goes_and_begins_anew() -> None:
    history = History()
    history.take(0.0, {"a": (1000, 1000)}, 0)
    history.take(2.0, {"b": (10**9, 0)}, 0)  # what it has carried may be from long ago
    assert history.points[-1][1:3] == (0.0, 0.0)
    history.take(4.0, {"b": (500, 100)}, 0)
    assert history.points[-1][1:3] == (250.0, 50.0)
    assert all(rate >= 0 for point in history.points for rate in point[1:3])


def test_a_rate_is_over_a_moment_and_no_longer() -> None:
    history = History()
    for second in range(10):
        history.take(float(second), {"a": (0 if second < 8 else 3000 * (second - 7), 0)}, 0)
    assert history.rates()["a"][0] == pytest.approx(3000.0)
    history.take(9.0, {"a": (10**9, 0)}, 0)  # the clock has not gone on: it is no sample
    assert history.rates()["a"][0] == pytest.approx(3000.0)


def test_it_is_bounded() -> None:
    history = History()
    for second in range(2 * int(KEPT)):
        history.take(float(second), {"a": (second, second)}, 0)
    assert KEPT - 2 <= len(history.points) <= KEPT + 1
    assert len(history._samples) <= 3


def test_streams() -> None:
    rates = StreamRates()
    assert rates.update(0.0, {"x": (0, 0)}) == {"x": (0.0, 0.0)}
    assert rates.update(2.0, {"x": (100, 4000), "y": (5, 5)}) == {"x": (50.0, 2000.0), "y": (0.0, 0.0)}
    assert rates.update(2.1, {"x": (9999, 9999)}) == {"x": (50.0, 2000.0)}, "too soon for another"
    assert rates.update(3.0, {}) == {}
    assert rates.update(9.0, {"x": (10, 10)}) == {"x": (0.0, 0.0)}
