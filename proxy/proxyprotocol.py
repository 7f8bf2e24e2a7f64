"""The PROXY protocol, versions 1 and 2: who the client of a load balancer really is, said before its first byte.

Read HAProxy's doc/proxy-protocol.txt; its sections are quoted here.  Sans-IO: bytes that have come -> a header, or that
more is needed; and back.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import Final, Literal, NamedTuple

from usernet.errors import WireError

Endpoint = tuple[str, int]
Version = Literal["v1", "v2"]

V1_START: Final = b"PROXY "
V1_MAX: Final = 107  # 2.1: with CRLF, and the longest addresses
V2_START: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD: Final = 16
V2_PAYLOAD_MAX: Final = 4096  # addresses and TLVs; a name and a certificate's subject take some hundreds
LOCAL, PROXY = 0x20, 0x21  # 2.2: version 2, and the command
TCP4, TCP6 = 0x11, 0x21
FAMILIES: Final = {TCP4: (socket.AF_INET, 4), TCP6: (socket.AF_INET6, 16)}
# Families, and protocols over them, that are legal, and say nothing of a TCP client: nobody, UDP, Unix sockets.
OTHERS: Final = frozenset({0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x31, 0x32})


class Header(NamedTuple):
    """`source`: the client; None where the balancer speaks for itself or does not know.  `size`: B, as received."""

    source: Endpoint | None
    size: int


def parse(data: bytes) -> Header | None:
    """The header that `data` begins with; None while it is not whole.  Raises WireError."""
    if data.startswith(V2_START):
        return _parse_v2(data)
    if data.startswith(V1_START):
        return _parse_v1(data)
    if V1_START.startswith(data) or V2_START.startswith(data):
        return None
    raise WireError("proxy-header-missing")


def _parse_v1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, V1_MAX)
    if end < 0:
        if len(data) >= V1_MAX:
            raise WireError("proxy-header-too-long")
        return None
    size = end + 2
    words = data[len(V1_START) : end].split(b" ")
    if words[0] == b"UNKNOWN":  # 2.1: what follows is to be ignored
        return Header(None, size)
    family = {b"TCP4": 4, b"TCP6": 6}.get(words[0])
    if family is None or len(words) != 5:
        raise WireError("proxy-header-malformed")
    source = _v1_endpoint(words[1], words[3], family)
    _v1_endpoint(words[2], words[4], family)
    return Header(source, size)


def _v1_endpoint(host: bytes, port: bytes, family: int) -> Endpoint:
    try:
        address = ip_address(host.decode("ascii"))
    except ValueError:
        raise WireError("proxy-header-malformed") from None
    # 2.1: decimal, no leading zeroes
    whole = port.isdigit() and len(port) <= 5 and (port == b"0" or not port.startswith(b"0")) and int(port) <= 65535
    if address.version != family or b"%" in host or not whole:
        raise WireError("proxy-header-malformed")
    return str(address), int(port)


def _parse_v2(data: bytes) -> Header | None:
    if len(data) < V2_HEAD:
        return None
    command, family, length = struct.unpack_from("!BBH", data, len(V2_START))
    if command not in (LOCAL, PROXY) or not (family in FAMILIES or family in OTHERS):
        raise WireError("proxy-header-malformed")  # 2.2: others must be dropped
    if length > V2_PAYLOAD_MAX:
        raise WireError("proxy-header-too-long")
    size = V2_HEAD + length
    source = None
    if command == PROXY and family in FAMILIES:
        kind, width = FAMILIES[family]
        if length < 2 * width + 4:
            raise WireError("proxy-header-malformed")
        if len(data) >= size:
            (port,) = struct.unpack_from("!H", data, V2_HEAD + 2 * width)
            source = (socket.inet_ntop(kind, data[V2_HEAD : V2_HEAD + width]), port)
    return Header(source, size) if len(data) >= size else None  # TLVs, behind the addresses, are skipped


def encode(version: Version, source: Endpoint, destination: Endpoint) -> bytes:
    """A header for a TCP connection.  Where only one of the two is IPv6, the other is written as a mapped address."""
    addresses = [ip_address(host.partition("%")[0]) for host, _ in (source, destination)]
    if addresses[0].version != addresses[1].version:
        addresses = [a if a.version == 6 else ip_address(f"::ffff:{a}") for a in addresses]
    v6 = addresses[0].version == 6
    ports = source[1], destination[1]
    if version == "v1":
        words = "TCP6" if v6 else "TCP4", *map(str, addresses), *map(str, ports)
        return V1_START + " ".join(words).encode("ascii") + b"\r\n"
    payload = addresses[0].packed + addresses[1].packed + struct.pack("!HH", *ports)
    return V2_START + struct.pack("!BBH", PROXY, TCP6 if v6 else TCP4, len(payload)) + payload
