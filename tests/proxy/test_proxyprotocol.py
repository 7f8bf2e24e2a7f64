"""The PROXY protocol: golden bytes of HAProxy's document, every truncation, and what is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.proxyprotocol import V2_START, Header, encode, parse
from usernet.errors import WireError

V1 = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"  # 2.1's example
V1_LONGEST = b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"
V1_UNKNOWN_LONGEST = b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"
TLVS = b"\x03\0\4abcd\x04\0\3\0\0\0"
V2_TCP4 = V2_START + b"\x21\x11\0\x0c" + bytes([192, 168, 0, 1, 192, 168, 0, 11]) + b"\xdc\x04\x01\xbb"
V2_TCP6 = V2_START + b"\x21\x21\0\x24" + bytes.fromhex("fd00") + bytes(13) + b"\1" + bytes(15) + b"\1" + b"\0\7\0\x50"
V2_LOCAL = V2_START + b"\x20\0\0\0"


def v2(command: int, family: int, payload: bytes) -> bytes:
    return V2_START + struct.pack("!BBH", command, family, len(payload)) + payload


WHOLE = [
    (V1, ("192.168.0.1", 56324)),
    (V1_LONGEST, ("ffff:" * 7 + "ffff", 65535)),
    (b"PROXY TCP6 ::1 fd00::2 0 1\r\n", ("::1", 0)),
    (b"PROXY UNKNOWN\r\n", None),
    (V1_UNKNOWN_LONGEST, None),
    (V2_TCP4, ("192.168.0.1", 56324)),
    (V2_TCP6, ("fd00::1", 7)),
    (V2_LOCAL, None),
    (v2(0x21, 0x11, V2_TCP4[16:] + TLVS), ("192.168.0.1", 56324)),
    (v2(0x20, 0x11, V2_TCP4[16:]), None),  # a health check, whatever its addresses
    (v2(0x21, 0x00, TLVS), None),
    (v2(0x21, 0x12, V2_TCP4[16:]), None),  # UDP
    (v2(0x21, 0x31, bytes(216)), None),  # a Unix socket
]


@pytest.mark.parametrize(("data", "source"), WHOLE)
def test_whole_cut_anywhere_and_with_more_behind(data: bytes, source: tuple[str, int] | None) -> None:
    assert parse(data) == Header(source, len(data))
    assert parse(data + b"GET / HTTP/1.1\r\n\r\n") == Header(source, len(data))
    for cut in range(len(data)):
        assert parse(data[:cut]) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "proxy-header-missing"),
        (b"\x05\x01\x00", "proxy-header-missing"),
        (b"PROXy", "proxy-header-missing"),
        (V2_START[:11] + b"\0", "proxy-header-missing"),
        (b"PROXY " + bytes(101), "proxy-header-too-long"),
        (b"PROXY UNKNOWN" + b"x" * 93 + b"\r\n", "proxy-header-too-long"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 -1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", "proxy-header-malformed"),
        (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP4 ::1 ::1 1 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", "proxy-header-malformed"),
        (b"PROXY TCP4 \xff.2.3.4 1.2.3.4 1 1\r\n", "proxy-header-malformed"),
        (V2_START + b"\x11\x11\0\x0c", "proxy-header-malformed"),
        (V2_START + b"\x22\x11\0\x0c", "proxy-header-malformed"),
        (V2_START + b"\x21\x41\0\x0c", "proxy-header-malformed"),
        (V2_START + b"\x21\x13\0\x0c", "proxy-header-malformed"),
        (V2_START + b"\x21\x11\0\x0b", "proxy-header-malformed"),
        (V2_START + b"\x21\x21\0\x23", "proxy-header-malformed"),
        (V2_START + b"\x21\x11\xff\xff", "proxy-header-too-long"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        parse(data)
    assert caught.value.reason == reason


@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", V2_START, V2_START + b"\x21\x11"]))
def test_any_bytes(data: bytes, start: bytes) -> None:
    try:
        found = parse(start + data)
    except WireError:
        return
    assert found is None or found.size <= len(start + data)


def test_what_is_said_to_a_target() -> None:
    assert encode("v1", ("192.168.0.1", 56324), ("192.168.0.11", 443)) == V1
    assert encode("v2", ("192.168.0.1", 56324), ("192.168.0.11", 443)) == V2_TCP4
    assert encode("v2", ("fd00::1", 7), ("::1", 80)) == V2_TCP6
    assert encode("v1", ("fe80::1%eth0", 1), ("::1", 2)) == b"PROXY TCP6 fe80::1 ::1 1 2\r\n"
    for version in ("v1", "v2"):
        mixed = encode(version, ("fd00::1", 1), ("10.0.0.1", 2))
        assert parse(mixed) == Header(("fd00::1", 1), len(mixed))
