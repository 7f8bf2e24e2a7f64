"""Which segment size the path takes, found out by sending.  Read RFC 4821 7, RFC 8899 5.

A connection has one of these from its first suspicion on that its path is narrower than the tunnel, until it knows that
it is not; blackhole.py moves it along.  Two searches, one after the other:

1. Downwards, when large segments vanish.  A time-out alone may be an outage, so it also sends an empty segment that
   must be answered: an answer, and still no acknowledgement by the next time-out, says that it is a matter of size.
2. Upwards, between a size that arrives and the tunnel's own: with one segment of new data that is larger than others.
   At once after the first search, for it may have been plain loss after all; else when what is known has grown old.
"""

from __future__ import annotations

from typing import Final

BASE_MTU: Final = 1200  # BASE_PLPMTU (RFC 8899 5.1.2)
LEAST_MTU: Final = 576
MAX_PROBES: Final = 3  # of one size: any of them may be lost like other segments (RFC 8899 5.1.2)
ENOUGH: Final = 32  # B: a search that has come as near as that is over

_NEVER: Final = float("inf")


class MtuSearch:
    """Sizes are those of IP packets, sequence numbers unwrapped ones, times seconds."""

    __slots__ = (
        "_answers", "_failures", "_too_large", "asked_at", "is_unproven", "next_at", "probe_end", "probe_mtu",
        "probe_start",
    )  # fmt: skip

    def __init__(self, next_at: float = _NEVER) -> None:
        self.next_at = next_at  # when to look whether more passes
        self.asked_at = 0.0  # when the empty segment left; 0.0: not since the last acknowledgement
        self._answers = 0  # to them, with nothing acknowledged and the size the same
        self.is_unproven = False  # the size is smaller now, and nothing of that size has arrived yet
        self.probe_mtu = 0  # a larger segment is on its way
        self.probe_start = self.probe_end = 0
        self._too_large = 0  # the smallest known not to arrive; 0: none
        self._failures = 0  # of the size that is being tried

    def lowered(self, mtu: int, heard_at: float) -> int:
        """A time-out: the size to go down to; 0 where nothing says that it is a matter of size."""
        if not self.asked_at or heard_at <= self.asked_at:
            return 0
        self._answers += 1
        if mtu <= BASE_MTU and self._answers < 2:  # few paths are that narrow, and on bad ones plain loss looks like it
            return 0
        self._answers = 0
        self.is_unproven = True
        return step_below(mtu)

    def progressed(self) -> None:
        """Something is acknowledged."""
        self.asked_at = 0.0
        self._answers = 0

    def narrowed(self, next_at: float) -> None:
        """The size has become smaller: what was tried before is of another time."""
        self._too_large = self._failures = 0
        self.next_at = next_at

    def candidate(self, mtu: int, largest: int) -> int:
        """What to try next: all the path could have, or half-way between what passes and what does not."""
        return (mtu + self._too_large) // 2 if self._too_large else largest

    def sent(self, start: int, end: int, mtu: int) -> None:
        """The larger segment has left."""
        self.probe_start, self.probe_end, self.probe_mtu = start, end, mtu

    def arrived(self, now: float) -> None:
        self.probe_mtu = 0
        self._failures = 0
        self.next_at = now

    def failed(self, mtu: int, now: float, again_after: float) -> bool:
        """It was lost; whether that has happened to this size often enough to believe it.

        When that leaves nothing worth a search, all of it is asked again `again_after` seconds later.
        """
        tried, self.probe_mtu = self.probe_mtu, 0
        self._failures += 1
        if self._failures < MAX_PROBES:
            return False
        self._failures = 0
        self._too_large = tried
        if tried - mtu < ENOUGH:
            self._too_large = 0
            self.next_at = now + again_after
        return True


def step_below(mtu: int) -> int:
    return BASE_MTU if mtu > BASE_MTU else LEAST_MTU
