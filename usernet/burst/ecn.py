"""Congestion marks across the tunnel.  Required reading: RFC 6040, 4.1 (normal mode) and 4.2.

On the way out a packet's ECN field is copied to its outer header.  On the way in a mark that the outer header got on
its way is handed on to who understands it; to who does not, the packet is lost, as it would have been at the router.
"""

from __future__ import annotations

from itertools import groupby
from struct import Struct
from typing import Final

from usernet.burst.packets import SuperPacket

CE: Final = 3  # RFC 3168, 5: 0 is Not-ECT, ECT(1) is 1, ECT(0) is 2

_checksum = Struct("!H")


def by_ecn(packets: list[SuperPacket]) -> list[tuple[int, list[SuperPacket]]]:
    """Neighbours with the same ECN field."""
    for packet in packets:  # as good as always none has one, so this is all that it costs: 0.05 us each
        if packet[0][1:2] not in _PLAIN:
            return [(ecn, list(group)) for ecn, group in groupby(packets, _ecn)]
    return [(0, packets)]


# The second byte of what is surely Not-ECT: nothing in the ECN field of either version.  A keepalive has no such byte.
_PLAIN: Final = frozenset({b"", *(bytes([byte]) for byte in range(256) if not byte & 0x33)})


def _ecn(packet: SuperPacket) -> int:
    header = packet.header
    if not header:
        return 0
    return header[1] & 3 if header[0] < 0x50 else header[1] >> 4 & 3


def decapsulate(buf: memoryview, start: int, outer: int) -> None:
    """What the outer field says beyond the inner one, into the packet at `start`; drops are the caller's."""
    version_4 = buf[start] < 0x50
    at = 0 if version_4 else 4
    inner = buf[start + 1] >> at & 3
    if inner in (0, CE) or outer not in (1, CE):
        return
    buf[start + 1] += (outer - inner) << at
    if version_4:  # RFC 1624
        (checksum,) = _checksum.unpack_from(buf, start + 10)
        _checksum.pack_into(buf, start + 10, (checksum - (outer - inner)) % 65535)
