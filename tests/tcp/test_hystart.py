"""RFC 9406, by its own figures: 8 samples, rounds by bytes, a threshold between 4 and 16 ms, 5 conservative rounds."""

from __future__ import annotations

import pytest

from usernet.tcp.hystart import HyStart

ROUND = 8000  # bytes, eight ACKs of 1000


def turn(hystart: HyStart, *rtts: float) -> None:
    """A round: each ACK's round trip; the last ACK ends it, and what was sent meanwhile is as much again."""
    for rtt in rtts:
        hystart.on_ack(ROUND // len(rtts), ROUND + ROUND // len(rtts), rtt)


def started(rtt: float) -> HyStart:
    """The first ACK finds no round and begins one; then one whole round at `rtt`."""
    hystart = HyStart()
    hystart.on_ack(1000, 1000 + ROUND, rtt)
    turn(hystart, *[rtt] * 8)
    assert hystart.divisor == 1
    return hystart


@pytest.mark.parametrize(
    ("rtt", "threshold"), [(0.010, 0.004), (0.032, 0.004), (0.080, 0.010), (0.128, 0.016), (0.600, 0.016)]
)
def test_the_threshold_is_an_eighth_between_4_and_16_ms(rtt: float, threshold: float) -> None:
    below, above = started(rtt), started(rtt)
    turn(below, *[rtt + threshold - 0.0001] * 8)
    turn(above, *[rtt + threshold + 0.0001] * 8)
    assert below.divisor == 1
    assert above.divisor == 4


def test_it_is_the_least_of_a_round_that_counts() -> None:
    hystart = started(0.05)
    turn(hystart, *[0.2] * 7, 0.051)
    assert hystart.divisor == 1


def test_seven_samples_do_not_suffice() -> None:
    hystart = started(0.05)
    turn(hystart, *[0.2] * 7)
    assert hystart.divisor == 1
    unknown = started(0.05)
    turn(unknown, *[0.2] * 7, 0.0)
    assert unknown.divisor == 1


def test_the_first_round_has_nothing_to_compare_with() -> None:
    hystart = HyStart()
    turn(hystart, *[0.5] * 8)
    assert hystart.divisor == 1


def test_five_conservative_rounds_and_it_is_over() -> None:
    """The round in which it begins is the first of the five."""
    hystart = started(0.05)
    for _ in range(4):
        turn(hystart, *[0.07] * 8)
        assert hystart.divisor == 4
        assert not hystart.is_over
    turn(hystart, *[0.07] * 8)
    assert hystart.is_over


def test_slow_start_resumes_when_it_was_noise() -> None:
    hystart = started(0.05)
    turn(hystart, *[0.07] * 8)
    turn(hystart, *[0.08] * 7, 0.069)
    assert hystart.divisor == 1
    turn(hystart, *[0.069] * 8)
    assert hystart.divisor == 1
    for _ in range(5):  # and may end anew, against a new baseline and with all its rounds
        assert not hystart.is_over
        turn(hystart, *[0.09] * 8)
        assert hystart.divisor == 4
    assert hystart.is_over


def test_a_forged_echo_is_not_a_sample() -> None:
    hystart = started(0.05)
    turn(hystart, *[-5.0] * 8)
    turn(hystart, *[0.2] * 8)
    assert hystart.divisor == 1  # the round before had no samples
