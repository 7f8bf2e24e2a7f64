"""What a client may reach, decided on the address that will be dialled, never on the name.

Refused unless a rule allows it: loopback, unspecified, multicast, broadcast and link-local addresses, also where they
hide in an IPv6 form of IPv4 (mapped, compatible, translated, 6to4, NAT64), names that mean this host, and always our
own listeners. Whether a peer carries the rest is not asked here: the network says NoRoute.
"""

from __future__ import annotations

import errno
import socket

from usernet.errors import DialError


class Forbidden(DialError):
    """A rule of this proxy forbids the destination."""

    code = errno.EACCES


class Policy:
    """`own`: addresses and ports of our listeners."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own: set[tuple[str, int]] = set()  # a proxy that dials itself never ends

    def check_name(self, name: str) -> None:
        """Raise Forbidden for names that mean this host, before anybody is asked."""
        if is_local_name(name):
            raise Forbidden("the name means the proxy's own host")

    def check(self, address: str, packed: bytes, port: int, *, exempt: bool = False) -> None:
        """Raise Forbidden; `exempt`: a rule names such addresses.  A v4-mapped one has been unmapped."""
        if self._is_own(address, port):
            raise Forbidden("the destination is this proxy")
        if not exempt and is_special(packed):
            raise Forbidden("the destination is a loopback, link-local, multicast or unspecified address")

    def _is_own(self, address: str, port: int) -> bool:
        everywhere = ("::" if ":" in address else "0.0.0.0", port)
        return (address, port) in self.own or (everywhere in self.own and is_of_this_host(address))


def is_local_name(name: str) -> bool:
    """RFC 6761 section 6.3."""
    bare = name.rstrip(".")
    return bare == "localhost" or bare.endswith(".localhost")


def is_of_this_host(address: str) -> bool:
    """Whether the host's network would speak to itself: it would then speak from that address."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))  # of UDP: nothing is sent
        except OSError:
            return False
        source = str(sock.getsockname()[0])
        return source == address or source.startswith("127.")


def unmapped(address: str) -> tuple[str, bytes]:
    """An address and its packed form; a v4-mapped one as IPv4."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    if packed.startswith(MAPPED):
        packed = packed[12:]
        address = socket.inet_ntop(socket.AF_INET, packed)
    return address, packed


MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2
TRANSLATED = bytes(8) + b"\xff\xff\0\0"  # ::ffff:0:0:0/96, RFC 2765 section 2.1
NAT64 = bytes.fromhex("0064ff9b") + bytes(8)  # 64:ff9b::/96, RFC 6052 section 2.1
NAT64_LOCAL = bytes.fromhex("0064ff9b0001")  # 64:ff9b:1::/48, RFC 8215


def is_special(packed: bytes) -> bool:
    """Whether no client has business there."""
    return special_bits(packed) > 0


def special_bits(packed: bytes) -> int:
    """How many of its first bits make an address special: the network of so many holds nothing else.  0: it is not."""
    if len(packed) == 4:
        first = packed[0]
        if first in (0, 127):
            return 8
        if first == 169 and packed[1] == 254:
            return 16
        if 224 <= first < 240:
            return 4
        return 32 if packed == b"\xff\xff\xff\xff" else 0
    if packed[0] == 0xFF:  # ff00::/8
        return 8
    if packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:  # fe80::/10
        return 10
    found = embedded_ipv4(packed)
    if found is None:
        return 0
    inner, begin = found
    length = special_bits(inner)
    if begin == 48 and length > 16:  # RFC 6052 section 2.2: bits 64..71 belong to no address
        length += 8
    return begin + length if length else 0


def embedded_ipv4(packed: bytes) -> tuple[bytes, int] | None:
    """The IPv4 address inside an IPv6 one, where its prefix says that there is one, and the bit that it begins at."""
    if packed.startswith((MAPPED, TRANSLATED, NAT64, bytes(12))):  # the last: ::/96, with :: and ::1 in it
        return packed[12:], 96
    if packed.startswith(NAT64_LOCAL):
        # An operator cuts /96s or uses the /48 itself: RFC 6052 section 2.2 then splits the address around bits 64..71
        return (packed[12:], 96) if packed[6:12] == bytes(6) else (packed[6:8] + packed[9:11], 48)
    if packed.startswith(b"\x20\x02"):  # 6to4, RFC 3056
        return packed[2:6], 16
    return None
