"""Round-trip time and the retransmission time-out.  Read RFC 6298.

Samples come from one timed segment per round trip, or from a timestamp's echo when that segment had to be resent:
either way never from an ambiguous acknowledgement (Karn, RFC 6298 3).
"""

from __future__ import annotations

from typing import Final

INITIAL_RTO: Final = 1.0  # RFC 6298 2.1
MIN_VARIANCE: Final = 0.2  # as Linux: the 200 ms go on top of srtt, for a delayed ACK comes on top of it too
MAX_RTO: Final = 120.0  # RFC 6298 2.5
MIN_PROBE_MARGIN: Final = 0.010  # RFC 8985 7.2
MAX_ACK_DELAY: Final = 0.050  # Linux delays an ACK by 40 ms
_MAX_BACKOFF: Final = 10


class RttEstimator:
    """Seconds throughout; srtt is 0.0 before the first sample."""

    __slots__ = ("backoff", "least", "rto", "rttvar", "srtt")

    def __init__(self) -> None:
        self.srtt = 0.0
        self.rttvar = 0.0
        self.least = MAX_RTO  # the shortest of all (RFC 8985 6.2 step 1)
        self.rto = INITIAL_RTO
        self.backoff = 0  # doublings since the last answer

    def sample(self, seconds: float) -> None:
        """RFC 6298 2.2 and 2.3."""
        if seconds < self.least:
            self.least = seconds
        if self.srtt == 0.0:
            self.srtt = seconds if seconds > 1e-6 else 1e-6
            self.rttvar = seconds / 2
        else:
            self.rttvar += (abs(self.srtt - seconds) - self.rttvar) / 4
            self.srtt += (seconds - self.srtt) / 8
        variance = 4 * self.rttvar
        rto = self.srtt + (variance if variance > MIN_VARIANCE else MIN_VARIANCE)
        self.rto = rto if rto < MAX_RTO else MAX_RTO

    def timeout(self) -> float:
        """What to set the timer to now, back-off included (RFC 6298 5.5)."""
        return min(self.rto * (1 << self.backoff), MAX_RTO) if self.backoff else self.rto

    def probe_timeout(self, *, is_alone: bool) -> float:
        """How long after sending a lost tail is probed for (PTO); `is_alone`: one segment, whose ACK may be delayed.

        RFC 8985 7.2 waits two round trips; a quarter of one, or what the round trip varies by, tells as much (as RFC
        9002 6.2.1 has it), and a probe that was not needed costs one segment.
        """
        margin = max(self.srtt / 4, self.rttvar, MIN_PROBE_MARGIN)
        return min(self.srtt + margin + (MAX_ACK_DELAY if is_alone else 0.0), self.rto)

    def back_off(self) -> None:
        self.backoff = min(self.backoff + 1, _MAX_BACKOFF)
