"""How much may be in flight.  Read RFC 5681, RFC 3465 (byte counting), RFC 6928 (initial window), RFC 7661
(validation).

`CongestionControl` is all that the rest of TCP knows: two numbers to read and the news of acknowledgements and
losses. Which bytes are lost is recovery.py's to say.
"""

from __future__ import annotations

from typing import Final, Protocol

_UNLIMITED: Final = 1 << 62
INITIAL_SEGMENTS: Final = 10  # RFC 6928


class CongestionControl(Protocol):
    """All in bytes."""

    cwnd: int
    ssthresh: int

    def set_mss(self, mss: int) -> None:
        """The path's segment size is known, or has changed."""

    def on_ack(self, acked: int, in_flight: int) -> None:
        """New data is acknowledged outside of fast recovery; `in_flight` was outstanding before."""

    def on_loss(self, in_flight: int) -> None:
        """Fast recovery begins."""

    def on_timeout(self, in_flight: int) -> None:
        """The first retransmission time-out since the last progress."""

    def on_idle(self) -> None:
        """Sending resumes after more than an RTO of silence with nothing outstanding."""


class Reno:
    """RFC 5681.  Slow start counts bytes without a limit per ACK (RFC 3465's L), for one ACK answers a whole burst
    here; a burst is at most one super-segment, and the tunnel's pump paces those."""

    __slots__ = ("_credit", "_limit", "_mss", "cwnd", "ssthresh")

    def __init__(self, mss: int, limit: int) -> None:
        self._limit = limit
        self._credit = 0  # bytes acknowledged towards the next increase in congestion avoidance
        self.ssthresh = _UNLIMITED
        self.set_mss(mss)
        self.cwnd = INITIAL_SEGMENTS * mss

    def set_mss(self, mss: int) -> None:
        self._mss = mss

    def on_ack(self, acked: int, in_flight: int) -> None:
        cwnd = self.cwnd
        if in_flight * 2 < cwnd:
            return  # RFC 7661: what is not used proves nothing
        if cwnd < self.ssthresh:
            grown = min(acked, self.ssthresh - cwnd)
            cwnd += grown
            acked -= grown
        if acked:
            self._credit += acked
            if self._credit >= cwnd:  # RFC 5681 3.1: one segment per round trip
                self._credit -= cwnd
                cwnd += self._mss
        self.cwnd = min(cwnd, self._limit)

    def on_loss(self, in_flight: int) -> None:
        self.ssthresh = max(in_flight // 2, 2 * self._mss)  # RFC 5681 (4)
        self.cwnd = self.ssthresh
        self._credit = 0

    def on_timeout(self, in_flight: int) -> None:
        self.ssthresh = max(in_flight // 2, 2 * self._mss)
        self.cwnd = self._mss  # the loss window
        self._credit = 0

    def on_idle(self) -> None:
        self.cwnd = min(self.cwnd, INITIAL_SEGMENTS * self._mss)  # RFC 5681 4.1
