"""Which bytes are lost, and which to send again.  Read RFC 6675 (SACK), RFC 6582 (NewReno, for a peer without SACK).

A connection owns one of these only while something is sacked, duplicated or lost.  The scoreboard is two sorted
lists, starts and ends of the ranges the peer holds; sums over slices of them give every count that is needed, so
nothing has to be kept up to date.  What is unsacked below `lost_below` is lost; what of that lies below `resent_to`
is on its way again. To detect losses another way (RACK), raise `lost_below` and lower `resent_to` by other rules.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from typing import Final

DUPLICATE_THRESHOLD: Final = 3  # RFC 5681 3.2


class Phase(enum.Enum):
    OPEN = "open"  # nothing known lost
    FAST = "fast recovery"
    LOSS = "after a time-out"


class Recovery:
    """Sequence numbers are unwrapped ones."""

    __slots__ = (
        "duplicates",
        "ends",
        "forced",
        "lost_below",
        "phase",
        "point",
        "resent_at",
        "resent_nxt",
        "resent_to",
        "starts",
    )

    def __init__(self, una: int) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.lost_below = una
        self.resent_to = una
        self.resent_nxt = una  # SND.NXT and the time when something was last resent
        self.resent_at = 0.0
        self.point = una  # recovery is over once this is acknowledged
        self.phase = Phase.OPEN
        self.duplicates = 0  # duplicate ACKs without SACK: each says that one segment has left the network
        self.forced = False  # one segment may go whatever the congestion window says (RFC 6675 5, 4.3)

    def mark_sacked(self, start: int, end: int, most: int) -> None:
        """Merge one block, already found to lie within what was sent, unless that makes more than `most` ranges.

        The caller sets `most` by the segments in flight, so that work is bounded by what an honest peer could cause
        (CVE-2019-11477, CVE-2019-11478).
        """
        starts, ends = self.starts, self.ends
        first = bisect_left(ends, start)
        behind = bisect_right(starts, end)
        if first < behind:
            start = min(start, starts[first])
            end = max(end, ends[behind - 1])
        elif len(starts) >= most:
            return  # SACK is advice: what is not noted is merely sent again
        starts[first:behind] = [start]
        ends[first:behind] = [end]

    def detect(self, una: int, mss: int) -> bool:
        """Raise `lost_below` by IsLost() of RFC 6675 4; whether anything unacknowledged is lost.

        When as much has arrived of what was first sent after the last resending, that was lost too: begin again.
        """
        starts, ends = self.starts, self.ends
        if self.resent_to > una and ends and ends[-1] > self.resent_nxt + (DUPLICATE_THRESHOLD - 1) * mss:
            self.resent_to = una
        above = 0
        for count, at in enumerate(range(len(starts) - 1, -1, -1), 1):
            above += ends[at] - starts[at]
            if count >= DUPLICATE_THRESHOLD or above > (DUPLICATE_THRESHOLD - 1) * mss:
                self.lost_below = max(self.lost_below, starts[at])
                break
        return self.lost_below > una

    def enter_fast(self, una: int, nxt: int) -> None:
        self.phase = Phase.FAST
        self.point = nxt
        self.resent_to = max(self.resent_to, una)
        self.forced = True

    def lose_all(self, una: int, nxt: int) -> None:
        """Everything the peer does not hold is to be sent again: a time-out, or packets too big for the path."""
        if self.starts and self.starts[0] <= una:  # RFC 2018 8: it has thrown away what it had reported
            self.starts.clear()
            self.ends.clear()
        self.phase = Phase.LOSS
        self.point = nxt
        self.lost_below = nxt
        self.resent_to = una
        self.duplicates = 0
        self.forced = True

    def advance(self, una: int) -> None:
        """The cumulative acknowledgement has moved up to `una`."""
        behind = bisect_right(self.ends, una)
        del self.starts[:behind], self.ends[:behind]
        if self.phase is not Phase.OPEN and una >= self.point:
            self.phase = Phase.OPEN
            self.duplicates = 0
            self.forced = False

    def partial_ack(self, una: int, nxt: int, acked: int, mss: int) -> None:
        """Without SACK, during fast recovery: the next segment is lost too (RFC 6582 3.2 step 5)."""
        self.duplicates = max(0, self.duplicates - acked // mss + 1)
        self.lose_first(una, nxt, mss)
        self.resent_to = una
        self.forced = True

    def lose_first(self, una: int, nxt: int, mss: int) -> None:
        """One segment is lost, as far as anything was sent there."""
        self.lost_below = max(self.lost_below, min(una + mss, nxt))

    def is_idle(self, una: int) -> bool:
        """Whether the object has nothing left to remember."""
        return self.phase is Phase.OPEN and not self.starts and not self.duplicates and self.lost_below <= una

    def pipe(self, una: int, nxt: int, mss: int) -> int:
        """Bytes thought to be in flight (RFC 6675 4, Pipe)."""
        starts, ends = self.starts, self.ends
        gone = sum(ends) - sum(starts) if starts else self.duplicates * mss
        low = max(self.resent_to, una)
        if low < self.lost_below:  # lost and not yet resent: the unsacked part of [low, lost_below)
            first, behind = bisect_right(ends, low), bisect_left(starts, self.lost_below)
            held = 0
            if first < behind:
                held = sum(ends[first:behind]) - sum(starts[first:behind])
                held -= max(0, low - starts[first]) + max(0, ends[behind - 1] - self.lost_below)
            gone += self.lost_below - low - held
        return max(0, nxt - una - gone)

    def next_hole(self, una: int) -> tuple[int, int] | None:
        """The next lost range that has not been resent (RFC 6675 4, NextSeg rule 1)."""
        start = max(self.resent_to, una)
        at = bisect_right(self.ends, start)  # the first range that ends above start
        if at < len(self.starts) and self.starts[at] <= start:
            start = self.ends[at]
            at += 1
        end = self.lost_below
        if at < len(self.starts):
            end = min(end, self.starts[at])
        return (start, end) if start < end else None

    def resent(self, end: int, nxt: int, now: float) -> None:
        self.resent_to = end
        self.resent_nxt = nxt
        self.resent_at = now
        self.forced = False
