"""Datagrams out of fragments.  Read RFC 791 3.2, RFC 8200 4.5, RFC 5722 (overlaps), RFC 1122 3.3.2.

A datagram of which two fragments overlap is discarded with all that still comes of it: nobody honest sends such.  An
exact repetition is a duplicate, which networks do make.  Memory is bounded by evicting the datagram that began first;
what a fragment costs besides its bytes is counted too, so that many tiny ones are no way around it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from usernet.burst.ecn import CE
from usernet.burst.packets import Drops
from usernet.stack.timers import Timer
from usernet.wire.icmp import MAX_ERROR_BYTES_V6
from usernet.wire.ip import IpPacket
from usernet.wire.ipv4 import encode_ipv4
from usernet.wire.ipv6 import encode_ipv6

CAPACITY_V4: Final = 4 << 20  # B
CAPACITY_V6: Final = 3 << 20
TIMEOUT_V4: Final = 30.0  # seconds
TIMEOUT_V6: Final = 60.0  # RFC 8200 4.5

_FRAGMENT_OVERHEAD: Final = 150  # B: the objects around a fragment's bytes
_DATAGRAM_OVERHEAD: Final = 700

Key = tuple[bytes, bytes, int, int]


class _Datagram:
    __slots__ = ("deadline", "first", "is_marked", "length", "offsets", "pieces", "protocol", "received", "size")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.first = b""  # the first fragment, as far as an ICMP error quotes it
        self.protocol = 0  # as the first fragment has it (RFC 8200 4.5)
        self.length = -1  # B of the whole payload, once the last fragment has come
        self.offsets: list[int] | None = []  # sorted; None once discarded
        self.pieces: list[bytes] = []  # beside `offsets`
        self.received = 0  # B of payload
        self.size = _DATAGRAM_OVERHEAD  # B of memory
        self.is_marked = False  # one of them met congestion

    def discard(self) -> None:
        """Forget the bytes, remember that the rest is not wanted either (RFC 5722 4)."""
        self.offsets, self.pieces, self.size = None, [], _DATAGRAM_OVERHEAD


class Reassembler(Timer):
    """Fragments of one family.  A timer, so that the wheel can say when the oldest datagram is given up."""

    __slots__ = ("_capacity", "_datagrams", "_drops", "_timeout", "size")

    def __init__(self, capacity: int, timeout: float, drops: Drops) -> None:
        super().__init__()
        self.size = 0  # B held
        self._capacity = capacity
        self._timeout = timeout
        self._drops = drops
        self._datagrams: dict[Key, _Datagram] = {}  # in the order in which they began

    def __len__(self) -> int:
        return len(self._datagrams)

    def add(self, packet: IpPacket, buf: bytes | bytearray | memoryview, start: int, now: float) -> bytes | None:
        """Take a fragment, whose packet begins at `start`; the whole packet when it was the last one missing."""
        is_v4 = len(packet.source) == 4
        key = (packet.source, packet.destination, packet.ident, packet.protocol if is_v4 else 0)
        datagram = self._datagrams.get(key)
        if datagram is None:
            datagram = self._datagrams[key] = _Datagram(now + self._timeout)
            self.size += datagram.size
        self.size -= datagram.size
        whole = self._insert(datagram, packet, buf, start)
        self.size += datagram.size
        if whole:
            del self._datagrams[key]
            self.size -= datagram.size
            payload = b"".join(datagram.pieces)
            encode = encode_ipv4 if is_v4 else encode_ipv6
            tos = packet.tos | CE if datagram.is_marked else packet.tos  # RFC 3168 5.3
            return encode(packet.source, packet.destination, datagram.protocol, payload, tos=tos)
        while self.size > self._capacity:
            self._evict("fragment-evicted")
        return None

    def next_deadline(self) -> float | None:
        """When the oldest datagram is given up."""
        return next(iter(self._datagrams.values())).deadline if self._datagrams else None

    def expire(self, now: float) -> list[bytes]:
        """Give up what has waited too long; the first fragments of it, as far as an error quotes them."""
        firsts = []
        while self._datagrams:
            datagram = next(iter(self._datagrams.values()))
            if datagram.deadline > now:
                break
            self._evict("fragment-timeout")
            if datagram.first and datagram.offsets is not None:
                firsts.append(datagram.first)
        return firsts

    def _evict(self, reason: str) -> None:
        datagram = self._datagrams.pop(next(iter(self._datagrams)))
        self.size -= datagram.size
        self._drops.count(reason)

    def _insert(self, datagram: _Datagram, packet: IpPacket, buf: bytes | bytearray | memoryview, start: int) -> bool:
        """Whether the datagram is whole now."""
        offset, end = packet.fragment_offset, packet.fragment_offset + packet.end - packet.payload
        offsets, pieces = datagram.offsets, datagram.pieces
        if offsets is None or end == offset:
            self._drops.count("fragment-overlap" if offsets is None else "fragment-empty")
            return False
        piece = bytes(buf[packet.payload : packet.end])
        at = bisect_left(offsets, offset)
        if at < len(offsets) and offsets[at] == offset and pieces[at] == piece:
            self._drops.count("fragment-duplicate")
            return False
        last_end = offsets[-1] + len(pieces[-1]) if offsets else 0
        length = datagram.length if packet.more_fragments else end
        overlaps = (
            (at > 0 and offsets[at - 1] + len(pieces[at - 1]) > offset)
            or (at < len(offsets) and end > offsets[at])
            or (length != -1 and max(end, last_end) > length)
            or (datagram.length != -1 and length != datagram.length)
        )
        if overlaps:
            datagram.discard()
            self._drops.count("fragment-overlap")
            return False
        if packet.tos & CE == CE:
            datagram.is_marked = True
        if offset == 0:
            datagram.protocol = packet.protocol
            datagram.first = bytes(buf[start : min(packet.end, start + MAX_ERROR_BYTES_V6)])
            datagram.size += len(datagram.first)
        offsets.insert(at, offset)
        pieces.insert(at, piece)
        datagram.length = length
        datagram.received += end - offset
        datagram.size += end - offset + _FRAGMENT_OVERHEAD
        return datagram.received == length
