"""RFC 6298."""

from __future__ import annotations

import pytest

from usernet.tcp.rtt import INITIAL_RTO, MAX_RTO, RttEstimator


def test_before_the_first_sample() -> None:
    rtt = RttEstimator()
    assert rtt.timeout() == INITIAL_RTO == 1.0


def test_first_and_next_sample() -> None:
    rtt = RttEstimator()
    rtt.sample(0.4)
    assert (rtt.srtt, rtt.rttvar) == (0.4, 0.2)
    assert rtt.rto == pytest.approx(0.4 + 4 * 0.2)
    rtt.sample(0.8)
    assert rtt.rttvar == pytest.approx(0.75 * 0.2 + 0.25 * 0.4)  # with the old srtt (RFC 6298 2.3)
    assert rtt.srtt == pytest.approx(0.875 * 0.4 + 0.125 * 0.8)


def test_never_below_200_ms_above_the_round_trip() -> None:
    rtt = RttEstimator()
    for _ in range(100):
        rtt.sample(0.001)
    assert rtt.timeout() == pytest.approx(0.201)


def test_back_off_doubles_up_to_the_maximum() -> None:
    rtt = RttEstimator()
    seen = []
    for _ in range(12):
        seen.append(rtt.timeout())
        rtt.back_off()
    assert seen[:8] == [1, 2, 4, 8, 16, 32, 64, MAX_RTO]
    assert set(seen[7:]) == {MAX_RTO}
    rtt.sample(500)
    assert rtt.rto == MAX_RTO
