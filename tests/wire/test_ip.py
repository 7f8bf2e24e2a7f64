"""Addresses."""

from __future__ import annotations

import pytest

from usernet.wire.ip import format_address, is_multicast, names_one_host, pack_address


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("10.1.2.3", bytes([10, 1, 2, 3])),
        ("fd00::1", bytes.fromhex("fd000000000000000000000000000001")),
        ("::", bytes(16)),
    ],
)
def test_both_ways(text: str, packed: bytes) -> None:
    assert pack_address(text) == packed
    assert format_address(packed) == text


@pytest.mark.parametrize("text", ["", "10.1.2", "10.1.2.300", "fe80::1%eth0", "example.org", "10.0.0.0/8"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        pack_address(text)


@pytest.mark.parametrize(
    ("text", "multicast", "one_host"),
    [
        ("10.0.0.1", False, True),
        ("0.1.2.3", False, False),
        ("127.0.0.1", False, False),
        ("224.0.0.1", True, False),
        ("255.255.255.255", True, False),
        ("fd00::1", False, True),
        ("::", False, False),
        ("::1", False, False),
        ("ff02::1", True, False),
    ],
)
def test_kinds_of_address(text: str, multicast: bool, one_host: bool) -> None:
    assert is_multicast(pack_address(text)) is multicast
    assert names_one_host(pack_address(text)) is one_host
