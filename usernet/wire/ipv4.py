"""IPv4 headers.  Read RFC 791 3.1, RFC 1122 3.2.1, RFC 6864 (what the identification is for)."""

from __future__ import annotations

from struct import Struct

from usernet.errors import WireError
from usernet.wire.checksum import checksum
from usernet.wire.ip import DEFAULT_HOP_LIMIT, IpPacket

HEADER_BYTES = 20
MAX_PACKET_BYTES = 65_535

_HEADER = Struct("!BBHHHBBH4s4s")
_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS = 0x2000
_LOOSE_SOURCE_ROUTE = 131
_STRICT_SOURCE_ROUTE = 137


def parse_ipv4(buf: bytes | bytearray | memoryview, offset: int = 0, end: int | None = None) -> IpPacket:
    """The packet in buf[offset:end]; bytes beyond its total length are ignored.  Raises WireError."""
    if end is None:
        end = len(buf)
    if end - offset < HEADER_BYTES:
        raise WireError("ip-truncated")
    first, tos, total, ident, fragment, ttl, protocol, _, source, destination = _HEADER.unpack_from(buf, offset)
    header = (first & 15) * 4
    if first >> 4 != 4:
        raise WireError("ip-version")
    if header < HEADER_BYTES or total < header or offset + total > end:
        raise WireError("ip-length")
    if checksum(buf[offset : offset + header]):  # RFC 1122 3.2.1.2
        raise WireError("ip-checksum")
    if header > HEADER_BYTES:
        _refuse_source_route(bytes(buf[offset + HEADER_BYTES : offset + header]))
    at = (fragment & 0x1FFF) * 8
    more = bool(fragment & _MORE_FRAGMENTS)
    if at + total - header > MAX_PACKET_BYTES - HEADER_BYTES:
        raise WireError("fragment-too-long")
    if more and (total - header) & 7:
        raise WireError("fragment-length")
    return IpPacket(source, destination, protocol, offset + header, offset + total, tos, ttl, ident, at, more, 9)


def _refuse_source_route(options: bytes) -> None:
    """Options are ignored, but a source-routed packet is dropped: its source says nothing (RFC 7126 4.3, 4.4)."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if at + 1 >= len(options) or options[at + 1] < 2:
            raise WireError("ip-options")
        if options[at] in (_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE):
            raise WireError("source-route")
        at += options[at + 1]


def encode_ipv4(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    tos: int = 0,
    ttl: int = DEFAULT_HOP_LIMIT,
    ident: int = 0,
    fragment_offset: int = 0,
    more_fragments: bool = False,
) -> bytes:
    """One packet.  A whole datagram (atomic, RFC 6864 4.1) says Don't Fragment; a fragment does not."""
    if fragment_offset or more_fragments:
        fragment = fragment_offset >> 3 | (_MORE_FRAGMENTS if more_fragments else 0)
    else:
        fragment = _DONT_FRAGMENT
    total = HEADER_BYTES + len(payload)
    header = _HEADER.pack(0x45, tos, total, ident, fragment, ttl, protocol, 0, source, destination)
    return b"".join((header[:10], checksum(header).to_bytes(2, "big"), header[12:], payload))


def fragment_ipv4(
    source: bytes, destination: bytes, protocol: int, payload: bytes, mtu: int, ident: int
) -> list[bytes]:
    """The packets, none longer than mtu, that carry a payload: one when it fits, else fragments (RFC 791 3.2)."""
    if HEADER_BYTES + len(payload) <= mtu:
        return [encode_ipv4(source, destination, protocol, payload)]
    step = (mtu - HEADER_BYTES) & ~7
    return [
        encode_ipv4(
            source,
            destination,
            protocol,
            payload[at : at + step],
            ident=ident,
            fragment_offset=at,
            more_fragments=at + step < len(payload),
        )
        for at in range(0, len(payload), step)
    ]
