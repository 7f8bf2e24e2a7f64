"""The Internet checksum.  Read RFC 1071; RFC 8200 8.1 for the pseudo-header.

A one's complement sum of 16-bit words is the number itself modulo 65535, save that a sum of words not all zero is never 0 but 65535.  So Python's big integers do the adding: first halves are added on top of each other (digits are
added far faster than they are divided), then one small division gives the rest.
"""

from __future__ import annotations

_FOLD_ABOVE = 256  # bytes: below this one division is cheaper than folding


def ones_sum(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """The one's complement sum (0..65535) of big-endian words; an odd last byte is padded with zero (RFC 1071 4.1)."""
    size = len(data)
    value = int.from_bytes(data, "big")
    if size & 1:
        value <<= 8
        size += 1
    while size > _FOLD_ABOVE:
        size = (size + 3) // 4 * 2  # half of it, in whole words
        high = value >> (size * 8)
        value += high - (high << (size * 8))
        size += 2  # the carry
    value += initial
    return value % 65535 or (65535 if value else 0)


def checksum(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """What belongs in a checksum field: the complement of `ones_sum`.  Over data with a right checksum in it: 0."""
    return 65535 - ones_sum(data, initial)


def pseudo_header_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """Sum of the pseudo-header of TCP, UDP and ICMPv6, as `initial` for `checksum`; length in bytes (RFC 8200 8.1)."""
    value = (
        int.from_bytes(source, "big")
        + int.from_bytes(destination, "big")
        + protocol
        + (length >> 16)
        + (length & 0xFFFF)
    )
    return value % 65535 or 65535  # protocol is never 0, so neither is the sum
