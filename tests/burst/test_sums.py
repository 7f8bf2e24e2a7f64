"""The fast sums against adding word by word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.burst import checksum, pattern
from usernet.burst import sums

WORST = [b"\xff", b"\0", b"\xff" * 8 + bytes(8), bytes(8) + b"\xff" * 8, b"\xff" * 16 + bytes(16), b"\x80" + bytes(15)]


def plain(data: bytes) -> int:
    return (checksum(data) ^ 0xFFFF) % 65535


@pytest.mark.parametrize("size", [*range(70), 1367, 1368, 1420, 2999, 4095, 4096, 4097, 61560, 65535])
def test_every_size(size: int) -> None:
    assert sums.sum16(pattern(size)) == plain(pattern(size))
    if size >= 16:
        assert sums._poly_sum(pattern(size)) * 256 % 65535 == plain(pattern(size))


@pytest.mark.parametrize("unit", WORST)
@pytest.mark.parametrize("size", [16, 17, 31, 32, 1368, 4096, 65530, 65535])
def test_where_carries_are_most(unit: bytes, size: int) -> None:
    data = (unit * size)[:size]
    assert sums.sum16(data) == sums._poly_sum(data) * 256 % 65535 == plain(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=16, max_size=600), st.integers(1, 100))
def test_like_word_by_word(data: bytes, times: int) -> None:
    data = data * times
    assert sums.sum16(data) == sums._poly_sum(data) * 256 % 65535 == plain(data)


def test_what_poly1305_loses_is_a_multiple_of_65535() -> None:
    assert (sums._INVERSE << 128) % sums._P == 5 * (2**64 - 1)
    assert 5 * (2**64 - 1) % 65535 == 0
