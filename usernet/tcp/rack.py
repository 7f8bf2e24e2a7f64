"""Lost or only late: by time.  Read RFC 8985 6 (RACK).

What left before something that has arrived is lost once it is later than that by the reordering window.  The window is
nothing until packets are seen to overtake each other; it grows when what was sent again turns out not to have been
lost, and shrinks when that has not happened for a while.

A connection has one of these from its first SACK on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from usernet.tcp.flight import Delivered, Flight
from usernet.tcp.rtt import RttEstimator

DUPLICATE_THRESHOLD: Final = 3  # RFC 5681 3.2, RFC 8985 3.3.1
PERSISTENCE: Final = 16  # recoveries (RFC 8985 6.2 step 4)

_GRANULARITY: Final = 0.001  # s: less than that is what bursts and timers make, not the path
_ROUNDING: Final = 1e-6


class Rack:
    """The names of the fields are the RFC's, or say what the RFC's do."""

    __slots__ = (
        "_end_seq", "_fack", "_lag", "_multiplier", "_persist", "_round_end", "_xmit_ts", "began", "reordering_seen",
        "resent", "rtt", "stamped",
    )  # fmt: skip

    def __init__(self, una: int) -> None:
        self._xmit_ts = 0.0  # the newest that has arrived: when it left, where it ends, and what it took
        self._end_seq = una
        self.rtt = 0.0
        self._fack = una  # RACK.fack: the highest that has arrived
        self._multiplier = 1  # RACK.reo_wnd_mult
        self._persist = 0  # RACK.reo_wnd_persist
        self._round_end = una  # the window grows once per round trip
        self.reordering_seen = False
        self.began = una  # SND.UNA when the latest recovery did
        self.resent = 0  # bytes sent again since then and not reported as duplicates
        self.stamped = 0.0  # what time the timestamp of the last repair tells
        self._lag = 0.0  # s by which that was behind

    def arrived(
        self, news: Iterable[Delivered], rtt: RttEstimator, now: float, echo_age: float, *, is_sack: bool
    ) -> None:
        """Steps 2 and 3, for all that one acknowledgement tells; `echo_age` is that of its timestamp, or 0.0.

        Only SACK shows reordering: what is acknowledged late may have been reported in an ACK that was lost.
        """
        fack = self._fack
        for start, end, at, again in news:
            taken = now - at
            oldest = taken + self._lag + _GRANULARITY
            if again and (taken < rtt.least - _ROUNDING or (echo_age > oldest and not is_sack)):
                continue  # it answers what had been sent before (an echo is of what came in order: RFC 7323 4.3)
            if (at, end) > (self._xmit_ts, self._end_seq):
                self._xmit_ts, self._end_seq = at, end
                self.rtt = taken
            if end > self._fack:
                self._fack = end
            elif is_sack and start < fack and not again:
                self.reordering_seen = True

    def recovers(self, una: int) -> None:
        """A recovery begins."""
        self.began = una
        self.resent = 0

    def stamp(self, now: float, before: float) -> float:
        """What time the timestamp of a repair tells, of what had left at `before`: one in the middle, where packets
        overtake each other.

        A repair that fills the first gap raises the peer's TS.Recent.  What left a little before it and arrives after
        it would be refused there (RFC 7323 5.3 R1), and one loss would make the next.  The middle is newer than all
        that the peer has had in order, and still tells which of the two is answered (RFC 3522).
        """
        self.stamped = max(self.stamped, (before + now) / 2 if self.reordering_seen else now)
        self._lag = now - self.stamped
        return self.stamped

    def was_wrong(self, una: int, nxt: int) -> None:
        """What was sent again had not been lost (step 4), or was not when its acknowledgement was."""
        if una >= self._round_end:
            self._round_end = nxt
            self._multiplier += 1
            self._persist = PERSISTENCE

    def recovered(self) -> None:
        """A recovery is over."""
        self._persist -= 1
        if self._persist <= 0:
            self._multiplier = 1

    def window(self, flight: Flight, rtt: RttEstimator, mss: int, *, is_recovering: bool) -> float:
        """RACK.reo_wnd in seconds (step 4)."""
        if not self.reordering_seen and (is_recovering or flight.sacked_segments(mss) >= DUPLICATE_THRESHOLD):
            return 0.0
        return max(min(self._multiplier * rtt.least / 4, rtt.srtt), _GRANULARITY)

    def detect(self, flight: Flight, now: float, window: float) -> float:
        """Mark what is lost (step 5); when to look again."""
        return flight.lose_overdue((self._xmit_ts, self._end_seq), self.rtt + window, now + _ROUNDING)
