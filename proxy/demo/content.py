"""What is sent to and fro: bytes that are generated, different everywhere, and whose digest both ends can work out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache

PIECE = 256 << 10  # B


@lru_cache(maxsize=1)
def _block() -> bytes:
    return hashlib.shake_128(b"usernet demo").digest(PIECE)


def pieces(size: int) -> Iterator[bytes]:
    """`size` bytes; each piece is the block turned by one byte more, so a lost or swapped one shows in the digest."""
    block = _block()
    for number in range(-(-size // PIECE)):
        turn = number % PIECE
        piece = block[turn:] + block[:turn]
        yield piece[: size - number * PIECE]


def digest(size: int) -> str:
    """The SHA-256 of `pieces(size)`."""
    found = hashlib.sha256()
    for piece in pieces(size):
        found.update(piece)
    return found.hexdigest()
