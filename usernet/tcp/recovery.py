"""An episode of repair: from the first sign of loss until all is well.  Read RFC 6675 5, RFC 6582 3.2, RFC 8985 7.4.

A connection owns one of these only while something is sacked, duplicated, lost or probed for; flight.py knows what,
rack.py decides what is lost, and prr.py how much may leave meanwhile.
"""

from __future__ import annotations

import enum

from usernet.tcp.flight import Flight
from usernet.tcp.prr import RateReduction


class Phase(enum.Enum):
    OPEN = "open"  # nothing known lost
    FAST = "fast recovery"
    LOSS = "after a time-out"


class Recovery:
    """Sequence numbers are unwrapped ones, times seconds."""

    __slots__ = (
        "duplicates",
        "forced",
        "head_resent_at",
        "phase",
        "point",
        "probe",
        "probe_at",
        "probe_end",
        "probed",
        "reduction",
        "resent_at",
    )  # fmt: skip

    def __init__(self, una: int) -> None:
        self.phase = Phase.OPEN
        self.point = una  # FAST and LOSS are over once this is acknowledged
        self.reduction: RateReduction | None = None  # in FAST, if the window shrinks at all
        self.duplicates = 0  # duplicate ACKs without SACK: each says that one segment has left the network
        self.forced = False  # one segment may go whatever the congestion window says (RFC 6675 5, 4.3)
        self.head_resent_at = 0.0  # the oldest segment, for the first time; 0.0: not, or judged (RFC 3522)
        self.resent_at = 0.0  # the last
        self.probe: tuple[int, int] | None = None  # a tail loss probe that is to leave now
        self.probe_end = 0  # TLP.end_seq of one that has left and is not answered
        self.probed = False  # in FAST: the oldest has been sent once more because nothing was heard
        self.probe_at = 0.0  # when it left, if it was sent before: TLP.is_retrans

    def enter_fast(self, una: int, nxt: int, ssthresh: int) -> None:
        self.phase = Phase.FAST
        self.point = nxt
        self.forced = True
        self.head_resent_at = 0.0
        self.probe_end = 0
        self.probed = False
        self.reduction = RateReduction(nxt - una) if ssthresh < nxt - una else None

    def enter_loss(self, nxt: int) -> None:
        """A time-out, or packets too big for the path: go on from the oldest."""
        self.phase = Phase.LOSS
        self.point = nxt
        self.reduction = None
        self.duplicates = 0
        self.head_resent_at = 0.0
        self.probe_end = 0
        self.forced = True

    def advance(self, una: int) -> bool:
        """The cumulative acknowledgement has moved up to `una`; whether that ends the episode."""
        if self.phase is Phase.OPEN or una < self.point:
            return False
        self.end()
        return True

    def end(self) -> None:
        self.phase = Phase.OPEN
        self.reduction = None
        self.duplicates = 0
        self.forced = False

    def is_idle(self, flight: Flight) -> bool:
        """Whether the object has nothing left to remember."""
        return (
            self.phase is Phase.OPEN
            and not self.duplicates
            and not flight.sacked
            and not flight.lost
            and self.probe is None
            and not self.probe_end
        )

    def held(self, flight: Flight, mss: int) -> int:
        """Bytes that have left the network and are not acknowledged."""
        return flight.sacked or self.duplicates * mss
