"""virtio headers: rows to the kernel, the kernel's packets to us; what is cut and summed up is what scapy reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.packet import Raw

from usernet.burst.packets import CHECKSUM_OK, PSH, PacketBurst, SuperPacket
from usernet.errors import WireError
from usernet.tun.offload import (
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    HEADER,
    HEADER_BYTES,
    NEEDS_CSUM,
    PLAIN,
    read_packet,
    write_row,
)
from usernet.wire.checksum import ones_sum, pseudo_header_sum

V4, V6 = IP(src="10.0.0.1", dst="10.0.0.2", id=7), IPv6(src="fd00::1", dst="fd00::2")
BASES = {4: V4, 6: V6}
PAYLOAD = bytes(range(256)) * 20


def whole(packet: SuperPacket) -> bytes:
    return packet.header + b"".join(packet.pieces)


def partial(packet: Any, protocol: int, place: int) -> bytes:
    """As the kernel hands it out: instead of the checksum, the sum of the pseudo-header."""
    data = bytearray(bytes(packet))
    start = len(data) - len(bytes(packet[{6: "TCP", 17: "UDP"}[protocol]]))
    source, destination = (data[12:16], data[16:20]) if data[0] >> 4 == 4 else (data[8:24], data[24:40])
    total = pseudo_header_sum(source, destination, protocol, len(data) - start)
    data[start + place : start + place + 2] = total.to_bytes(2, "big")
    return bytes(data)


def good(data: bytes) -> Any:
    """What scapy makes of it, whose own sums are those that stand in it."""
    kind: Any = IP if data[0] >> 4 == 4 else IPv6
    found = kind(data)
    again = found.copy()
    for layer in (IP, TCP, UDP):
        if layer in again:
            del again[layer].chksum
    assert bytes(kind(bytes(again))) == data
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_a_row_of_segments_becomes_one_packet(family: int) -> None:
    first = bytes(
        BASES[family] / TCP(sport=1, dport=2, seq=5, flags="PA", options=[("NOP", None)] * 4) / PAYLOAD[:1000]
    )
    start = 20 if family == 4 else 40
    data = first + PAYLOAD[1000:2500]
    burst = PacketBurst(0)
    burst.buf = bytearray(b"before" + data)
    virtio, head, payload = write_row(memoryview(burst.buf), (6, len(data), 1000, 3, start, CHECKSUM_OK | PSH))
    flags, kind, header, size, csum_start, csum_offset = HEADER.unpack(virtio)
    assert (flags, kind) == (NEEDS_CSUM, GSO_TCPV4 if family == 4 else GSO_TCPV6)
    assert (header, size, csum_start, csum_offset) == (start + 24, 1000, start, 16)
    assert bytes(payload) == PAYLOAD[:2500]
    packet = bytes(head) + bytes(payload)
    # The kernel's sum over all of it, partial sum included, has to be a right one for the whole length.
    source, destination = (packet[12:16], packet[16:20]) if family == 4 else (packet[8:24], packet[24:40])
    told = int.from_bytes(packet[start + 16 : start + 18], "big")
    assert told == pseudo_header_sum(source, destination, 6, len(packet) - start)
    if family == 4:
        assert ones_sum(packet[:20]) == 65535
        assert int.from_bytes(packet[2:4], "big") == len(packet)
    else:
        assert int.from_bytes(packet[4:6], "big") == len(packet) - 40


def test_a_single_row_is_written_as_it_is() -> None:
    data = bytes(V4 / UDP(sport=1, dport=2) / b"hello")
    virtio, head, payload = write_row(memoryview(data), (0, len(data), 0, 1, 20, CHECKSUM_OK))
    assert (virtio, bytes(head), bytes(payload)) == (PLAIN, b"", data)


@pytest.mark.parametrize("family", [4, 6])
def test_what_the_kernel_merged_stays_merged(family: int) -> None:
    packet = partial(BASES[family] / TCP(sport=1, dport=2, seq=9, flags="PA") / PAYLOAD, 6, 16)
    start = 20 if family == 4 else 40
    kind = GSO_TCPV4 if family == 4 else GSO_TCPV6
    (found,) = read_packet(HEADER.pack(NEEDS_CSUM, kind, 1, 1000, start, 16) + packet)  # with a wrong hdr_len
    assert (found.mss, len(found.header)) == (1000, start + 20)
    assert whole(found) == packet


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("protocol", "place"), [(6, 16), (17, 6)])
def test_a_checksum_that_is_still_to_be_made(family: int, protocol: int, place: int) -> None:
    layer = TCP(sport=1, dport=2) if protocol == 6 else UDP(sport=1, dport=2)
    packet = partial(BASES[family] / layer / b"odd", protocol, place)
    start = 20 if family == 4 else 40
    (found,) = read_packet(HEADER.pack(NEEDS_CSUM, 0, 0, 0, start, place) + packet)
    assert found.mss == 0
    assert good(whole(found))[Raw].load == b"odd"


def test_a_udp_sum_of_zero_is_sent_as_ones() -> None:
    """RFC 768: no sum at all is 0."""
    data = bytearray(partial(V4 / UDP(sport=1, dport=2) / b"\0\0", 17, 6))
    data[28:30] = (65535 - ones_sum(data[20:])).to_bytes(2, "big")
    (found,) = read_packet(HEADER.pack(NEEDS_CSUM, 0, 0, 0, 20, 6) + bytes(data))
    assert whole(found)[26:28] == b"\xff\xff"


@pytest.mark.parametrize("family", [4, 6])
def test_datagrams_that_were_merged_are_cut(family: int) -> None:
    packet = partial(BASES[family] / UDP(sport=1, dport=2) / PAYLOAD[:2500], 17, 6)
    start = 20 if family == 4 else 40
    found = [good(whole(each)) for each in read_packet(HEADER.pack(NEEDS_CSUM, GSO_UDP_L4, 0, 1000, start, 6) + packet)]
    assert [len(each[Raw].load) for each in found] == [1000, 1000, 500]
    assert b"".join(each[Raw].load for each in found) == PAYLOAD[:2500]
    if family == 4:
        assert [each.id for each in found] == [7, 8, 9]


@pytest.mark.parametrize(
    "base",
    [IP(src="10.0.0.1", dst="10.0.0.2", id=65535, options=[IPOption(b"\x94\x04\0\0")]), V6 / IPv6ExtHdrHopByHop()],
    ids=["options", "extensions"],
)
def test_segments_behind_options_are_cut_here(base: Any) -> None:
    """The burst kernels cut behind the shortest headers only."""
    packet = partial(base / TCP(sport=1, dport=2, seq=2**32 - 900, flags="FPC") / PAYLOAD[:2500], 6, 16)
    start = len(packet) - 2500 - 20
    kind = GSO_TCPV4 if packet[0] >> 4 == 4 else GSO_TCPV6
    found = [
        good(whole(each)) for each in read_packet(HEADER.pack(NEEDS_CSUM, kind | 0x80, 0, 1000, start, 16) + packet)
    ]
    assert b"".join(each[Raw].load for each in found) == PAYLOAD[:2500]
    assert [each[TCP].seq for each in found] == [2**32 - 900, 100, 1100]
    assert [str(each[TCP].flags) for each in found] == ["C", "", "FP"]
    if packet[0] >> 4 == 4:
        assert [each.id for each in found] == [65535, 0, 1]


GOOD = [
    HEADER.pack(NEEDS_CSUM, GSO_TCPV4, 0, 1000, 20, 16) + partial(V4 / TCP() / PAYLOAD[:1500], 6, 16),
    HEADER.pack(NEEDS_CSUM, GSO_TCPV6, 0, 1000, 40, 16) + partial(V6 / TCP() / PAYLOAD[:1500], 6, 16),
    HEADER.pack(NEEDS_CSUM, GSO_UDP_L4, 0, 1000, 20, 6) + partial(V4 / UDP() / PAYLOAD[:1500], 17, 6),
    HEADER.pack(NEEDS_CSUM, 0, 0, 0, 40, 6) + partial(V6 / UDP() / b"x", 17, 6),
    PLAIN + bytes(V4 / UDP() / b"x"),
]


def refused(data: bytes) -> str:
    """The reason, or "" where it is packets."""
    try:
        found = read_packet(data)
    except WireError as error:
        return error.reason
    return "" if all(isinstance(packet, SuperPacket) for packet in found) else "not packets"


@pytest.mark.parametrize("data", GOOD)
def test_every_truncation(data: bytes) -> None:
    assert refused(data) == ""
    reasons = {refused(data[:length]) for length in range(min(len(data), 120))}
    assert reasons <= {"", "tun-short", "tun-gso-header", "tun-checksum-place"}


@given(
    st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES) | st.sampled_from([each[:HEADER_BYTES] for each in GOOD]),
    st.sampled_from([each[HEADER_BYTES:] for each in GOOD]) | st.binary(max_size=200),
    st.data(),
)
def test_whatever_stands_there_is_packets_or_one_error(virtio: bytes, packet: bytes, data: st.DataObject) -> None:
    mutated = bytearray(packet)
    for _ in range(data.draw(st.integers(0, 4))) if mutated else ():
        mutated[data.draw(st.integers(0, min(70, len(mutated) - 1)))] = data.draw(st.integers(0, 255))
    reason = refused(virtio + bytes(mutated))
    assert reason == "" or reason.startswith("tun-")
