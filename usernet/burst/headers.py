"""Filling in the headers of a super-packet's segments.  RFC 791 and 8200, 9293 (3.1), 1071 for the sums.

A filler is made from the header's template and called for each segment in order.  It has summed up once what segments
share, adds what differs, and writes the header in one go, shared parts and all: that is faster than five writes.
"""

from __future__ import annotations

from struct import Struct

from usernet.burst.sums import sum16

TCP = 6
_FIN_OR_PSH = 0x09

# Shared bytes, and between them: length, ID, header checksum; then sequence number, flags, checksum.
_HEADER_4 = Struct("!2s HH 4s H 12s I 5s B 2s H")
# Length; then sequence number, flags, checksum.
_HEADER_6 = Struct("!4s H 38s I 5s B 2s H")


class _Filler:
    __slots__ = ("_flags", "_last_flags", "_seq", "_tcp_sum")

    def __init__(self, header: bytes, transport: int, addresses: bytes) -> None:
        seq, flags = transport + 4, transport + 13
        self._seq = int.from_bytes(header[seq : seq + 4], "big")
        self._last_flags = header[flags]
        self._flags = header[flags] & ~_FIN_OR_PSH  # those are for the last segment only
        shared = bytearray(header[transport:])
        shared[4:8] = bytes(4)
        shared[13] = 0
        shared[16:18] = bytes(2)
        self._tcp_sum = sum16(shared) + sum16(addresses) + TCP + len(shared)

    def _next(self, size: int, little: int, last: bool) -> tuple[int, int, int]:
        """Sequence number, flags and checksum of the next segment."""
        seq = self._seq
        self._seq = (seq + size) & 0xFFFFFFFF
        flags = self._last_flags if last else self._flags
        return seq, flags, -(self._tcp_sum + size + seq + flags + little * 256) % 65535


class Filler4(_Filler):
    """For IPv4 without options."""

    __slots__ = ("_ident", "_ip_sum", "_length", "_shared")

    def __init__(self, header: bytes) -> None:
        super().__init__(header, 20, header[12:20])
        self._shared = header[:2], header[6:10], header[12:24], header[28:33], header[34:36]
        self._ident = int.from_bytes(header[4:6], "big")
        self._length = len(header)
        self._ip_sum = sum16(header[:2] + header[6:10] + header[12:20]) + len(header)

    def __call__(self, out: bytearray, size: int, little: int, last: bool) -> None:
        """Write the next segment's header, with `size` bytes of payload whose little-endian sum is `little`."""
        start, fragment, addresses, ack, window = self._shared
        ident = self._ident
        self._ident = (ident + 1) & 0xFFFF
        seq, flags, tcp_sum = self._next(size, little, last)
        ip_sum = -(self._ip_sum + size + ident) % 65535
        length = self._length + size
        _HEADER_4.pack_into(out, 0, start, length, ident, fragment, ip_sum, addresses, seq, ack, flags, window, tcp_sum)


class Filler6(_Filler):
    """For IPv6 with TCP right behind its fixed header."""

    __slots__ = ("_length", "_shared")

    def __init__(self, header: bytes) -> None:
        super().__init__(header, 40, header[8:40])
        self._shared = header[:4], header[6:44], header[48:53], header[54:56]
        self._length = len(header) - 40

    def __call__(self, out: bytearray, size: int, little: int, last: bool) -> None:
        """Write the next segment's header, with `size` bytes of payload whose little-endian sum is `little`."""
        start, addresses, ack, window = self._shared
        seq, flags, tcp_sum = self._next(size, little, last)
        _HEADER_6.pack_into(out, 0, start, self._length + size, addresses, seq, ack, flags, window, tcp_sum)
