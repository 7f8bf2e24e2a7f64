"""Packets that were honest once: changed here and there, and given right checksums again so that they get further."""

from __future__ import annotations

import random

from usernet.errors import WireError
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP
from usernet.wire.packet import parse_packet

CHECKSUM_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}


def repair(packet: bytes) -> bytes:
    """The same packet with right checksums, where it can be parsed."""
    data = bytearray(packet)
    if data and data[0] >> 4 == 4 and len(data) >= 20:
        header = (data[0] & 15) * 4
        data[10:12] = bytes(2)
        data[10:12] = checksum(data[:header]).to_bytes(2, "big")
    try:
        parsed = parse_packet(data)
    except WireError:
        return bytes(data)
    at = parsed.payload + CHECKSUM_AT.get(parsed.protocol, 60_000)
    if not parsed.is_fragment and at + 2 <= parsed.end:
        data[at : at + 2] = bytes(2)
        length = parsed.end - parsed.payload
        initial = pseudo_header_sum(parsed.source, parsed.destination, parsed.protocol, length)
        total = checksum(data[parsed.payload : parsed.end], 0 if parsed.protocol == ICMP else initial)
        data[at : at + 2] = total.to_bytes(2, "big")
    return bytes(data)


def mutate(packet: bytes, rand: random.Random) -> bytes:
    data = bytearray(packet)
    for _ in range(rand.choice((1, 1, 1, 2, 5, 20))):
        kind = rand.randrange(6)
        at = rand.randrange(min(len(data), 80)) if data else 0
        if kind <= 2 and data:
            data[at] = rand.choice((0, 1, 0xFF, rand.randrange(256)))
        elif kind == 3 and data:
            data[at] ^= 1 << rand.randrange(8)
        elif kind == 4:
            del data[rand.randrange(len(data) + 1) :]
        else:
            data[at:at] = rand.randbytes(rand.randrange(1, 12))
    return bytes(data)
