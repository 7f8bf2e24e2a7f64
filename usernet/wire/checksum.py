"""The Internet checksum.  Read RFC 1071; RFC 8200 8.1 for the pseudo-header.

A one's complement sum of 16-bit words is the number itself modulo 65535, save that a sum of words not all zero is never
0 but 65535.  So one division of a big integer does it: 0.3 µs for a header, 2.5 µs for 1400 bytes, which is faster than
any way of folding halves that was tried.
"""

from __future__ import annotations


def ones_sum(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """The one's complement sum (0..65535) of big-endian words; an odd last byte is padded with zero (RFC 1071 4.1)."""
    value = int.from_bytes(data, "big")
    if len(data) & 1:
        value <<= 8
    value += initial
    return value % 65535 or (65535 if value else 0)


def checksum(data: bytes | bytearray | memoryview, initial: int = 0) -> int:
    """What belongs in a checksum field: the complement of `ones_sum`.  Over data with a right checksum in it: 0."""
    return 65535 - ones_sum(data, initial)


def pseudo_header_sum(source: bytes | bytearray, destination: bytes | bytearray, protocol: int, length: int) -> int:
    """Sum of the pseudo-header of TCP, UDP and ICMPv6, as `initial` for `checksum`; length in bytes (RFC 8200 8.1)."""
    addresses = int.from_bytes(source, "big") + int.from_bytes(destination, "big")
    return (addresses + protocol + length) % 65535 or 65535  # the protocol is never 0, so neither is the sum
