"""IPv6 headers and the walk through extension headers.  Read RFC 8200 3 and 4, RFC 6946 (atomic fragments), RFC 5095.

The walk goes over Hop-by-Hop Options, Routing, Destination Options and Fragment, and stops at a fragment or at anything
else.  What RFC 8200 answers with a Parameter Problem is raised as `HeaderProblem`, which says where.
"""

from __future__ import annotations

from struct import Struct

from usernet.errors import WireError
from usernet.wire.ip import DEFAULT_HOP_LIMIT, IpPacket, is_multicast

HEADER_BYTES = 40
FRAGMENT_HEADER_BYTES = 8
MAX_PAYLOAD_BYTES = 65_535
MINIMUM_MTU = 1280

HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT = 44
NO_NEXT_HEADER = 59
DESTINATION_OPTIONS = 60

_MAX_EXTENSION_HEADERS = 8  # RFC 8504 5.3 lets a host limit the chain
_HEADER = Struct("!IHBB16s16s")
_FRAGMENT = Struct("!BBHI")


class HeaderProblem(WireError):
    """A packet that RFC 8200 answers with Parameter Problem `code`, pointing at `pointer` bytes into the packet."""

    def __init__(self, reason: str, code: int, pointer: int) -> None:
        super().__init__(reason)
        self.code = code
        self.pointer = pointer


ERRONEOUS_FIELD = 0  # RFC 4443 3.4
UNRECOGNIZED_NEXT_HEADER = 1
UNRECOGNIZED_OPTION = 2


def parse_ipv6(buf: bytes | bytearray | memoryview, offset: int = 0, end: int | None = None) -> IpPacket:
    """The packet in buf[offset:end]; bytes beyond its payload length are ignored.  Raises WireError."""
    if end is None:
        end = len(buf)
    if end - offset < HEADER_BYTES:
        raise WireError("ip-truncated")
    first, payload_bytes, protocol, hop_limit, source, destination = _HEADER.unpack_from(buf, offset)
    if first >> 28 != 6:
        raise WireError("ip-version")
    at = offset + HEADER_BYTES
    if at + payload_bytes > end:
        raise WireError("ip-length")
    end = at + payload_bytes
    tos = first >> 20 & 0xFF
    ident = fragment_offset = 0
    more = False
    next_header_at = 6
    for _ in range(_MAX_EXTENSION_HEADERS):
        if protocol not in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS):
            break
        if protocol == HOP_BY_HOP and next_header_at != 6:  # RFC 8200 4.1: only right behind the fixed header
            raise HeaderProblem("ip-next-header", UNRECOGNIZED_NEXT_HEADER, next_header_at)
        header_end = _extension_end(buf, at, end, protocol)
        if protocol == FRAGMENT:
            protocol, ident, fragment_offset, more = _parse_fragment_header(buf, at, offset, end)
        else:
            if protocol == ROUTING:
                _check_routing(buf, at, offset)
            else:
                _check_options(buf, at, header_end, offset, is_multicast(destination))
            protocol = buf[at]
        next_header_at = at - offset
        at = header_end
        if more or fragment_offset:
            break  # the rest of the chain is in the reassembled packet
    else:
        raise WireError("ip-extension-headers")
    return IpPacket(
        source, destination, protocol, at, end, tos, hop_limit, ident, fragment_offset, more, next_header_at
    )


def _extension_end(buf: bytes | bytearray | memoryview, at: int, end: int, protocol: int) -> int:
    if end - at < 8:
        raise WireError("ip-extension-truncated")
    header_end = at + 8 if protocol == FRAGMENT else at + 8 + buf[at + 1] * 8
    if header_end > end:
        raise WireError("ip-extension-truncated")
    return header_end


def _parse_fragment_header(
    buf: bytes | bytearray | memoryview, at: int, offset: int, end: int
) -> tuple[int, int, int, bool]:
    """(next header, identification, offset in B, more) of RFC 8200 4.5."""
    protocol, _, field, ident = _FRAGMENT.unpack_from(buf, at)
    fragment_offset, more = field & 0xFFF8, bool(field & 1)
    length = end - at - FRAGMENT_HEADER_BYTES
    if more and length & 7:
        raise HeaderProblem("fragment-length", ERRONEOUS_FIELD, 4)  # points at Payload Length
    if fragment_offset + length > MAX_PAYLOAD_BYTES:
        raise HeaderProblem("fragment-too-long", ERRONEOUS_FIELD, at - offset + 2)  # points at Fragment Offset
    return protocol, ident, fragment_offset, more


def _check_routing(buf: bytes | bytearray | memoryview, at: int, offset: int) -> None:
    """Nobody routes through us: a routing header with segments left is refused (RFC 8200 4.4, RFC 5095 3)."""
    if buf[at + 3]:
        raise HeaderProblem("ip-routing-header", ERRONEOUS_FIELD, at - offset + 2)


def _check_options(buf: bytes | bytearray | memoryview, at: int, end: int, offset: int, multicast: bool) -> None:
    """Options other than padding are unknown here; the two highest bits say what to do about that (RFC 8200 4.2)."""
    at += 2
    while at < end:
        option = buf[at]
        if option == 0:  # Pad1
            at += 1
            continue
        if at + 1 >= end or at + 2 + buf[at + 1] > end:
            raise WireError("ip-options")
        action = option >> 6
        if action == 1 or (action == 3 and multicast):
            raise WireError("ip-unknown-option")
        if action:
            raise HeaderProblem("ip-unknown-option", UNRECOGNIZED_OPTION, at - offset)
        at += 2 + buf[at + 1]


def encode_ipv6(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    tos: int = 0,
    hop_limit: int = DEFAULT_HOP_LIMIT,
) -> bytes:
    """One packet without extension headers."""
    return _HEADER.pack(6 << 28 | tos << 20, len(payload), protocol, hop_limit, source, destination) + payload


def fragment_ipv6(
    source: bytes, destination: bytes, protocol: int, payload: bytes, mtu: int, ident: int
) -> list[bytes]:
    """The packets, none longer than mtu, that carry a payload: one when it fits, else fragments (RFC 8200 4.5)."""
    if HEADER_BYTES + len(payload) <= mtu:
        return [encode_ipv6(source, destination, protocol, payload)]
    step = (mtu - HEADER_BYTES - FRAGMENT_HEADER_BYTES) & ~7
    return [
        encode_ipv6(
            source,
            destination,
            FRAGMENT,
            _FRAGMENT.pack(protocol, 0, at | (at + step < len(payload)), ident) + payload[at : at + step],
        )
        for at in range(0, len(payload), step)
    ]
