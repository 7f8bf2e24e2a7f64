"""How much may be in flight: the interface, and what every algorithm shares.  Read RFC 5681, RFC 3465 (byte counting),
RFC 6928 (initial window), RFC 7661 (validation); then reno.py, cubic.py and hystart.py.

`CongestionControl` is all that the rest of TCP knows: three values to read and the news of acknowledgements and losses.
Which bytes are lost is recovery.py's to say.  `TcpSettings.congestion_control` is what makes one.

`Window` is slow start and the bounds of the window; a subclass says how it grows after that and by how much it shrinks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Protocol

from usernet.tcp.hystart import HyStart

UNLIMITED: Final = 1 << 62
INITIAL_SEGMENTS: Final = 10  # RFC 6928 2
MIN_SEGMENTS: Final = 2  # RFC 5681 (4): the least ssthresh
LOSS_SEGMENTS: Final = 1  # RFC 5681 3.1, LW


class CongestionControl(Protocol):
    """Sizes in bytes, times in seconds.  Made with the segment size and the most that cwnd may ever be."""

    cwnd: int
    ssthresh: int
    wants_rtt: bool  # `on_ack` has a use for `rtt`, which costs something to find out

    def set_mss(self, mss: int) -> None:
        """The path's segment size is known, or has changed."""

    def on_ack(self, acked: int, in_flight: int, now: float, srtt: float, rtt: float) -> None:
        """New data is acknowledged outside of fast recovery; `in_flight` was outstanding before.

        `srtt` is the smoothed round trip; `rtt` is this acknowledgement's own, 0.0 when that is not known.
        """

    def on_loss(self, in_flight: int) -> None:
        """Fast recovery begins."""

    def on_ecn(self) -> None:
        """A router says that it is congested (RFC 3168 6.1.2)."""

    def on_timeout(self, in_flight: int) -> None:
        """The first retransmission time-out since the last progress."""

    def undo(self) -> None:
        """The latest loss or time-out that was told was none."""

    def on_syn_lost(self) -> None:
        """The connection is about to begin, and its SYN had to be sent again."""

    def on_idle(self) -> None:
        """Sending resumes after more than an RTO of silence with nothing outstanding."""


class Window(ABC):
    """Slow start counts bytes without a limit per ACK (RFC 3465's L, RFC 9406 4.3), for one ACK answers a whole burst
    here; a burst is at most one super-segment, and the tunnel's pump paces those."""

    __slots__ = ("_before", "_hystart", "_limit", "_mss", "_used", "cwnd", "ssthresh", "wants_rtt")

    def __init__(self, mss: int, limit: int) -> None:
        self._limit = limit
        self.ssthresh = UNLIMITED
        self._hystart: HyStart | None = None  # made when the window first grows
        self.wants_rtt = True  # RFC 9406 4.3: HyStart++ is for as long as ssthresh is not known
        self._before: tuple[int, int, HyStart | None] | None = None  # what the latest loss has changed
        self._used = 0  # the most that was in flight since the latest loss
        self.set_mss(mss)
        self.cwnd = INITIAL_SEGMENTS * mss

    def set_mss(self, mss: int) -> None:
        self._mss = mss

    def on_ack(self, acked: int, in_flight: int, now: float, srtt: float, rtt: float) -> None:
        if in_flight > self._used:
            self._used = in_flight
        if in_flight * 2 < self.cwnd:
            return  # RFC 7661: what is not used proves nothing
        if self.cwnd < self.ssthresh:
            acked = self._slow_start(acked, in_flight, rtt)
        if acked:
            self._avoid_congestion(acked, now, srtt)
        if self.cwnd >= self._limit:
            self.cwnd = self._limit
            if self.wants_rtt:
                self._leave_slow_start(self._limit)

    def on_loss(self, in_flight: int) -> None:
        self._shrink(in_flight)
        self.cwnd = self.ssthresh

    def on_ecn(self) -> None:
        self.on_loss(self.cwnd)  # RFC 3168 6.1.2: of the window, for a request may be marked too
        self._before = None  # nothing can show that there was no congestion

    def on_timeout(self, in_flight: int) -> None:
        self._shrink(in_flight)
        self.cwnd = LOSS_SEGMENTS * self._mss

    def undo(self) -> None:
        if self._before is not None:  # RFC 4015 3.2
            cwnd, self.ssthresh, self._hystart = self._before
            self.cwnd = max(self.cwnd, cwnd)
            self.wants_rtt = self.ssthresh == UNLIMITED
            self._before = None

    def on_syn_lost(self) -> None:
        self.cwnd = LOSS_SEGMENTS * self._mss  # RFC 5681 3.1: the initial window is one segment then

    def on_idle(self) -> None:
        self.cwnd = min(self.cwnd, INITIAL_SEGMENTS * self._mss)  # RFC 5681 4.1
        self._used = 0
        self._hystart = None  # what it had measured is old

    def _shrink(self, in_flight: int) -> None:
        """RFC 5681 (4), of the window as far as it was used.

        What is outstanding now may be little, because the ACK that tells of the loss acknowledges much, and may be too
        much, because the oldest hole has been open for long.
        """
        self._before = self.cwnd, self.ssthresh, self._hystart
        used = min(max(in_flight, self._used), self.cwnd)
        self._used = 0
        self._leave_slow_start(self._decrease(used))

    def _slow_start(self, acked: int, in_flight: int, rtt: float) -> int:
        """RFC 5681 3.1, RFC 9406 4.2.  What is left of `acked` when slow start ends within it."""
        if not self.wants_rtt:
            grown = min(acked, self.ssthresh - self.cwnd)
            self.cwnd += grown
            return acked - grown
        hystart = self._hystart = self._hystart or HyStart()
        self.cwnd += acked // hystart.divisor
        hystart.on_ack(acked, in_flight, rtt)
        if hystart.is_over:
            self._leave_slow_start(self.cwnd)
        return 0

    def _leave_slow_start(self, ssthresh: int) -> None:
        self.ssthresh = max(ssthresh, MIN_SEGMENTS * self._mss)
        self._hystart = None
        self.wants_rtt = False

    @abstractmethod
    def _avoid_congestion(self, acked: int, now: float, srtt: float) -> None:
        """Grow beyond ssthresh."""

    @abstractmethod
    def _decrease(self, in_flight: int) -> int:
        """Something is lost: the new ssthresh."""
