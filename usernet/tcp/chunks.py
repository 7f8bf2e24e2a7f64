"""Runs of bytes as lists of chunks, shared by both buffers.

A chunk is kept as it came, so bulk data is never copied again.  Small neighbours are joined, so that a peer or a
program that deals in single bytes cannot make objects that weigh forty times what they carry.
"""

from __future__ import annotations

from typing import Final

SMALL: Final = 2048  # bytes: joining costs less than what an object of its own would


def append(chunks: list[bytes], data: bytes) -> None:
    """Add data behind the last chunk."""
    if chunks and len(chunks[-1]) + len(data) <= SMALL:
        chunks[-1] += data
    else:
        chunks.append(data)


def extend(chunks: list[bytes], more: list[bytes]) -> None:
    """Add a list of chunks, joining at the seam."""
    if more:
        append(chunks, more[0])
        chunks.extend(more[1:])


def drop(chunks: list[bytes], count: int) -> None:
    """Remove the first `count` bytes."""
    whole = 0
    while whole < len(chunks) and len(chunks[whole]) <= count:
        count -= len(chunks[whole])
        whole += 1
    del chunks[:whole]
    if count and chunks:
        chunks[0] = chunks[0][count:]
