"""The Internet checksum's sum (RFC 1071), as fast as Python can have it.

All sums here are modulo 65535, which is what one's complement addition amounts to: a packet is good when everything its
checksum covers, the checksum included, sums up to 0.

Small buffers become one big integer: 2**16 is 1 modulo 65535, so its remainder is the sum of its 16-bit words.
Halving it first is cheaper than dividing all of it.  This costs 1.2 ns a byte, as much as ChaCha20-Poly1305 itself.

Large buffers go through Poly1305 (RFC 8439, 2.5), which with r = 1 and s = 0 is nothing but the sum of the 16-byte
blocks modulo p = 2**130 - 5, and costs 0.08 ns a byte.  Two of them, the second one 8 bytes on, give the exact sum:
let L be the sum of the lower 8-byte halves of all blocks, H that of the upper ones.  The first yields L + 2**64 H,
the second H + 2**64 L, both together (1 + 2**64)(L + H) modulo p.  L + H is far below p, so dividing modulo p
recovers it.  Poly1305 keeps only 128 of the 130 bits of each result, which loses up to 6 * 2**128 in all.  Divided by
1 + 2**64 modulo p, that is up to six times 5 * (2**64 - 1): still far below p, and a multiple of 65535.  So what is
lost does not matter.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.poly1305 import Poly1305

from usernet.burst.packets import Buffer

_SHIFT_1 = 752 * 8  # halves of an Ethernet MTU
_SHIFT_2 = 376 * 8
_MASK_1 = (1 << _SHIFT_1) - 1
_MASK_2 = (1 << _SHIFT_2) - 1

_FOLD_FROM = 300
_POLY_FROM = 4096  # bytes from where two calls of Poly1305 are cheaper
_ONE = b"\1" + bytes(31)  # r = 1, s = 0
_P = (1 << 130) - 5
_INVERSE = pow(1 + (1 << 64), -1, _P)

_from_bytes = int.from_bytes
_tag = Poly1305.generate_tag


def little_sum(data: Buffer) -> int:
    """The sum of the little-endian 16-bit words of a small buffer, modulo 65535; an odd byte counts as itself."""
    number = _from_bytes(data, "little")
    if len(data) > _FOLD_FROM:
        number = (number >> _SHIFT_1) + (number & _MASK_1)
        number = (number >> _SHIFT_2) + (number & _MASK_2)
    return number % 65535


def sum16(data: Buffer) -> int:
    """The sum of the big-endian 16-bit words, an odd last byte padded with a zero, modulo 65535."""
    # Swapping the bytes of every word multiplies the sum by 2**8 (RFC 1071, 2 B).
    return (little_sum(data) if len(data) < _POLY_FROM else _poly_sum(data)) * 256 % 65535


def _poly_sum(data: Buffer) -> int:
    """`little_sum` of 16 bytes to 256 KiB."""
    view = memoryview(data)
    size = len(view)
    first = _from_bytes(_tag(_ONE, view), "little") - _padding(size)
    second = _from_bytes(_tag(_ONE, view[8:]), "little") - _padding(size - 8)
    second += _from_bytes(view[:8], "little") << 64
    quotient = (first + second) * _INVERSE % _P
    return (quotient if quotient < _P // 2 else quotient - _P) % 65535


def _padding(size: int) -> int:
    """What the 1 behind each block (RFC 8439, 2.5.1) adds to the sum."""
    blocks, rest = divmod(size, 16)
    return (blocks << 128) + ((1 << (8 * rest)) if rest else 0)
