"""HyStart++: leave slow start when the round trip grows, before anything is lost.  Read RFC 9406 4.

Once a round's least round trip is clearly above the last round's, the queue of the bottleneck is filling, or it was
noise.  Conservative slow start (CSS) goes on, four times slower, for some rounds to tell which: when the round trip
falls again, slow start resumes; else the window has found its size.

A round lasts until what was outstanding when it began is acknowledged.
"""

from __future__ import annotations

from typing import Final

MIN_RTT_THRESH: Final = 0.004  # s; these are RFC 9406 4.3
MAX_RTT_THRESH: Final = 0.016
MIN_RTT_DIVISOR: Final = 8
N_RTT_SAMPLE: Final = 8
CSS_GROWTH_DIVISOR: Final = 4
CSS_ROUNDS: Final = 5

_INFINITY: Final = float("inf")


class HyStart:
    """`divisor` divides what slow start would grow by; `is_over` says that slow start has done its work."""

    __slots__ = ("_baseline", "_current", "_last", "_left", "_rounds", "_samples", "divisor", "is_over")

    def __init__(self) -> None:
        self._left = 0  # bytes to be acknowledged before the round is over
        self._last = _INFINITY  # lastRoundMinRTT
        self._current = _INFINITY  # currentRoundMinRTT
        self._samples = 0  # rttSampleCount
        self._baseline = _INFINITY  # cssBaselineMinRtt
        self._rounds = 0  # of CSS that have begun
        self.divisor = 1  # CSS_GROWTH_DIVISOR in CSS
        self.is_over = False

    def on_ack(self, acked: int, in_flight: int, rtt: float) -> None:
        """`acked` bytes of `in_flight`, after `rtt` seconds if that is not 0.0."""
        if rtt > 0.0:
            self._current = min(self._current, rtt)
            self._samples += 1
            if self._samples >= N_RTT_SAMPLE:
                self._judge()
        self._left -= acked
        if self._left <= 0:
            self._left = in_flight - acked
            self._begin_round()

    def _judge(self) -> None:
        """RFC 9406 4.2, with enough samples of this round."""
        if self._rounds:
            if self._current < self._baseline:  # it was noise
                self._baseline = _INFINITY
                self._rounds = 0
                self.divisor = 1
        elif self._last != _INFINITY:
            thresh = max(MIN_RTT_THRESH, min(self._last / MIN_RTT_DIVISOR, MAX_RTT_THRESH))
            if self._current >= self._last + thresh:
                self._baseline = self._current
                self._rounds = 1  # the rest of this round counts as the first
                self.divisor = CSS_GROWTH_DIVISOR

    def _begin_round(self) -> None:
        self._last = self._current
        self._current = _INFINITY
        self._samples = 0
        if self._rounds:
            self.is_over = self._rounds >= CSS_ROUNDS
            self._rounds += 1
