"""ICMP of both families behind one set of values.  Read RFC 792, RFC 4443, RFC 1122 3.2.2, RFC 1191 4, RFC 1812 4.3.2.

Echo is echo; an error is an `IcmpError` with a kind that does not depend on the family and the flow it quotes.  The
`*_for` functions build the error about an offending packet, or None where the RFCs forbid one.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import Final, NamedTuple

from usernet.errors import WireError
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP, is_multicast, names_one_host
from usernet.wire.ipv6 import FRAGMENT, UNRECOGNIZED_OPTION
from usernet.wire.packet import encode_packet

Buffer = bytes | bytearray | memoryview

_HEADER = Struct("!BBHI")
_PORTS_AND_SEQ = Struct("!HHI")
HEADER_BYTES = 8

# RFC 1812 4.3.2.3: an IPv4 error stays within 576 bytes; RFC 4443 2.4 c: an IPv6 one within the minimum MTU
MAX_ERROR_BYTES_V4 = 576
MAX_ERROR_BYTES_V6 = 1280


class Kind(enum.Enum):
    """What an error says, whichever family says it."""

    NETWORK_UNREACHABLE = "network-unreachable"
    HOST_UNREACHABLE = "host-unreachable"
    PROTOCOL_UNREACHABLE = "protocol-unreachable"
    PORT_UNREACHABLE = "port-unreachable"
    PROHIBITED = "prohibited"
    PACKET_TOO_BIG = "packet-too-big"
    TIME_EXCEEDED = "time-exceeded"
    REASSEMBLY_TIME_EXCEEDED = "reassembly-time-exceeded"
    PARAMETER_PROBLEM = "parameter-problem"


_UNREACHABLE_V4: Final = 3
_UNREACHABLE_V6: Final = 1

# (type, code) of what we send.  IPv6 has a Parameter Problem for an unknown protocol (RFC 4443 3.4 code 1).
_TO_V4: Final = {
    Kind.NETWORK_UNREACHABLE: (3, 0),
    Kind.HOST_UNREACHABLE: (3, 1),
    Kind.PROTOCOL_UNREACHABLE: (3, 2),
    Kind.PORT_UNREACHABLE: (3, 3),
    Kind.PACKET_TOO_BIG: (3, 4),
    Kind.PROHIBITED: (3, 13),
    Kind.TIME_EXCEEDED: (11, 0),
    Kind.REASSEMBLY_TIME_EXCEEDED: (11, 1),
    Kind.PARAMETER_PROBLEM: (12, 0),
}
_TO_V6: Final = {
    Kind.NETWORK_UNREACHABLE: (1, 0),
    Kind.HOST_UNREACHABLE: (1, 3),
    Kind.PROTOCOL_UNREACHABLE: (4, 1),
    Kind.PORT_UNREACHABLE: (1, 4),
    Kind.PACKET_TOO_BIG: (2, 0),
    Kind.PROHIBITED: (1, 1),
    Kind.TIME_EXCEEDED: (3, 0),
    Kind.REASSEMBLY_TIME_EXCEEDED: (3, 1),
    Kind.PARAMETER_PROBLEM: (4, 0),
}
# What else others send, by type and code: RFC 1122 3.2.2.1, RFC 1812 5.2.7.1, RFC 4443 3.1.
_FROM_V4: Final = {pair: kind for kind, pair in _TO_V4.items()} | {
    (3, 5): Kind.NETWORK_UNREACHABLE,
    (3, 6): Kind.NETWORK_UNREACHABLE,
    (3, 7): Kind.HOST_UNREACHABLE,
    (3, 8): Kind.HOST_UNREACHABLE,
    (3, 9): Kind.PROHIBITED,
    (3, 10): Kind.PROHIBITED,
    (3, 11): Kind.NETWORK_UNREACHABLE,
    (3, 12): Kind.HOST_UNREACHABLE,
    (3, 14): Kind.PROHIBITED,
    (3, 15): Kind.PROHIBITED,
    (12, 1): Kind.PARAMETER_PROBLEM,
    (12, 2): Kind.PARAMETER_PROBLEM,
}
_FROM_V6: Final = {pair: kind for kind, pair in _TO_V6.items()} | {
    (1, 2): Kind.HOST_UNREACHABLE,
    (1, 5): Kind.PROHIBITED,
    (1, 6): Kind.PROHIBITED,
    (4, 2): Kind.PARAMETER_PROBLEM,
    (4, 3): Kind.PARAMETER_PROBLEM,
}
_ERROR_TYPES_V4: Final = frozenset((3, 4, 5, 11, 12))


class Echo(NamedTuple):
    """An echo request or its reply."""

    is_reply: bool
    ident: int
    sequence: int
    payload: bytes

    def encode(self, source: bytes, destination: bytes) -> bytes:
        """The whole ICMP message."""
        request, reply = (8, 0) if len(source) == 4 else (128, 129)
        kind = reply if self.is_reply else request
        return _encode(source, destination, kind, 0, self.ident << 16 | self.sequence, self.payload)


class Quoted(NamedTuple):
    """The flow of a packet we sent, as an error quotes it: `source` is ours."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int  # of an echo request: its type and code
    destination_port: int  # of an echo request: its checksum
    seq: int  # TCP's; of an echo request: ident and sequence


class IcmpError(NamedTuple):
    """An error about a packet of ours.  `mtu` is 0 where not given, as by routers before RFC 1191."""

    kind: Kind
    mtu: int
    quoted: Quoted


def parse_icmp(
    buf: Buffer, offset: int, end: int, source: bytes, destination: bytes, *, verified: bool = False
) -> Echo | IcmpError:
    """The message in buf[offset:end], copied.  Raises WireError for what is wrong, or of no use to such a host."""
    if end - offset < HEADER_BYTES:
        raise WireError("icmp-truncated")
    message_type, code, _, rest = _HEADER.unpack_from(buf, offset)
    is_v4 = len(source) == 4
    if not verified:
        initial = 0 if is_v4 else pseudo_header_sum(source, destination, ICMPV6, end - offset)
        if checksum(buf[offset:end], initial):
            raise WireError("icmp-checksum")
    if message_type in ((8, 0) if is_v4 else (128, 129)):
        if code:
            raise WireError("icmp-code")
        payload = bytes(buf[offset + HEADER_BYTES : end])
        return Echo(message_type in (0, 129), rest >> 16, rest & 0xFFFF, payload)
    kind = (_FROM_V4 if is_v4 else _FROM_V6).get((message_type, code))
    if kind is None and is_v4 and message_type == _UNREACHABLE_V4:
        kind = Kind.HOST_UNREACHABLE
    if kind is None and not is_v4 and message_type == _UNREACHABLE_V6:
        kind = Kind.HOST_UNREACHABLE  # RFC 4443 2.4 a: an unknown error still concerns its flow
    if kind is None:
        raise WireError("icmp-type")  # RFC 1122 3.2.2: silently discarded
    mtu = 0
    if kind is Kind.PACKET_TOO_BIG:
        mtu = rest & 0xFFFF if is_v4 else rest
    return IcmpError(kind, mtu, _parse_quoted(buf, offset + HEADER_BYTES, end))


def _parse_quoted(buf: Buffer, offset: int, end: int) -> Quoted:
    """Header and first eight payload bytes of a packet cut short, whose own lengths mean nothing here."""
    if end - offset < 20:
        raise WireError("icmp-quote")
    if buf[offset] >> 4 == 4:
        at = offset + (buf[offset] & 15) * 4
        protocol = buf[offset + 9]
        source, destination = bytes(buf[offset + 12 : offset + 16]), bytes(buf[offset + 16 : offset + 20])
        first = not (buf[offset + 6] & 0x1F or buf[offset + 7])
    elif buf[offset] >> 4 == 6 and end - offset >= 40:
        at = offset + 40
        protocol = buf[offset + 6]
        source, destination = bytes(buf[offset + 8 : offset + 24]), bytes(buf[offset + 24 : offset + 40])
        first = True
        if protocol == FRAGMENT and end - at >= 8:  # the only extension header we ever send
            protocol = buf[at]
            first = not (buf[at + 2] or buf[at + 3] & 0xF8)
            at += 8
    else:
        raise WireError("icmp-quote")
    if not first or end - at < 8 or at < offset + 20:
        raise WireError("icmp-quote")
    ports = _PORTS_AND_SEQ.unpack_from(buf, at)
    return Quoted(source, destination, protocol, *ports)


def _encode(source: bytes, destination: bytes, message_type: int, code: int, rest: int, body: bytes) -> bytes:
    initial = 0 if len(source) == 4 else pseudo_header_sum(source, destination, ICMPV6, HEADER_BYTES + len(body))
    total = checksum(_HEADER.pack(message_type, code, 0, rest) + body, initial)
    return _HEADER.pack(message_type, code, total, rest) + body


def encode_echo_packet(source: bytes, destination: bytes, echo: Echo) -> bytes:
    """An echo message as a finished IP packet."""
    protocol = ICMP if len(source) == 4 else ICMPV6
    return encode_packet(source, destination, protocol, echo.encode(source, destination))


def unreachable_for(packet: Buffer, kind: Kind, source: bytes | None = None) -> bytes | None:
    """The finished packet that tells the sender of `packet` (a whole IP packet) what was wrong with it, or None.

    `source` is who says so: by default the address the packet was sent to.
    """
    return _error_for(packet, kind, 0, source)


def packet_too_big_for(packet: Buffer, mtu: int, source: bytes | None = None) -> bytes | None:
    """IPv4 fragmentation needed (RFC 1191 4) or IPv6 Packet Too Big (RFC 4443 3.2)."""
    return _error_for(packet, Kind.PACKET_TOO_BIG, mtu, source)


def time_exceeded_for(packet: Buffer, *, reassembly: bool = False, source: bytes | None = None) -> bytes | None:
    """Hop limit exceeded; with `reassembly`, fragments that did not all come (`packet` is the first of them)."""
    return _error_for(packet, Kind.REASSEMBLY_TIME_EXCEEDED if reassembly else Kind.TIME_EXCEEDED, 0, source)


def parameter_problem_for(packet: Buffer, code: int, pointer: int, source: bytes | None = None) -> bytes | None:
    """`pointer` bytes into `packet` stands what we cannot accept; `code` is IPv6's (RFC 4443 3.4)."""
    rest = pointer << 24 if packet[0] >> 4 == 4 else pointer
    return _error_for(packet, Kind.PARAMETER_PROBLEM, rest, source, code)


def _error_for(packet: Buffer, kind: Kind, rest: int, source: bytes | None, code: int | None = None) -> bytes | None:
    is_v4 = packet[0] >> 4 == 4
    if is_v4:
        sender, target = bytes(packet[12:16]), bytes(packet[16:20])
    else:
        sender, target = bytes(packet[8:24]), bytes(packet[24:40])
    message_type, own_code = (_TO_V4 if is_v4 else _TO_V6)[kind]
    code = own_code if code is None or is_v4 else code
    # RFC 4443 2.4 e.3 excepts these two from the rule about multicast
    to_many = not is_v4 and (kind is Kind.PACKET_TOO_BIG or (message_type, code) == (4, UNRECOGNIZED_OPTION))
    if not names_one_host(sender) or (is_multicast(target) and not to_many) or not _may_be_answered(packet, is_v4):
        return None
    if source is None:
        if is_multicast(target):
            return None
        source = target
    limit = MAX_ERROR_BYTES_V4 - 20 if is_v4 else MAX_ERROR_BYTES_V6 - 40
    body = bytes(packet[: limit - HEADER_BYTES])
    message = _encode(source, sender, message_type, code, rest, body)
    return encode_packet(source, sender, ICMP if is_v4 else ICMPV6, message)


def _may_be_answered(packet: Buffer, is_v4: bool) -> bool:
    """RFC 1122 3.2.2, RFC 4443 2.4 e: never an error about an ICMP error or about a fragment other than the first."""
    if is_v4:
        if packet[6] & 0x1F or packet[7]:
            return False
        at = (packet[0] & 15) * 4
        return packet[9] != ICMP or (len(packet) > at and packet[at] not in _ERROR_TYPES_V4)
    protocol, at = packet[6], 40
    while protocol in (0, 43, 60, FRAGMENT):
        if len(packet) < at + 8:
            return False
        if protocol == FRAGMENT and (packet[at + 2] or packet[at + 3] & 0xF8):
            return False
        protocol, at = packet[at], at + (8 if protocol == FRAGMENT else 8 + packet[at + 1] * 8)
    if protocol in (TCP, UDP):
        return True
    return protocol != ICMPV6 or (len(packet) > at and packet[at] >= 128 and packet[at] != 137)  # 137: Redirect
