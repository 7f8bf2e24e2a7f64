"""UDP.  Read RFC 768; RFC 8200 8.1 (no zero checksum over IPv6)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from usernet.errors import WireError
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import UDP

HEADER_BYTES = 8
MAX_PAYLOAD_BYTES_V4 = 65_507
MAX_PAYLOAD_BYTES_V6 = 65_527

_HEADER = Struct("!HHHH")


class UdpDatagram(NamedTuple):
    source_port: int
    destination_port: int
    payload: bytes

    def encode(self, source: bytes, destination: bytes) -> bytes:
        """Header and payload, checksummed for these addresses."""
        length = HEADER_BYTES + len(self.payload)
        plain = _HEADER.pack(self.source_port, self.destination_port, length, 0)
        total = checksum(plain + self.payload, pseudo_header_sum(source, destination, UDP, length))
        # RFC 768: a computed zero is sent as all ones, for zero says there is none
        return _HEADER.pack(self.source_port, self.destination_port, length, total or 0xFFFF) + self.payload


def parse_udp(
    buf: bytes | bytearray | memoryview,
    offset: int,
    end: int,
    source: bytes,
    destination: bytes,
    *,
    verified: bool = False,
) -> UdpDatagram:
    """The datagram in buf[offset:end], payload copied; `verified`: its checksum is known good.  Raises WireError."""
    if end - offset < HEADER_BYTES:
        raise WireError("udp-truncated")
    source_port, destination_port, length, field = _HEADER.unpack_from(buf, offset)
    if length < HEADER_BYTES or offset + length > end:
        raise WireError("udp-length")
    if not verified:
        if field == 0:
            if len(source) == 16:
                raise WireError("udp-no-checksum")
        elif checksum(buf[offset : offset + length], pseudo_header_sum(source, destination, UDP, length)):
            raise WireError("udp-checksum")
    if destination_port == 0:
        raise WireError("udp-port")
    return UdpDatagram(source_port, destination_port, bytes(buf[offset + HEADER_BYTES : offset + length]))
