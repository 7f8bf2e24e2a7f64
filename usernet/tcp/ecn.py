"""Congestion that routers mark instead of losing packets for it: ECN.  Read RFC 3168 6.1 and RFC 8311 2.

Agreed on in the handshake, like Linux's `tcp_ecn`: we say yes to who asks, and ask if the settings say so.  Then data
sent for the first time is ECN-capable, ECT(0): nothing else is, for its loss or mark would tell nobody (6.1.1, 6.1.4
to 6.1.6).

As a receiver: since data came marked every segment of ours says ECE, until one of theirs says CWR.  As a sender: what
says ECE shrinks the window as a loss would, once a round trip, and the next new data says CWR.
"""

from __future__ import annotations

from typing import Final

from usernet.tcp.settings import TcpSettings
from usernet.wire.tcp import ACK, CWR, ECE, TcpSegment

# The first two bytes of IP headers that say ECT(0) (RFC 3168 5); ECT(1) is for experiments (RFC 8311 4.2).
_CAPABLE_4: Final = bytes((0x45, 0x02))
_CAPABLE_6: Final = bytes((0x60, 0x20))
_ASKING_SYNS: Final = 2  # RFC 3168 6.1.1.1: some paths lose what asks


class Ecn:
    """What a connection that uses ECN remembers.  Sequence numbers are unwrapped ones."""

    __slots__ = ("echoes", "marks", "point", "reductions", "says_cwr")

    def __init__(self) -> None:
        self.point = 0  # SND.NXT when the window shrank last: what is acknowledged up to there is of before
        self.reductions = 0  # because of ECE, for statistics
        self.marks = 0  # segments of theirs that were marked, too
        self.says_cwr = False  # the next new data does
        self.echoes = False  # whatever we send says ECE

    def arrives(self, flags: int, marked: int) -> bool:
        """Data of theirs is here, so many segments of it marked; whether it wants to be acknowledged at once."""
        before = self.echoes
        if flags & CWR:
            self.echoes = False
        if marked:  # RFC 3168 6.1.3: after the CWR of the same segment
            self.echoes = True
            self.marks += marked
        # Linux answers at once too: who has just shrunk its window may have nothing else to send
        return bool(flags & CWR) or self.echoes is not before

    def notes_loss(self, una: int, nxt: int) -> bool:
        """Something that left from `una` on is lost; whether the window is still to shrink for it (RFC 3168 6.1.2)."""
        if una < self.point:
            return False
        self.has_shrunk(nxt)
        return True

    def has_shrunk(self, nxt: int) -> None:
        """The window has, for whatever reason (RFC 3168 6.1.2)."""
        self.point = nxt
        self.says_cwr = True


def capable(header: bytes) -> bytes:
    """The header of a super-packet with ECT(0)."""
    if header[0] != _CAPABLE_4[0]:
        return _CAPABLE_6 + header[2:]
    checksum = ((header[10] << 8 | header[11]) - _CAPABLE_4[1]) % 65535  # RFC 1624
    return b"".join((_CAPABLE_4, header[2:10], checksum.to_bytes(2, "big"), header[12:]))


def asks(settings: TcpSettings, syns_resent: int) -> bool:
    """Whether our next SYN asks for ECN; and, once it is answered, whether all of them did (RFC 3168 6.1.1)."""
    return settings.ecn_request and syns_resent < _ASKING_SYNS


def agrees(settings: TcpSettings, syn: TcpSegment, syns_resent: int) -> bool:
    """Whether their SYN or SYN-ACK makes this connection use ECN (RFC 3168 6.1.1)."""
    said = syn.flags & (ECE | CWR)
    if syn.flags & ACK:
        return said == ECE and asks(settings, syns_resent)
    return said == ECE | CWR and (settings.ecn or settings.ecn_request)
