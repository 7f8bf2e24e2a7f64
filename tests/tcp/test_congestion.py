"""RFC 5681."""

from __future__ import annotations

from usernet.tcp.congestion import Reno

MSS = 1000


def test_initial_window() -> None:
    assert Reno(MSS, 1 << 20).cwnd == 10 * MSS


def test_slow_start_doubles_however_few_acks_come() -> None:
    few, many = Reno(MSS, 1 << 20), Reno(MSS, 1 << 20)
    few.on_ack(10 * MSS, 10 * MSS)
    for _ in range(10):
        many.on_ack(MSS, 10 * MSS)
    assert few.cwnd == many.cwnd == 20 * MSS


def test_congestion_avoidance_adds_a_segment_a_round_trip() -> None:
    reno = Reno(MSS, 1 << 20)
    reno.on_loss(20 * MSS)
    assert reno.cwnd == reno.ssthresh == 10 * MSS
    for _ in range(10):
        reno.on_ack(MSS, 10 * MSS)
    assert reno.cwnd == 11 * MSS


def test_slow_start_ends_at_ssthresh() -> None:
    reno = Reno(MSS, 1 << 20)
    reno.on_timeout(8 * MSS)
    assert (reno.cwnd, reno.ssthresh) == (MSS, 4 * MSS)
    reno.on_ack(10 * MSS, 10 * MSS)
    assert reno.cwnd == 5 * MSS  # three of the ten took it to ssthresh, the rest made one round trip


def test_what_is_not_used_does_not_grow() -> None:
    reno = Reno(MSS, 1 << 20)
    reno.on_ack(2 * MSS, 2 * MSS)
    assert reno.cwnd == 10 * MSS


def test_bounds() -> None:
    reno = Reno(MSS, 12 * MSS)
    reno.on_ack(10 * MSS, 10 * MSS)
    assert reno.cwnd == 12 * MSS
    reno.on_loss(MSS)
    assert reno.cwnd == 2 * MSS
    reno.on_idle()
    assert reno.cwnd == 2 * MSS


def test_after_idleness_no_more_than_the_initial_window() -> None:
    reno = Reno(MSS, 1 << 20)
    for _ in range(5):
        reno.on_ack(reno.cwnd, reno.cwnd)
    reno.on_idle()
    assert reno.cwnd == 10 * MSS
