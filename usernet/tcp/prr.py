"""How fast the window shrinks: proportional rate reduction.  Read RFC 6937.

During fast recovery as much leaves as the new window's share of what arrives, so that sending neither stops for half a
round trip nor begins again with a burst.  When too little is in flight, it grows back as in slow start.
"""

from __future__ import annotations


class RateReduction:
    """One fast recovery's; sizes in bytes."""

    __slots__ = ("_delivered", "_flight_size", "_out", "quota")

    def __init__(self, flight_size: int) -> None:
        self._flight_size = max(flight_size, 1)  # RecoverFS
        self._delivered = 0  # prr_delivered
        self._out = 0  # prr_out
        self.quota = 0  # sndcnt: what may leave now

    def on_ack(self, delivered: int, pipe: int, ssthresh: int, mss: int) -> None:
        """RFC 6937 3.1, with the slow start reduction bound; what tells of nothing that has arrived frees nothing."""
        if not delivered and self._out:
            return
        self._delivered += delivered
        if pipe > ssthresh:
            self.quota = -(-self._delivered * ssthresh // self._flight_size) - self._out
        else:
            limit = max(self._delivered - self._out, delivered) + mss
            self.quota = min(ssthresh - pipe, limit)
        if not self._out:
            self.quota = max(self.quota, mss)  # the fast retransmit itself

    def on_send(self, size: int) -> None:
        self._out += size
        self.quota -= size
