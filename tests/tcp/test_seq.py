from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usernet.tcp.seq import HALF, MASK, is_older, unwrap


@given(st.integers(-(2**40), 2**40), st.integers(-HALF, HALF - 1))
def test_unwrap_finds_the_nearest(near: int, distance: int) -> None:
    assert unwrap((near + distance) & MASK, near) == near + distance


def test_unwrap_across_the_wrap() -> None:
    assert unwrap(5, 0xFFFF_FFFF) == 0x1_0000_0005
    assert unwrap(0xFFFF_FFFF, 0x1_0000_0005) == 0xFFFF_FFFF
    assert unwrap(0xFFFF_FFFF, 3) == -1


def test_is_older() -> None:
    assert is_older(1, 2)
    assert not is_older(2, 2)
    assert not is_older(3, 2)
    assert is_older(0xFFFF_FFFF, 2)
