"""Reno: one segment more per round trip, half of it on loss.  Read RFC 5681 3.1."""

from __future__ import annotations

from usernet.tcp.congestion import Window


class Reno(Window):
    """RFC 5681."""

    __slots__ = ("_credit",)

    def __init__(self, mss: int, limit: int) -> None:
        super().__init__(mss, limit)
        self._credit = 0  # bytes acknowledged towards the next increase

    def _avoid_congestion(self, acked: int, now: float, srtt: float) -> None:
        self._credit += acked
        if self._credit >= self.cwnd:  # RFC 5681 3.1: one segment per round trip
            self._credit -= self.cwnd
            self.cwnd += self._mss

    def _decrease(self, in_flight: int) -> int:
        self._credit = 0
        return in_flight // 2  # RFC 5681 (4)
