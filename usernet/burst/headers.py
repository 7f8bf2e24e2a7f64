"""Filling in the headers of a super-packet's segments.  RFC 791 and 8200, 9293 (3.1), 1071 for the sums.

A filler is made from the header's template and called for each segment in order.  It has summed up once what segments
share, adds what differs, and writes the header in one go, shared parts and all: that is faster than five writes.
Whatever the template has in the place of lengths and checksums does not matter.
"""

from __future__ import annotations

from struct import Struct

TCP = 6
_FIN_OR_PSH = 0x09  # for the last segment only

# Shared bytes, and between them: length, ID, header checksum; then sequence number, flags, checksum.
_HEADER_4 = Struct("!2s HH 4s H 12s I 5s B 2s H")
# Length; then sequence number, flags, checksum.
_HEADER_6 = Struct("!4s H 38s I 5s B 2s H")

_from_bytes = int.from_bytes


class Filler4:
    """For IPv4 without options."""

    __slots__ = ("_flags", "_ident", "_ip_sum", "_last_flags", "_length", "_seq", "_shared", "_tcp_sum")

    def __init__(self, header: bytes) -> None:
        start, length, ident, fragment, ip_sum, addresses, seq, ack, flags, window, tcp_sum = _HEADER_4.unpack_from(
            header
        )
        self._shared = start, fragment, addresses, ack, window
        self._length = len(header)
        self._ident = ident
        self._seq = seq
        self._last_flags = flags
        self._flags = flags & ~_FIN_OR_PSH
        # The sums of what all segments share, the pseudo-header with it.
        self._ip_sum = (_from_bytes(header[:20], "big") - length - ident - ip_sum + len(header)) % 65535
        pseudo = _from_bytes(addresses[:8], "big") + TCP + len(header) - 20
        self._tcp_sum = (_from_bytes(header[20:], "big") - seq - flags - tcp_sum + pseudo) % 65535

    def __call__(self, out: bytearray, size: int, little: int, last: bool) -> None:
        """Write the next segment's header, for `size` bytes of payload whose little-endian sum is `little`."""
        start, fragment, addresses, ack, window = self._shared
        ident, seq, flags = self._ident, self._seq, self._last_flags if last else self._flags
        self._ident = (ident + 1) & 0xFFFF
        self._seq = (seq + size) & 0xFFFFFFFF
        ip_sum = -(self._ip_sum + size + ident) % 65535
        tcp_sum = -(self._tcp_sum + size + seq + flags + little * 256) % 65535
        length = self._length + size
        _HEADER_4.pack_into(out, 0, start, length, ident, fragment, ip_sum, addresses, seq, ack, flags, window, tcp_sum)


class Filler6:
    """For IPv6 with TCP right behind its fixed header."""

    __slots__ = ("_flags", "_last_flags", "_length", "_seq", "_shared", "_tcp_sum")

    def __init__(self, header: bytes) -> None:
        start, _, addresses, seq, ack, flags, window, tcp_sum = _HEADER_6.unpack_from(header)
        self._shared = start, addresses, ack, window
        self._length = len(header) - 40
        self._seq = seq
        self._last_flags = flags
        self._flags = flags & ~_FIN_OR_PSH
        pseudo = _from_bytes(header[8:40], "big") + TCP + self._length
        self._tcp_sum = (_from_bytes(header[40:], "big") - seq - flags - tcp_sum + pseudo) % 65535

    def __call__(self, out: bytearray, size: int, little: int, last: bool) -> None:
        """Write the next segment's header, for `size` bytes of payload whose little-endian sum is `little`."""
        start, addresses, ack, window = self._shared
        seq, flags = self._seq, self._last_flags if last else self._flags
        self._seq = (seq + size) & 0xFFFFFFFF
        tcp_sum = -(self._tcp_sum + size + seq + flags + little * 256) % 65535
        _HEADER_6.pack_into(out, 0, start, self._length + size, addresses, seq, ack, flags, window, tcp_sum)
