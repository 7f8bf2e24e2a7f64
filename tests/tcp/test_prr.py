"""RFC 6937: what leaves during fast recovery."""

from __future__ import annotations

from usernet.tcp.prr import RateReduction

MSS = 10


def test_as_much_leaves_as_the_new_window_is_of_the_old() -> None:
    """RFC 6937 4's example: a flight of 20 segments, one lost, half the window: every second ACK sends one."""
    reduction = RateReduction(20 * MSS)
    sent = 0
    for ack in range(1, 20):
        pipe = 19 * MSS - ack * MSS + sent
        reduction.on_ack(MSS, pipe, 10 * MSS, MSS)
        if reduction.quota >= MSS:
            size = reduction.quota // MSS * MSS
            reduction.on_send(size)
            sent += size
    assert sent == 10 * MSS


def test_the_first_retransmission_goes_at_once() -> None:
    reduction = RateReduction(20 * MSS)
    reduction.on_ack(0, 19 * MSS, 10 * MSS, MSS)
    assert reduction.quota == MSS


def test_after_heavy_losses_the_flight_grows_back_as_in_slow_start() -> None:
    """RFC 6937 4, the second example: less than ssthresh is left, so two leave for each that arrives, and no more."""
    reduction = RateReduction(20 * MSS)
    reduction.on_ack(MSS, 4 * MSS, 10 * MSS, MSS)
    assert reduction.quota == 2 * MSS
    reduction.on_send(2 * MSS)
    reduction.on_ack(MSS, 5 * MSS, 10 * MSS, MSS)
    assert reduction.quota == 2 * MSS
    reduction.on_send(2 * MSS)
    reduction.on_ack(9 * MSS, 9 * MSS, 10 * MSS, MSS)
    assert reduction.quota == MSS  # ssthresh is the bound


def test_what_tells_of_nothing_lets_nothing_leave() -> None:
    """A duplicate's report, or the reordering timer: a peer could ask for any number of segments by those."""
    reduction = RateReduction(20 * MSS)
    reduction.on_ack(MSS, 4 * MSS, 10 * MSS, MSS)
    reduction.on_send(2 * MSS)
    reduction.on_ack(0, 4 * MSS, 10 * MSS, MSS)
    assert reduction.quota == 0
