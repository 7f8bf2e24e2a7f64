"""UDP: golden bytes both ways, truncation, checksums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.errors import WireError
from usernet.wire.ip import UDP, pack_address
from usernet.wire.packet import checksum_holds, encode_packet, parse_packet
from usernet.wire.udp import UdpDatagram, parse_udp

A4, B4 = pack_address("10.0.0.1"), pack_address("10.0.0.2")
A6, B6 = pack_address("fd00::1"), pack_address("fd00::2")
GOLDEN = bytes.fromhex("12340035000a7105") + b"hi"


def test_golden() -> None:
    words = [0x0A00, 1, 0x0A00, 2, 17, 10, 0x1234, 0x35, 10, 0x6869]
    assert 0xFFFF - sum(words) == 0x7105
    assert UdpDatagram(0x1234, 53, b"hi").encode(A4, B4) == GOLDEN
    assert parse_udp(GOLDEN, 0, 10, A4, B4) == UdpDatagram(0x1234, 53, b"hi")


def test_every_truncation_is_refused() -> None:
    for size in range(len(GOLDEN)):
        with pytest.raises(WireError):
            parse_udp(GOLDEN, 0, size, A4, B4)


def test_trailing_bytes_are_no_payload() -> None:
    assert parse_udp(b".." + GOLDEN + b"tail", 2, 16, A4, B4).payload == b"hi"


def test_no_checksum_is_for_ipv4_only() -> None:
    plain = GOLDEN[:6] + bytes(2) + GOLDEN[8:]
    assert parse_udp(plain, 0, 10, A4, B4).payload == b"hi"
    with pytest.raises(WireError, match="udp-no-checksum"):
        parse_udp(plain, 0, 10, A6, B6)


@pytest.mark.parametrize(
    ("at", "value", "reason"), [(9, 0, "udp-checksum"), (5, 7, "udp-length"), (5, 11, "udp-length")]
)
def test_bad_ones(at: int, value: int, reason: str) -> None:
    bad = bytearray(GOLDEN)
    bad[at] = value
    with pytest.raises(WireError, match=reason):
        parse_udp(bad, 0, 10, A4, B4)
    zero_port = UdpDatagram(1, 0, b"x").encode(A4, B4)
    with pytest.raises(WireError, match="udp-port"):
        parse_udp(zero_port, 0, 9, A4, B4)


@given(st.binary(max_size=2000), st.integers(1, 65_535), st.integers(1, 65_535), st.booleans())
def test_round_trip(payload: bytes, source_port: int, destination_port: int, is_v6: bool) -> None:
    source, destination = (A6, B6) if is_v6 else (A4, B4)
    datagram = UdpDatagram(source_port, destination_port, payload)
    packet = encode_packet(source, destination, UDP, datagram.encode(source, destination))
    parsed = parse_packet(packet)
    assert checksum_holds(parsed, packet)
    assert packet[parsed.payload + 6 : parsed.payload + 8] != bytes(2)
    assert parse_udp(packet, parsed.payload, parsed.end, source, destination) == datagram
