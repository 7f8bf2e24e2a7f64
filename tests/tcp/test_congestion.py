"""RFC 5681, and what all algorithms share."""

from __future__ import annotations

import pytest

from usernet.tcp.congestion import Window
from usernet.tcp.cubic import Cubic
from usernet.tcp.reno import Reno

MSS = 1000
both = pytest.mark.parametrize("make", [Reno, Cubic])


def ack(window: Window, acked: int, in_flight: int, now: float = 1.0, rtt: float = 0.0) -> None:
    window.on_ack(acked, in_flight, now, 0.1, rtt)


@both
def test_initial_window(make: type[Window]) -> None:
    assert make(MSS, 1 << 20).cwnd == 10 * MSS


@both
def test_slow_start_doubles_however_few_acks_come(make: type[Window]) -> None:
    few, many = make(MSS, 1 << 20), make(MSS, 1 << 20)
    ack(few, 10 * MSS, 10 * MSS)
    for _ in range(10):
        ack(many, MSS, 10 * MSS)
    assert few.cwnd == many.cwnd == 20 * MSS


def test_congestion_avoidance_adds_a_segment_a_round_trip() -> None:
    reno = Reno(MSS, 1 << 20)
    reno.cwnd = 20 * MSS
    reno.on_loss(20 * MSS)
    assert reno.cwnd == reno.ssthresh == 10 * MSS
    for _ in range(10):
        ack(reno, MSS, 10 * MSS)
    assert reno.cwnd == 11 * MSS


def test_slow_start_ends_at_ssthresh() -> None:
    reno = Reno(MSS, 1 << 20)
    reno.on_timeout(8 * MSS)
    assert (reno.cwnd, reno.ssthresh) == (MSS, 4 * MSS)
    ack(reno, 10 * MSS, 10 * MSS)
    assert reno.cwnd == 5 * MSS  # three of the ten took it to ssthresh, the rest made one round trip


@both
def test_what_is_not_used_does_not_grow(make: type[Window]) -> None:
    window = make(MSS, 1 << 20)
    ack(window, 2 * MSS, 2 * MSS)
    assert window.cwnd == 10 * MSS
    window.on_loss(10 * MSS)
    cwnd = window.cwnd
    ack(window, 2 * MSS, 2 * MSS, now=1000.0)
    assert window.cwnd == cwnd


@both
def test_bounds(make: type[Window]) -> None:
    window = make(MSS, 12 * MSS)
    ack(window, 10 * MSS, 10 * MSS)
    assert window.cwnd == window.ssthresh == 12 * MSS
    assert not window.wants_rtt  # there is nothing left to find
    window.on_loss(MSS)
    window.on_loss(MSS)  # since the one before there was but one
    assert window.cwnd == 2 * MSS
    window.on_idle()
    assert window.cwnd == 2 * MSS


@both
def test_what_the_same_ack_lets_go_of_was_in_flight(make: type[Window]) -> None:
    """It tells of a loss behind most of the window, which counts nevertheless."""
    window, whole = make(MSS, 100 * MSS), make(MSS, 100 * MSS)
    for control in (window, whole):
        control.on_ack(MSS, 10 * MSS, 0.0, 0.1, 0.0)
    window.on_loss(2 * MSS)
    whole.on_loss(10 * MSS)
    assert window.cwnd == whole.cwnd > 2 * MSS


@both
def test_what_waits_behind_an_old_hole_was_not_in_flight(make: type[Window]) -> None:
    window = make(MSS, 1 << 20)
    window.on_loss(90 * MSS)
    assert window.cwnd < 10 * MSS


@both
def test_after_idleness_no_more_than_the_initial_window(make: type[Window]) -> None:
    window = make(MSS, 1 << 20)
    for _ in range(5):
        ack(window, window.cwnd, window.cwnd)
    window.on_idle()
    assert window.cwnd == 10 * MSS
    ack(window, 10 * MSS, 10 * MSS)
    assert window.cwnd == 20 * MSS


@both
def test_a_longer_round_trip_ends_the_first_slow_start(make: type[Window]) -> None:
    """Round trips of 50 ms and then of 60: a quarter of the growth for five rounds, then ssthresh."""
    window = make(MSS, 100 << 20)
    growth = []
    for rtt in [0.050] * 3 + [0.060] * 8:
        before, flight = window.cwnd, window.cwnd
        for _ in range(20):
            ack(window, flight // 20, flight, rtt=rtt)
        growth.append(round(window.cwnd / before, 2))
    assert growth[:3] == [2.0, 2.0, 2.0]
    assert 1.25 < growth[3] < 2.0  # the eighth sample tells
    assert growth[4:7] == [1.25] * 3
    assert growth[9:] == pytest.approx([1.0, 1.0], abs=0.01)
    assert window.ssthresh < window.cwnd
    assert not window.wants_rtt


@both
def test_loss_ends_the_first_slow_start_for_good(make: type[Window]) -> None:
    window = make(MSS, 1 << 20)
    assert window.wants_rtt
    window.on_timeout(10 * MSS)
    assert not window.wants_rtt
    for _ in range(100):
        ack(window, MSS, window.cwnd, rtt=0.05)
    assert window.cwnd > window.ssthresh
