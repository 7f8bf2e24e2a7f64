"""IPv4: golden bytes both ways, truncation, what is refused, fragments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.errors import WireError
from usernet.wire.checksum import checksum
from usernet.wire.ip import UDP, pack_address
from usernet.wire.ipv4 import encode_ipv4, fragment_ipv4, parse_ipv4

A, B = pack_address("192.168.0.1"), pack_address("192.168.0.199")
# The header everybody knows from the encyclopaedia's article on this checksum: 0xb861
GOLDEN_PACKET = bytes.fromhex("450000730000400040 11b861c0a80001c0a800c7".replace(" ", "")) + bytes(0x73 - 20)


def with_checksum(header: bytearray) -> bytes:
    header[10:12] = bytes(2)
    header[10:12] = checksum(bytes(header[: (header[0] & 15) * 4])).to_bytes(2, "big")
    return bytes(header)


def test_golden_parse() -> None:
    packet = parse_ipv4(GOLDEN_PACKET)
    assert packet == (A, B, UDP, 20, 0x73, 0, 64, 0, 0, False, 9)
    assert not packet.is_fragment


def test_golden_encode() -> None:
    assert encode_ipv4(A, B, UDP, bytes(0x73 - 20)) == GOLDEN_PACKET


def test_golden_within_a_buffer_and_with_trailing_bytes() -> None:
    packet = parse_ipv4(b"xyz" + GOLDEN_PACKET + b"trailing", 3)
    assert (packet.payload, packet.end) == (23, 3 + 0x73)


def test_every_truncation_is_refused() -> None:
    for size in range(len(GOLDEN_PACKET)):
        with pytest.raises(WireError):
            parse_ipv4(GOLDEN_PACKET[:size])
        with pytest.raises(WireError):
            parse_ipv4(GOLDEN_PACKET, 0, size)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, 0x55, "ip-version"),
        (0, 0x44, "ip-length"),
        (2, 0x10, "ip-length"),
        (3, 0x72, "ip-checksum"),
        (16, 1, "ip-checksum"),
    ],
)
def test_bad_headers(at: int, value: int, reason: str) -> None:
    bad = bytearray(GOLDEN_PACKET)
    bad[at] = value
    with pytest.raises(WireError) as caught:
        parse_ipv4(bytes(bad))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (bytes([1, 1, 1, 0]), None),
        (bytes([7, 4, 5, 0]), None),
        (bytes([131, 3, 4, 0]), "source-route"),
        (bytes([1, 137, 3, 4]), "source-route"),
        (bytes([7, 0, 0, 0]), "ip-options"),
        (bytes([1, 1, 1, 7]), "ip-options"),
    ],
)
def test_options(options: bytes, reason: str | None) -> None:
    header = bytearray(GOLDEN_PACKET[:20]) + options + b"payload!"
    header[0], header[2:4] = 0x46, len(header).to_bytes(2, "big")
    packet = with_checksum(header)
    if reason is None:
        assert packet[parse_ipv4(packet).payload :] == b"payload!"
    else:
        with pytest.raises(WireError, match=reason):
            parse_ipv4(packet)


@given(st.integers(0, 65_515), st.integers(68, 65_535), st.integers(0, 65_535))
def test_fragments_carry_the_payload(size: int, mtu: int, ident: int) -> None:
    payload = (b"0123456789abcdef!" * (size // 17 + 1))[:size]
    if mtu < 576 and size > 4000:
        size, payload = 4000, payload[:4000]
    packets = fragment_ipv4(A, B, UDP, payload, mtu, ident)
    together = bytearray(size)
    for number, packet in enumerate(packets):
        assert len(packet) <= mtu
        parsed = parse_ipv4(packet)
        assert parsed.more_fragments == (number < len(packets) - 1)
        assert parsed.ident == (ident if len(packets) > 1 else 0)
        piece = packet[parsed.payload : parsed.end]
        together[parsed.fragment_offset : parsed.fragment_offset + len(piece)] = piece
    assert together == payload


def test_a_fragment_beyond_the_longest_packet_is_refused() -> None:
    packet = encode_ipv4(A, B, UDP, bytes(100), fragment_offset=65_528)
    with pytest.raises(WireError, match="fragment-too-long"):
        parse_ipv4(packet)


def test_a_fragment_in_the_middle_is_a_multiple_of_eight() -> None:
    with pytest.raises(WireError, match="fragment-length"):
        parse_ipv4(encode_ipv4(A, B, UDP, bytes(11), more_fragments=True))
