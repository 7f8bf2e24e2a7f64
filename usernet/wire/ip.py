"""What both versions of IP share: addresses, protocol numbers and the parsed view of a packet.

Read RFC 791 and RFC 8200.  An inner address is `bytes` of 4 or 16 everywhere below the API and `str` at the API.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, NamedTuple

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58

DEFAULT_HOP_LIMIT: Final = 64  # RFC 1700
KEPT_ADDRESSES: Final = 256  # whose text was asked for last: parsing costs some 5 us, and the same few come again

UNSPECIFIED_V4: Final = bytes(4)
UNSPECIFIED_V6: Final = bytes(16)
LOOPBACK_V6: Final = bytes(15) + b"\1"
BROADCAST_V4: Final = b"\xff\xff\xff\xff"


class IpPacket(NamedTuple):
    """One parsed IP packet: where its payload lies in the buffer it was parsed from, and what its header says.

    Of a fragment the payload is the fragment's; `protocol` is then what the fragments together will hold.
    """

    source: bytes
    destination: bytes
    protocol: int  # of the payload, behind all extension headers
    payload: int  # offset in the buffer
    end: int  # offset in the buffer
    tos: int
    hop_limit: int
    ident: int
    fragment_offset: int  # B
    more_fragments: bool
    next_header_at: int  # where `protocol` stands, from the packet's start: the pointer of a Parameter Problem

    @property
    def is_fragment(self) -> bool:
        return self.more_fragments or self.fragment_offset > 0


@lru_cache(KEPT_ADDRESSES)
def pack_address(text: str) -> bytes:
    """'10.0.0.1' or 'fd00::1' as bytes; ValueError on anything else, scopes included."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} has a scope, which means nothing inside a tunnel")
    return address.packed


@lru_cache(KEPT_ADDRESSES)
def format_address(address: bytes) -> str:
    """The text of 4 or 16 bytes (RFC 5952)."""
    return str(ipaddress.ip_address(address))


def is_multicast(address: bytes) -> bool:
    """Also the limited broadcast and the reserved class E, none of which names one host."""
    return address[0] >= 224 if len(address) == 4 else address[0] == 0xFF


def names_one_host(address: bytes) -> bool:
    """Whether a packet can come from here and be answered (RFC 1122 3.2.1.3, RFC 4443 2.4 e.6)."""
    if len(address) == 4:
        return address[0] not in (0, 127) and address[0] < 224
    return address[0] != 0xFF and address not in (UNSPECIFIED_V6, LOOPBACK_V6)
