"""Either version of IP, decided by the first nibble or by an address's length."""

from __future__ import annotations

from functools import lru_cache

from usernet.errors import WireError
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import ICMP, IpPacket
from usernet.wire.ipv4 import encode_ipv4, fragment_ipv4, parse_ipv4
from usernet.wire.ipv6 import encode_ipv6, fragment_ipv6, parse_ipv6


def parse_packet(buf: bytes | bytearray | memoryview, offset: int = 0, end: int | None = None) -> IpPacket:
    """The packet in buf[offset:end].  Raises WireError."""
    if end is None:
        end = len(buf)
    if offset >= end:
        raise WireError("ip-truncated")
    return parse_ipv6(buf, offset, end) if buf[offset] >> 4 == 6 else parse_ipv4(buf, offset, end)


def encode_packet(
    source: bytes, destination: bytes, protocol: int, payload: bytes, *, tos: int = 0, hop_limit: int = 64
) -> bytes:
    """One packet of the addresses' family."""
    if len(source) == 4:
        return encode_ipv4(source, destination, protocol, payload, tos=tos, ttl=hop_limit)
    return encode_ipv6(source, destination, protocol, payload, tos=tos, hop_limit=hop_limit)


@lru_cache(256)
def header_before(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """The IP header of a whole packet, before a payload of `length` bytes: connections to one host begin alike."""
    return encode_packet(source, destination, protocol, bytes(length))[:-length]


def fragment(source: bytes, destination: bytes, protocol: int, payload: bytes, mtu: int, ident: int) -> list[bytes]:
    """Packets of at most mtu bytes that carry the payload; `ident` (32 bit; IPv4 keeps 16) names it if it is cut."""
    if len(source) == 4:
        return fragment_ipv4(source, destination, protocol, payload, mtu, ident & 0xFFFF)
    return fragment_ipv6(source, destination, protocol, payload, mtu, ident)


def checksum_holds(packet: IpPacket, buf: bytes | bytearray | memoryview) -> bool:
    """Whether the checksum of a whole TCP, UDP or ICMP message is right; UDP's optional zero is the caller's matter."""
    initial = 0
    if packet.protocol != ICMP:
        initial = pseudo_header_sum(packet.source, packet.destination, packet.protocol, packet.end - packet.payload)
    return checksum(buf[packet.payload : packet.end], initial) == 0
