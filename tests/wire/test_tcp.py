"""Golden segments in both directions, every truncation, odd options."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.errors import WireError
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import TCP
from usernet.wire.packet import checksum_holds, parse_packet
from usernet.wire.tcp import (
    ACK,
    FIN,
    PSH,
    SYN,
    TIMESTAMP_OPTION,
    TcpSegment,
    encode_options,
    encode_segment,
    parse_segment,
)

V4 = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 1))
V6 = bytes.fromhex("fd000000000000000000000000000002"), bytes.fromhex("fd000000000000000000000000000001")

# A SYN as Linux sends it, a segment with NOP NOP Timestamps, one with SACK; their checksum fields are zero.
GOLDEN_SYN = bytes.fromhex(
    "c350 0050 00000001 00000000 a0 02 faf0 0000 0000020405b4 0402 080a 0000000a 00000000 01 030307"
)
SYN_VALUE = TcpSegment(50000, 80, 1, 0, SYN, 0xFAF0, 1460, 7, True, (), (10, 0), b"")
GOLDEN_DATA = bytes.fromhex("0050 c350 fffffffe 00000002 80 18 0200 0000 0000 0101080a 00000bb8 0000000a 6869")
DATA_VALUE = TcpSegment(80, 50000, 0xFFFFFFFE, 2, ACK | PSH, 512, timestamp=(3000, 10), payload=b"hi")
GOLDEN_SACK = bytes.fromhex(
    "0050 c350 00000001 00000002 a0 10 0200 0000 0000 0101 0512 00000010 00000020 00000030 00000040"
)
SACK_VALUE = TcpSegment(80, 50000, 1, 2, ACK, 512, sack_blocks=((0x10, 0x20), (0x30, 0x40)))
GOLDEN = [(GOLDEN_SYN, SYN_VALUE), (GOLDEN_DATA, DATA_VALUE), (GOLDEN_SACK, SACK_VALUE)]


@pytest.mark.parametrize(("golden", "value"), GOLDEN)
def test_golden_bytes_parse(golden: bytes, value: TcpSegment) -> None:
    assert parse_segment(memoryview(b"xx" + golden + b"yy"), 2, 2 + len(golden)) == value


@pytest.mark.parametrize(("golden", "value"), GOLDEN)
def test_every_truncation_is_refused_or_shortens_the_payload(golden: bytes, value: TcpSegment) -> None:
    header = (golden[12] >> 4) * 4
    for size in range(len(golden)):
        if size < header:
            with pytest.raises(WireError) as caught:
                parse_segment(memoryview(golden), 0, size)
            assert caught.value.reason in ("tcp-truncated", "tcp-offset")
        else:
            assert parse_segment(memoryview(golden), 0, size) == value._replace(payload=golden[header:size])


@pytest.mark.parametrize("addresses", [V4, V6])
@pytest.mark.parametrize("value", [SYN_VALUE, DATA_VALUE, SACK_VALUE, TcpSegment(1, 2, 3, 4, FIN | ACK, 5)])
def test_encode_and_parse_are_inverse(addresses: tuple[bytes, bytes], value: TcpSegment) -> None:
    packet = memoryview(value.encode(*addresses))
    ip = parse_packet(packet)
    assert (ip.source, ip.destination, ip.protocol) == (*addresses, TCP)
    assert checksum_holds(ip, packet)
    assert parse_segment(packet, ip.payload, ip.end) == value


def test_golden_data_is_what_is_built() -> None:
    packet = DATA_VALUE.encode(*V4)
    segment = packet[20:]
    assert segment[:16] + b"\0\0" + segment[18:] == GOLDEN_DATA
    assert checksum(segment, pseudo_header_sum(*V4, TCP, len(segment))) == 0


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("01010101", "mss", None),
        ("00020405", "mss", None),  # nothing counts after End
        ("020405b4", "mss", 1460),
        ("0303ff00", "window_scale", 14),  # RFC 7323 2.3
        ("02030500", "mss", None),  # a wrong length is skipped
        ("fd04abcd", "mss", None),  # unknown
        ("04020000", "sack_permitted", True),
        ("080a00000001000000020000", "timestamp", (1, 2)),
        ("01010506000000010000", "sack_blocks", None),
    ],
)
def test_options(options: str, field: str, value: object) -> None:
    raw = bytes.fromhex(options)
    raw += bytes(-len(raw) % 4)
    header = bytes.fromhex("0050 c350 00000001 00000002") + bytes(((20 + len(raw)) << 2, ACK, 0, 1, 0, 0, 0, 0)) + raw
    if value is None and field == "sack_blocks":
        value = ()
    assert getattr(parse_segment(memoryview(header), 0, len(header)), field) == value


@pytest.mark.parametrize("options", ["02000000", "02010000", "08", "0101010a", "010101fd", "05ff0000"])
def test_malformed_options_are_refused(options: str) -> None:
    raw = bytes.fromhex(options)
    raw = bytes([1] * (-len(raw) % 4)) + raw
    header = bytes.fromhex("0050 c350 00000001 00000002") + bytes(((20 + len(raw)) << 2, ACK, 0, 1, 0, 0, 0, 0)) + raw
    with pytest.raises(WireError, match="tcp-options"):
        parse_segment(memoryview(header), 0, len(header))


@pytest.mark.parametrize("header", ["0000c350", "00500000"])
def test_port_zero_is_refused(header: str) -> None:
    for rest in (GOLDEN_SYN[4:], GOLDEN_DATA[4:]):
        segment = bytes.fromhex(header) + rest
        with pytest.raises(WireError, match="tcp-port"):
            parse_segment(memoryview(segment), 0, len(segment))


@given(st.binary(max_size=80))
def test_anything_parses_or_raises_wire_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        parse_segment(memoryview(data), 0, len(data))


OPTION = st.just(b"\1") | st.builds(
    lambda kind, body: bytes((kind, 2 + len(body))) + body, st.integers(2, 255), st.binary(max_size=6)
)
TIMESTAMP_ALONE = st.binary(min_size=8, max_size=8).map(TIMESTAMP_OPTION.to_bytes(4).__add__)


@given(st.lists(OPTION, max_size=5).map(b"".join) | TIMESTAMP_ALONE, st.binary(max_size=40))
def test_payload_is_what_is_behind_any_options(options: bytes, payload: bytes) -> None:
    options += bytes(-len(options) % 4)
    packet = memoryview(encode_segment(*V4, 1, 2, 3, 4, ACK, 5, options, payload))
    assert parse_segment(packet, 20, len(packet)).payload == payload


@given(
    st.none() | st.integers(0, 65535),
    st.none() | st.integers(0, 14),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=1),
    st.none() | st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.binary(max_size=40),
)
def test_options_survive(
    mss: int | None,
    scale: int | None,
    sack: bool,
    blocks: list[tuple[int, int]],
    timestamp: tuple[int, int] | None,
    payload: bytes,
) -> None:
    options = encode_options(mss, scale, sack, tuple(blocks), timestamp)
    packet = memoryview(encode_segment(*V4, 1, 2, 3, 4, ACK, 5, options, payload))
    expected = TcpSegment(1, 2, 3, 4, ACK, 5, mss, scale, sack, tuple(blocks), timestamp, payload)
    assert parse_segment(packet, 20, len(packet)) == expected
