"""Super-packets to and from the kernel's: an IP packet behind a virtio_net_hdr, 10 bytes in native order.

Read virtio 1.2, 5.1.6, and Linux include/linux/virtio_net.h.  What is read says where a checksum is still to be made
(csum_start, csum_offset), how large segments are to be (gso_size) and of what kind; its hdr_len is not trusted, the
packet's own headers are.  What is written says the same of a row: the sum of the pseudo-header is put into the place
of the checksum, and the kernel makes the rest where it needs it, which is nowhere as long as the packet stays here.

Nothing here raises but WireError: other programs of this machine may write what they like into a packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from usernet.burst.packets import Row, SuperPacket
from usernet.errors import WireError
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import TCP, UDP

HEADER: Final = Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
HEADER_BYTES: Final = HEADER.size
PLAIN: Final = bytes(HEADER_BYTES)

NEEDS_CSUM: Final = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 4, 5
GSO_ECN: Final = 0x80
_TCP_CHECKSUM_AT: Final = 16
_UDP_CHECKSUM_AT: Final = 6
_FIN_OR_PSH: Final = 0x09
_CWR: Final = 0x80


def write_row(buf: memoryview, row: Row) -> tuple[bytes, bytes | memoryview, memoryview]:
    """The virtio header, the packet's headers and its payload, to be written one behind the other."""
    offset, length, mss, _, transport, _ = row
    if not mss:
        return PLAIN, b"", buf[offset : offset + length]
    tcp = offset + transport
    end_of_headers = transport + (buf[tcp + 12] >> 4) * 4
    head = bytearray(buf[offset : offset + end_of_headers])
    if transport == 20:
        head[2:4] = length.to_bytes(2, "big")
        head[10:12] = b"\0\0"
        head[10:12] = checksum(head[:20]).to_bytes(2, "big")
        pseudo = pseudo_header_sum(head[12:16], head[16:20], TCP, length - transport)
        kind = GSO_TCPV4
    else:
        head[4:6] = (length - 40).to_bytes(2, "big")
        pseudo = pseudo_header_sum(head[8:24], head[24:40], TCP, length - transport)
        kind = GSO_TCPV6
    at = transport + _TCP_CHECKSUM_AT
    head[at : at + 2] = pseudo.to_bytes(2, "big")
    if head[transport + 13] & _CWR:
        kind |= GSO_ECN
    virtio = HEADER.pack(NEEDS_CSUM, kind, end_of_headers, mss, transport, _TCP_CHECKSUM_AT)
    return virtio, bytes(head), buf[offset + end_of_headers : offset + length]


def read_packet(data: bytes) -> list[SuperPacket]:
    """What one read gave, virtio header and all, as super-packets whose pieces are views of it.  Raises WireError."""
    if len(data) < HEADER_BYTES + 20:
        raise WireError("tun-short")
    flags, kind, _, gso_size, start, offset = HEADER.unpack_from(data)
    packet = memoryview(data)[HEADER_BYTES:]
    kind &= ~GSO_ECN
    if kind == GSO_NONE:
        if flags & NEEDS_CSUM:
            return [_finished(packet, start, offset)]
        return [SuperPacket(bytes(packet[:40]), (packet[40:],))]
    protocol = UDP if kind == GSO_UDP_L4 else TCP
    if kind not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4) or not gso_size:
        raise WireError("tun-gso-kind")
    fixed = 20 if packet[0] >> 4 == 4 else 40
    if start < fixed or start + (8 if protocol == UDP else 20) > len(packet):
        raise WireError("tun-gso-header")
    end = start + (8 if protocol == UDP else (packet[start + 12] >> 4) * 4)
    if protocol == TCP and not start + 20 <= end <= len(packet):
        raise WireError("tun-gso-header")
    if protocol == TCP and start == fixed and (fixed == 40 or packet[0] == 0x45):
        return [SuperPacket(bytes(packet[:end]), (packet[end:],), gso_size)]
    return list(_cut(packet, start, end, gso_size, protocol))


def _finished(packet: memoryview, start: int, offset: int) -> SuperPacket:
    """A packet that lacks its checksum: where that belongs, the sum of the pseudo-header stands."""
    at = start + offset
    if at + 2 > len(packet):
        raise WireError("tun-checksum-place")
    head = bytearray(packet[: at + 2])
    # RFC 768: in UDP no sum at all is 0, so one that is 0 is sent as its other form; in TCP either will do
    head[at:] = (checksum(packet[start:]) or 0xFFFF).to_bytes(2, "big")
    return SuperPacket(bytes(head), (packet[at + 2 :],))


def _cut(packet: memoryview, start: int, end: int, size: int, protocol: int) -> Iterator[SuperPacket]:
    """Segments, finished one by one: what the burst kernels do not cut (UDP, and TCP behind options or extensions)."""
    for number, at in enumerate(range(0, max(1, len(packet) - end), size)):
        payload = packet[end + at : end + at + size]
        head = bytearray(packet[:end])
        length = end + len(payload)
        if head[0] >> 4 == 4:
            head[2:4] = length.to_bytes(2, "big")
            head[4:6] = (int.from_bytes(head[4:6], "big") + number & 0xFFFF).to_bytes(2, "big")
            head[10:12] = b"\0\0"
            head[10:12] = checksum(head[: (head[0] & 15) * 4]).to_bytes(2, "big")
            pseudo = pseudo_header_sum(head[12:16], head[16:20], protocol, length - start)
        else:
            head[4:6] = (length - 40).to_bytes(2, "big")
            pseudo = pseudo_header_sum(head[8:24], head[24:40], protocol, length - start)
        if protocol == TCP:
            sequence = int.from_bytes(head[start + 4 : start + 8], "big") + at & 0xFFFF_FFFF
            head[start + 4 : start + 8] = sequence.to_bytes(4, "big")
            if number:
                head[start + 13] &= ~_CWR & 0xFF
            if end + at + size < len(packet):
                head[start + 13] &= ~_FIN_OR_PSH & 0xFF
        else:
            head[start + 4 : start + 6] = (8 + len(payload)).to_bytes(2, "big")
        place = start + (_TCP_CHECKSUM_AT if protocol == TCP else _UDP_CHECKSUM_AT)
        head[place : place + 2] = b"\0\0"
        total = checksum(b"".join((head[start:], payload)), pseudo) or 0xFFFF
        head[place : place + 2] = total.to_bytes(2, "big")
        yield SuperPacket(bytes(head), (payload,))
