"""IPv6: golden bytes both ways, truncation, the walk through extension headers, fragments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.errors import WireError
from usernet.wire.ip import TCP, UDP, pack_address
from usernet.wire.ipv6 import (
    DESTINATION_OPTIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ROUTING,
    HeaderProblem,
    encode_ipv6,
    fragment_ipv6,
    parse_ipv6,
)

A, B = pack_address("fd00::1"), pack_address("fd00::2")
GOLDEN = bytes.fromhex("60200000000b1140") + A + B + b"hello world"
PADDING = bytes([1, 4, 0, 0, 0, 0])  # PadN over the rest of eight bytes


def chain(first: int, *headers: bytes, payload: bytes = b"payload!") -> bytes:
    return encode_ipv6(A, B, first, b"".join(headers) + payload)


def test_golden_parse() -> None:
    assert parse_ipv6(GOLDEN) == (A, B, UDP, 40, 51, 2, 64, 0, 0, False, 6)


def test_golden_encode() -> None:
    assert encode_ipv6(A, B, UDP, b"hello world", tos=2) == GOLDEN


def test_every_truncation_is_refused() -> None:
    for size in range(len(GOLDEN)):
        with pytest.raises(WireError):
            parse_ipv6(GOLDEN[:size])


def test_another_version_is_refused() -> None:
    with pytest.raises(WireError, match="ip-version"):
        parse_ipv6(b"\x40" + GOLDEN[1:])


def test_trailing_bytes_are_ignored() -> None:
    packet = parse_ipv6(b"ab" + GOLDEN + b"more", 2)
    assert (packet.payload, packet.end) == (42, 53)


def test_walk_to_the_transport() -> None:
    packet = chain(
        HOP_BY_HOP,
        bytes([DESTINATION_OPTIONS, 0]) + PADDING,
        bytes([ROUTING, 1]) + bytes([1, 12]) + bytes(12),
        bytes([TCP, 0, 0, 0]) + bytes(4),
    )
    parsed = parse_ipv6(packet)
    assert parsed.protocol == TCP
    assert packet[parsed.payload : parsed.end] == b"payload!"
    assert parsed.next_header_at == 40 + 8 + 16


def test_every_truncation_of_a_chain_is_refused() -> None:
    headers = bytes([DESTINATION_OPTIONS, 0]) + PADDING + bytes([UDP, 1, 1, 12]) + bytes(12)
    for size in range(len(headers)):
        with pytest.raises(WireError):
            parse_ipv6(encode_ipv6(A, B, HOP_BY_HOP, headers[:size]))


@pytest.mark.parametrize(
    ("packet", "code", "pointer"),
    [
        (chain(DESTINATION_OPTIONS, bytes([HOP_BY_HOP, 0]) + PADDING, bytes([UDP, 0]) + PADDING), 1, 40),
        (chain(ROUTING, bytes([UDP, 0, 0, 1]) + bytes(4)), 0, 42),
        (chain(DESTINATION_OPTIONS, bytes([UDP, 0, 0x80, 4]) + bytes(4)), 2, 42),
        (chain(DESTINATION_OPTIONS, bytes([UDP, 0, 0, 0xC0, 0, 1, 1, 0])), 2, 43),
        (chain(FRAGMENT, bytes([UDP, 0, 0, 1, 0, 0, 0, 9]), payload=b"1234567"), 0, 4),
        (chain(FRAGMENT, bytes([UDP, 0, 0xFF, 0xF8, 0, 0, 0, 9])), 0, 42),
    ],
)
def test_what_wants_a_parameter_problem(packet: bytes, code: int, pointer: int) -> None:
    with pytest.raises(HeaderProblem) as caught:
        parse_ipv6(packet)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_options_that_are_skipped_or_discarded() -> None:
    assert parse_ipv6(chain(DESTINATION_OPTIONS, bytes([UDP, 0, 0x1E, 4]) + bytes(4))).protocol == UDP
    with pytest.raises(WireError, match="ip-unknown-option") as caught:
        parse_ipv6(chain(DESTINATION_OPTIONS, bytes([UDP, 0, 0x5E, 4]) + bytes(4)))
    assert not isinstance(caught.value, HeaderProblem)
    multicast = encode_ipv6(A, pack_address("ff02::1"), DESTINATION_OPTIONS, bytes([UDP, 0, 0xC0, 4]) + bytes(4))
    with pytest.raises(WireError) as caught:
        parse_ipv6(multicast)
    assert not isinstance(caught.value, HeaderProblem)
    with pytest.raises(WireError, match="ip-options"):
        parse_ipv6(chain(DESTINATION_OPTIONS, bytes([UDP, 0, 0x1E, 9]) + bytes(4)))


def test_an_endless_chain_ends() -> None:
    with pytest.raises(WireError, match="ip-extension-headers"):
        parse_ipv6(chain(DESTINATION_OPTIONS, *[bytes([DESTINATION_OPTIONS, 0]) + PADDING] * 100))


def test_an_atomic_fragment_is_whole() -> None:
    packet = parse_ipv6(chain(FRAGMENT, bytes([UDP, 0, 0, 0, 0, 0, 0, 9])))
    assert not packet.is_fragment
    assert packet.protocol == UDP
    assert packet.payload == 48


@given(st.integers(0, 65_535), st.integers(1280, 9000), st.integers(0, 2**32 - 1))
def test_fragments_carry_the_payload(size: int, mtu: int, ident: int) -> None:
    payload = (b"0123456789abcdef!" * (size // 17 + 1))[:size]
    packets = fragment_ipv6(A, B, UDP, payload, mtu, ident)
    together = bytearray(size)
    for number, packet in enumerate(packets):
        assert len(packet) <= mtu
        parsed = parse_ipv6(packet)
        assert parsed.protocol == UDP
        assert parsed.more_fragments == (number < len(packets) - 1)
        assert parsed.ident == (ident if len(packets) > 1 else 0)
        piece = packet[parsed.payload : parsed.end]
        together[parsed.fragment_offset : parsed.fragment_offset + len(piece)] = piece
    assert together == payload


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_wire_error(tail: bytes) -> None:
    packet = bytearray(GOLDEN[:40] + tail)
    packet[4:6] = len(tail).to_bytes(2, "big")
    for first in (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS):
        packet[6] = first
        try:
            parsed = parse_ipv6(packet)
        except WireError:
            continue
        assert 40 <= parsed.payload <= parsed.end == len(packet)
