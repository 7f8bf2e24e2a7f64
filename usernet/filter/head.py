"""What the filter reads of a packet.  Read RFC 791, RFC 8200 4.5, and RFC 1858 and 3128: what fragments hide."""

from __future__ import annotations

from typing import Final, NamedTuple

from usernet.errors import WireError
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP
from usernet.wire.ipv6 import FRAGMENT

# In units of 8 B: an earlier fragment could lie over TCP's header behind the longest one of IPv4.
MIN_FRAGMENT_OFFSET: Final = (60 + 20) // 8
LATER_FRAGMENT: Final = -1  # in the place of a protocol
TRANSPORT_BYTES: Final = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}


class Head(NamedTuple):
    """What the filter reads of a packet.  `kind`: flags of TCP; type and code of ICMP."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    kind: int = 0


def is_link_local(address: bytes) -> bool:
    """RFC 3927 and RFC 4291 2.5.6."""
    if len(address) == 4:
        return address.startswith(b"\xa9\xfe")
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def read_head(buf: bytes | bytearray, start: int, end: int, *, merged: bool) -> Head:
    """The packet in buf[start:end]; of a merged one the header tells a shorter length.  Raises WireError.

    Of IPv6's extension headers only a fragment's is looked behind, and only right behind the fixed header: with any
    other its number is the protocol.
    """
    if end - start < 20:
        raise WireError("filter-short")
    if buf[start] >> 4 == 4:
        transport = start + (buf[start] & 15) * 4
        total = buf[start + 2] << 8 | buf[start + 3]
        protocol = buf[start + 9]
        fragment = (buf[start + 6] & 0x1F) << 8 | buf[start + 7]
        source, destination = bytes(buf[start + 12 : start + 16]), bytes(buf[start + 16 : start + 20])
        fixed = 20
    elif buf[start] >> 4 == 6:
        if end - start < 40:
            raise WireError("filter-short")
        transport = start + 40
        total = 40 + (buf[start + 4] << 8 | buf[start + 5])
        protocol, fragment = buf[start + 6], 0
        source, destination = bytes(buf[start + 8 : start + 24]), bytes(buf[start + 24 : start + 40])
        fixed = 40
        if protocol == FRAGMENT:
            fixed = 48
            if total >= fixed and end - start >= fixed:
                protocol, fragment = buf[transport], (buf[transport + 2] << 8 | buf[transport + 3]) >> 3
            transport += 8
    else:
        raise WireError("filter-not-ip")
    if not merged:
        if total > end - start:
            raise WireError("filter-short")
        end = start + total
    if transport - start < fixed or transport > end:
        raise WireError("filter-short")
    if fragment:
        if fragment < MIN_FRAGMENT_OFFSET:
            raise WireError("filter-tiny-fragment")
        return Head(source, destination, LATER_FRAGMENT)
    if end - transport < TRANSPORT_BYTES.get(protocol, 0):
        raise WireError("filter-short")
    if protocol not in TRANSPORT_BYTES:
        return Head(source, destination, protocol)
    first, second = buf[transport] << 8 | buf[transport + 1], buf[transport + 2] << 8 | buf[transport + 3]
    if protocol in (ICMP, ICMPV6):
        if (protocol == ICMP) != (fixed == 20):  # the other family's: nobody's
            raise WireError("filter-protocol")
        return Head(source, destination, protocol, kind=first)
    return Head(source, destination, protocol, first, second, buf[transport + 13] if protocol == TCP else 0)
