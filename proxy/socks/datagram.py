"""The header of a datagram between a client and its UDP relay, without I/O.  Read RFC 1928 section 7.

    RSV (2)  FRAG (1)  ATYP (1)  DST.ADDR (4, 16, or a length and a name)  DST.PORT (2)  DATA

Two steps, because most datagrams need only the first: `header_end` finds where the data begins, and the bytes from ATYP
to there are a destination's key in the relay's tables; `parse_destination` says what a key means the first time it is
seen.
"""

from __future__ import annotations

import socket

from proxy.names import BadHost, parse_host
from proxy.socks.protocol import DOMAIN, IPV4, IPV6
from usernet.errors import WireError

PREFIX = b"\0\0\0"  # RSV, FRAG: a destination's key stands behind it
DESTINATION = len(PREFIX)  # where the key begins
IPV4_END, IPV6_END = DESTINATION + 7, DESTINATION + 19


def header_end(data: bytes | bytearray | memoryview, length: int) -> int:
    """Where the data begins in a client's datagram, the first `length` bytes of `data`.  Raises WireError."""
    if length < IPV4_END - 2:  # the shortest is a name of one byte
        raise WireError("udp-short")
    if data[0] or data[1]:
        raise WireError("udp-reserved")
    if data[2]:  # who does not reassemble "MUST drop any datagram whose FRAG field is other than X'00'"
        raise WireError("udp-fragment")
    kind = data[3]
    if kind == IPV4:
        end = IPV4_END
    elif kind == IPV6:
        end = IPV6_END
    elif kind == DOMAIN:
        end = DESTINATION + 2 + data[4] + 2
    else:
        raise WireError("udp-address-type")
    if length < end:
        raise WireError("udp-short")
    return end


def parse_destination(key: bytes) -> tuple[str, int]:
    """The host, a canonical address or a name, and the port of a key whose length `header_end` has found.

    Raises WireError.
    """
    raw, port = key[2 if key[0] == DOMAIN else 1 : -2], int.from_bytes(key[-2:])
    if port == 0:
        raise WireError("udp-bad-port")
    if key[0] != DOMAIN:
        return socket.inet_ntop(socket.AF_INET if key[0] == IPV4 else socket.AF_INET6, raw), port
    try:
        return parse_host(raw), port
    except BadHost:
        raise WireError("udp-bad-name") from None


def encode_header(address: str, port: int) -> bytes:
    """What stands before the data of a reply from there."""
    is_v6 = ":" in address
    packed = socket.inet_pton(socket.AF_INET6 if is_v6 else socket.AF_INET, address)
    return PREFIX + bytes((IPV6 if is_v6 else IPV4,)) + packed + port.to_bytes(2)
