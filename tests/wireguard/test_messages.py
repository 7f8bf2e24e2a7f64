"""The handshake's messages: golden bytes both ways, every other length, every other type."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usernet.errors import HandshakeError
from usernet.wireguard.messages import (
    CookieReplyMessage,
    InitiationMessage,
    ResponseMessage,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
)

Parsed = InitiationMessage | ResponseMessage | CookieReplyMessage

MACS = bytes(range(32))
CASES: list[tuple[Callable[[bytes], Parsed], Parsed, bytes]] = [
    (
        parse_initiation,
        InitiationMessage(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28),
        b"\x01\0\0\0" + b"\x04\x03\x02\x01" + b"e" * 32 + b"s" * 48 + b"t" * 28 + MACS,
    ),
    (
        parse_response,
        ResponseMessage(0x01020304, 0xA0B0C0D0, b"e" * 32, b"n" * 16),
        b"\x02\0\0\0" + b"\x04\x03\x02\x01" + b"\xd0\xc0\xb0\xa0" + b"e" * 32 + b"n" * 16 + MACS,
    ),
    (
        parse_cookie_reply,
        CookieReplyMessage(0xA0B0C0D0, b"x" * 24, b"c" * 32),
        b"\x03\0\0\0" + b"\xd0\xc0\xb0\xa0" + b"x" * 24 + b"c" * 32,
    ),
]
each_kind = pytest.mark.parametrize(("parse", "value", "golden"), CASES, ids=["initiation", "response", "cookie-reply"])


@each_kind
def test_golden(parse: Callable[[bytes], Parsed], value: Parsed, golden: bytes) -> None:
    encoded = value.encode()
    assert golden in (encoded, encoded + MACS)
    assert parse(golden) == value
    assert parse(memoryview(golden)) == value  # type: ignore[arg-type]


@each_kind
def test_every_other_length_is_refused(parse: Callable[[bytes], Parsed], value: Parsed, golden: bytes) -> None:
    for size in range(len(golden)):
        with pytest.raises(HandshakeError, match="handshake-length"):
            parse(golden[:size])
    for tail in (1, 16, 1000):
        with pytest.raises(HandshakeError, match="handshake-length"):
            parse(golden + bytes(tail))


@each_kind
def test_every_other_type_is_refused(parse: Callable[[bytes], Parsed], value: Parsed, golden: bytes) -> None:
    for first in set(range(256)) - {golden[0]}:
        with pytest.raises(HandshakeError, match="handshake-type"):
            parse(bytes([first]) + golden[1:])
    for at in (1, 2, 3):  # reserved, and zero
        bad = bytearray(golden)
        bad[at] = 1
        with pytest.raises(HandshakeError, match="handshake-type"):
            parse(bytes(bad))


@given(st.sampled_from(CASES), st.binary(max_size=200))
def test_garbage(case: tuple[Callable[[bytes], Parsed], Parsed, bytes], garbage: bytes) -> None:
    parse, _, golden = case
    with contextlib.suppress(HandshakeError):
        parse(garbage)
    typed = (golden[:4] + garbage + bytes(148))[: len(golden)]
    assert typed.startswith(parse(typed).encode())
