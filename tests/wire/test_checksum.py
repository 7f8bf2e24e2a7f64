"""The checksum against the loop of RFC 1071 4.1, and its own example."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from usernet.wire.checksum import checksum, ones_sum, pseudo_header_sum


def naive_sum(data: bytes, initial: int = 0) -> int:
    """RFC 1071 4.1, word by word."""
    total = initial
    for at in range(0, len(data), 2):
        total += data[at] << 8 | (data[at + 1] if at + 1 < len(data) else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071() -> None:
    assert ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_nothing_and_zeros_sum_to_zero_but_ones_do_not() -> None:
    assert ones_sum(b"") == 0
    assert ones_sum(bytes(3000)) == 0
    assert ones_sum(b"\xff\xff") == 0xFFFF
    assert ones_sum(b"\xff" * 3000) == 0xFFFF


@given(st.binary(max_size=700), st.integers(0, 0x3FFFF))
def test_equals_the_naive_loop(data: bytes, initial: int) -> None:
    assert ones_sum(data, initial) == naive_sum(data, initial)
    assert ones_sum(memoryview(data), initial) == naive_sum(data, initial)


@given(st.integers(250, 66_000), st.integers(0, 2**32 - 1))
def test_equals_the_naive_loop_on_large_data(size: int, seed: int) -> None:
    data = (seed.to_bytes(4, "big") * (size // 4 + 1))[:size]
    assert ones_sum(data) == naive_sum(data)


@given(st.binary(min_size=2, max_size=300))
def test_data_that_includes_its_checksum_sums_to_zero(data: bytes) -> None:
    data = data[: len(data) & ~1]
    assert checksum(data + checksum(data).to_bytes(2, "big")) == 0


@given(st.sampled_from([4, 16]), st.data(), st.integers(1, 255), st.integers(0, 0x1FFFF))
def test_pseudo_header(size: int, data: st.DataObject, protocol: int, length: int) -> None:
    source = data.draw(st.binary(min_size=size, max_size=size))
    destination = data.draw(st.binary(min_size=size, max_size=size))
    plain = source + destination + struct.pack("!IHBB", length, 0, 0, protocol)
    assert pseudo_header_sum(source, destination, protocol, length) == naive_sum(plain)
