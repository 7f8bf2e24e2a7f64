"""Sequence numbers.  Read RFC 9293 3.4.

On the wire they are 32 bits and wrap.  Inside a connection they never do: each is a plain integer that counts on past
2**32, whose low 32 bits are the wire's, so every comparison is an ordinary one.  `unwrap` is the only way in and `&
MASK` the only way out.
"""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFF_FFFF
HALF: Final = 0x8000_0000


def unwrap(wire: int, near: int) -> int:
    """The number nearest to `near` whose low 32 bits are `wire`."""
    return near + ((wire - near + HALF) & MASK) - HALF


def is_older(a: int, b: int) -> bool:
    """Whether the 32-bit number or timestamp a comes before b (RFC 7323 5.2)."""
    return ((a - b) & MASK) >= HALF
