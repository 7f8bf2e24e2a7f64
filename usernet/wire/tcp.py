"""TCP segments.  Read RFC 9293 3.1 and 3.2 (header, options), RFC 7323 2.2 and 3.2 (scale, timestamps), RFC 2018.

Almost every segment of a connection has exactly one option layout, NOP NOP Timestamps, which is read with the header in
one unpack; everything else takes the walk.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from usernet.errors import WireError
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import TCP
from usernet.wire.packet import header_before

Buffer = bytes | bytearray | memoryview

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80

HEADER_BYTES: Final = 20
TIMESTAMP_OPTION: Final = 0x0101080A  # NOP NOP Timestamps, the layout of RFC 7323 appendix A
TIMESTAMP_BYTES: Final = 12

_HEADER = Struct("!HHIIBBHHH")
_HEADER_WITH_TIMESTAMP = Struct("!HHIIBBHIIII")
_TWO = Struct("!II")

_END, _NOP, _MSS, _WINDOW_SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMP = 0, 1, 2, 3, 4, 5, 8
_MAX_WINDOW_SCALE = 14  # RFC 7323 2.3: more is read as 14


class TcpSegment(NamedTuple):
    """One segment.  `payload` is a view of the buffer it was parsed from: copy what is kept."""

    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    window: int  # as in the header, not scaled
    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    sack_blocks: tuple[tuple[int, int], ...] = ()
    timestamp: tuple[int, int] | None = None  # TSval, TSecr
    payload: Buffer = b""

    def encode(self, source: bytes, destination: bytes) -> bytes:
        """The whole IP packet, checksums and all."""
        options = encode_options(self.mss, self.window_scale, self.sack_permitted, self.sack_blocks, self.timestamp)
        return encode_segment(source, destination, *self[:6], options, self.payload)


def parse_segment(buf: Buffer, offset: int, end: int) -> TcpSegment:
    """The segment in buf[offset:end] (give a memoryview, for the payload is a slice).  The checksum is the caller's
    matter.  Raises WireError."""
    size = end - offset
    if size >= 32 and buf[offset + 12] >> 4 == 8:
        source_port, destination_port, seq, ack, _, flags, window, _, option, value, echo = (
            _HEADER_WITH_TIMESTAMP.unpack_from(buf, offset)
        )
        if option == TIMESTAMP_OPTION and source_port and destination_port:
            return TcpSegment(
                source_port, destination_port, seq, ack, flags, window,
                None, None, False, (), (value, echo), buf[offset + 32 : end],
            )  # fmt: skip
    if size < HEADER_BYTES:
        raise WireError("tcp-truncated")
    source_port, destination_port, seq, ack, data_offset, flags, window, _, _ = _HEADER.unpack_from(buf, offset)
    header = (data_offset >> 4) * 4
    if header < HEADER_BYTES or header > size:
        raise WireError("tcp-offset")
    if not (source_port and destination_port):
        raise WireError("tcp-port")
    payload = buf[offset + header : end]
    if header == HEADER_BYTES:
        return TcpSegment(source_port, destination_port, seq, ack, flags, window, payload=payload)
    options = _parse_options(bytes(buf[offset + HEADER_BYTES : offset + header]))
    return TcpSegment(source_port, destination_port, seq, ack, flags, window, *options, payload)


def _parse_options(
    options: bytes,
) -> tuple[int | None, int | None, bool, tuple[tuple[int, int], ...], tuple[int, int] | None]:
    """Unknown kinds, and known ones of a wrong length, are skipped (RFC 9293 3.2: MUST ignore, MUST-7: no crash)."""
    mss = window_scale = timestamp = None
    sack_permitted = False
    sack_blocks: tuple[tuple[int, int], ...] = ()
    at, end = 0, len(options)
    while at < end and (kind := options[at]) != _END:
        if kind == _NOP:
            at += 1
            continue
        if at + 1 >= end or (length := options[at + 1]) < 2 or at + length > end:
            raise WireError("tcp-options")
        body = at + 2
        if kind == _TIMESTAMP and length == 10:
            timestamp = _TWO.unpack_from(options, body)
        elif kind == _SACK and length >= 10 and length % 8 == 2:
            sack_blocks = tuple(_TWO.iter_unpack(options[body : at + length]))
        elif kind == _MSS and length == 4:
            mss = options[body] << 8 | options[body + 1]
        elif kind == _WINDOW_SCALE and length == 3:
            window_scale = min(options[body], _MAX_WINDOW_SCALE)
        elif kind == _SACK_PERMITTED and length == 2:
            sack_permitted = True
        at += length
    return mss, window_scale, sack_permitted, sack_blocks, timestamp


def encode_options(
    mss: int | None = None,
    window_scale: int | None = None,
    sack_permitted: bool = False,
    sack_blocks: tuple[tuple[int, int], ...] = (),
    timestamp: tuple[int, int] | None = None,
) -> bytes:
    """Options in the order Linux uses, each group padded with NOPs to four bytes.  The caller keeps to 40 bytes:
    at most four SACK blocks, three with a timestamp."""
    parts = []
    if mss is not None:
        parts.append(bytes((_MSS, 4, mss >> 8, mss & 0xFF)))
    if sack_permitted:
        parts.append(bytes((_NOP, _NOP, _SACK_PERMITTED, 2)))
    if timestamp is not None:
        parts.append(TIMESTAMP_OPTION.to_bytes(4, "big") + _TWO.pack(*timestamp))
    if window_scale is not None:
        parts.append(bytes((_NOP, _WINDOW_SCALE, 3, window_scale)))
    if sack_blocks:
        parts.append(bytes((_NOP, _NOP, _SACK, 2 + 8 * len(sack_blocks))))
        parts.extend(_TWO.pack(*block) for block in sack_blocks)
    return b"".join(parts)


def encode_segment(
    source: bytes,
    destination: bytes,
    source_port: int,
    destination_port: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes = b"",
    payload: Buffer = b"",
) -> bytes:
    """A finished IP packet with checksums; `options` are a multiple of four bytes, at most 40."""
    header = HEADER_BYTES + len(options)
    fields = source_port, destination_port, seq, ack, header << 2, flags, window
    plain = b"".join((_HEADER.pack(*fields, 0, 0), options, payload))
    total = checksum(plain, pseudo_header_sum(source, destination, TCP, len(plain)))
    ip = header_before(source, destination, TCP, len(plain))
    return b"".join((ip, plain[:16], total.to_bytes(2, "big"), plain[18:]))
