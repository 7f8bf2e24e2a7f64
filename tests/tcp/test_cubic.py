"""RFC 9438.  Figures worked out by hand from its formulas, in segments of 1000 bytes."""

from __future__ import annotations

import pytest

from usernet.tcp.cubic import ALPHA, BETA, Cubic

MSS = 1000


def after_loss(segments: int, *, limit: int = 1 << 40) -> Cubic:
    """At 0.7 of `segments`, in the stage that follows their loss."""
    cubic = Cubic(MSS, limit)
    cubic.cwnd = segments * MSS
    cubic.on_loss(segments * MSS)
    return cubic


def round_trip(cubic: Cubic, now: float, rtt: float, acks: int = 10) -> None:
    """A window's worth of ACKs, spread over the round trip that begins at `now`."""
    cwnd = cubic.cwnd
    for at in range(acks):
        cubic.on_ack(cwnd // acks, cwnd, now + rtt * at / acks, rtt, 0.0)


def test_constants() -> None:
    assert BETA == 0.7
    assert pytest.approx(9 / 17) == ALPHA  # 3 * 0.3 / 1.7


def test_decrease() -> None:
    cubic = after_loss(1000)
    assert cubic.cwnd == cubic.ssthresh == 700_000


def test_k() -> None:
    """Figure 2: (1000 - 700) / 0.4 = 750 and its cube root 9.0856 s."""
    cubic = after_loss(1000)
    cubic.on_ack(MSS, cubic.cwnd, 50.0, 0.1, 0.0)
    assert cubic._k == pytest.approx(9.0856, abs=1e-4)
    assert cubic._t_epoch == 50.0


@pytest.mark.parametrize(
    ("t", "segments"),
    [
        (0.0, 700.0),  # 0.4 * -750 + 1000
        (1.0, 790.56),  # 0.4 * (-8.0856)^3 = 0.4 * -528.60 = -211.44, and rounding
        (9.0856, 1000.0),
        (12.0, 1009.90),  # 0.4 * 2.9144^3 = 0.4 * 24.754
    ],
)
def test_w_cubic(t: float, segments: float) -> None:
    cubic = after_loss(1000)
    cubic.on_ack(MSS, cubic.cwnd, 50.0, 0.1, 0.0)
    assert cubic._w_cubic(t) / MSS == pytest.approx(segments, rel=3e-3)


def test_the_window_follows_the_curve() -> None:
    """At 300 ms Reno would gain 0.53 segments a round trip, far less than the curve."""
    cubic = after_loss(1000)
    now, rtt = 10.0, 0.3
    while now < 10.0 + 9.0856 - rtt:
        round_trip(cubic, now, rtt)
        now += rtt
    assert cubic.cwnd / MSS == pytest.approx(1000, abs=2)
    while now < 10.0 + 15.0 - rtt / 2:
        round_trip(cubic, now, rtt)
        now += rtt
    assert cubic.cwnd / MSS == pytest.approx(1000 + 0.4 * 5.9144**3, rel=0.02)


def test_no_round_trip_more_than_halves_again() -> None:
    cubic = Cubic(MSS, 1 << 40)
    cubic.cwnd = 100 * MSS
    cubic.on_loss(100 * MSS)
    cubic.on_ack(MSS, cubic.cwnd, 1.0, 1.0, 0.0)
    cubic._t_epoch = -1000.0  # the curve is far above
    cubic._grown_at = 1.0
    before = cubic.cwnd
    cubic.on_ack(before, before, 1.5, 1.0, 0.0)
    assert cubic.cwnd == pytest.approx(1.5 * before, rel=1e-3)


def test_reno_friendly_region() -> None:
    """At 10 segments and 10 ms: 9/17 of a segment a round trip until the old window is reached, then a whole one."""
    cubic = after_loss(10)
    now, rtt = 1.0, 0.01
    assert cubic.cwnd == 7 * MSS
    for _ in range(5):
        round_trip(cubic, now, rtt)
        now += rtt
    assert cubic.cwnd / MSS == pytest.approx(7 + 5 * 9 / 17, abs=0.15)
    while cubic.cwnd < 10 * MSS:
        round_trip(cubic, now, rtt)
        now += rtt
    before = cubic.cwnd
    for _ in range(5):
        round_trip(cubic, now, rtt)
        now += rtt
    assert (cubic.cwnd - before) / MSS == pytest.approx(5, abs=0.5)


def test_fast_convergence() -> None:
    """A second loss below the first one's window, at 800: W_max = 800 * (1 + 0.7) / 2 = 680, not 800."""
    cubic = after_loss(1000)
    cubic.on_ack(MSS, cubic.cwnd, 1.0, 0.1, 0.0)
    cubic.cwnd = 800 * MSS
    cubic.on_loss(800 * MSS)
    assert cubic._w_max == pytest.approx(680 * MSS)
    assert cubic.cwnd == 560 * MSS
    cubic.on_ack(MSS, cubic.cwnd, 2.0, 0.1, 0.0)
    assert cubic._k == pytest.approx(300 ** (1 / 3), abs=1e-6)  # (680 - 560) / 0.4
    cubic.cwnd = 900 * MSS
    cubic.on_loss(900 * MSS)
    assert cubic._w_max == 900 * MSS  # above 680: nobody took anything


def test_after_a_time_out_k_is_zero() -> None:
    """4.8: W_max is where slow start ended, and the curve rises from there."""
    cubic = Cubic(MSS, 1 << 40)
    cubic.cwnd = 100 * MSS
    cubic.on_timeout(100 * MSS)
    assert (cubic.cwnd, cubic.ssthresh) == (MSS, 70 * MSS)
    now = 1.0
    while cubic.cwnd < 70 * MSS:
        cubic.on_ack(cubic.cwnd, cubic.cwnd, now, 0.1, 0.0)
        now += 0.1
    cubic.on_ack(MSS, cubic.cwnd, now, 0.1, 0.0)
    assert cubic._k == 0.0
    assert cubic._w_max == pytest.approx(70 * MSS, rel=0.01)


def test_time_that_was_not_used_does_not_count() -> None:
    cubic = after_loss(1000)
    used = after_loss(1000)
    for at in range(10):
        round_trip(cubic, 1.0 + at * 0.1, 0.1)
        round_trip(used, 1.0 + at * 0.1, 0.1)
    for at in range(10):
        cubic.on_ack(MSS, 10 * MSS, 2.0 + at, 0.1, 0.0)  # a trickle
    for at in range(10):
        round_trip(cubic, 60.0 + at * 0.1, 0.1)
        round_trip(used, 2.0 + at * 0.1, 0.1)
    assert cubic.cwnd == pytest.approx(used.cwnd, rel=0.01)


def test_idleness_begins_a_new_stage() -> None:
    cubic = after_loss(8)
    cubic.on_ack(MSS, cubic.cwnd, 1.0, 0.1, 0.0)
    cubic.on_idle()
    cubic.on_ack(MSS, cubic.cwnd, 500.0, 0.1, 0.0)
    assert cubic._t_epoch == 500.0


def test_fractions_of_a_byte_add_up() -> None:
    """Near the plateau an ACK is worth less than a byte."""
    cubic = after_loss(10_000)
    cubic.on_ack(MSS, cubic.cwnd, 1.0, 0.1, 0.0)
    cubic._w_max = cubic.cwnd + 50.0
    cubic._k = 0.0
    cubic._w_est = 0.0
    before = cubic.cwnd
    for _ in range(10_000):
        cubic.on_ack(MSS, cubic.cwnd, 1.0, 0.0001, 0.0)
    assert 20 <= cubic.cwnd - before <= 50
