"""What goes through the tunnel, as a pcap file: the packets inside, both ways.  Read draft-ietf-opsawg-pcap.

While nobody captures nothing is in the way: `Device.tap` puts a link before the one there is, and takes it away again.
Merged segments are written as the one packet that they are here, with lengths and checksums that are right for it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

from usernet.burst.packets import PacketBurst, SuperPacket
from usernet.links import PacketLink
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import TCP

MAGIC_NANOSECONDS: Final = 0xA1B23C4D
LINKTYPE_RAW: Final = 101  # an IP packet, of either version
SNAPLEN: Final = 65_535 + 40
HEADER: Final = struct.pack("<IHHiIII", MAGIC_NANOSECONDS, 2, 4, 0, 0, SNAPLEN, LINKTYPE_RAW)
_RECORD: Final = struct.Struct("<IIII")


class Tap:
    """A PacketLink before another, `link`: what passes is given to `write`, as whole records to stand behind HEADER."""

    link: PacketLink

    def __init__(self, write: Callable[[bytes], None], wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._write = write
        self._wall_ns = wall_ns

    def deliver(self, burst: PacketBurst, now: float) -> None:
        for offset, length, mss, _, transport, _ in burst.rows:
            packet = bytes(burst.buf[offset : offset + length])
            self._record(_whole(packet, transport) if mss else packet)
        self.link.deliver(burst, now)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        packets = self.link.take(budget_bytes, now)
        for packet in packets:
            whole = packet.header + b"".join(packet.pieces)
            self._record(_whole(whole, 20 if whole[0] >> 4 == 4 else 40) if packet.mss else whole)
        return packets

    def _record(self, packet: bytes) -> None:
        seconds, nanoseconds = divmod(self._wall_ns(), 1_000_000_000)
        self._write(_RECORD.pack(seconds, nanoseconds, len(packet), len(packet)) + packet)

    def next_timeout(self) -> float | None:
        return self.link.next_timeout()

    def handle_timeout(self, now: float) -> None:
        self.link.handle_timeout(now)

    def path_changed(self, now: float) -> None:
        self.link.path_changed(now)

    def on_wake(self, callback: Callable[[], None]) -> None:
        self.link.on_wake(callback)

    def close(self) -> None:
        self.link.close()


def _whole(packet: bytes, transport: int) -> bytes:
    """A TCP packet whose header tells of its first segment, or of none yet: with lengths and sums of all of it."""
    data = bytearray(packet)
    if transport == 20:
        data[2:4] = min(len(data), 0xFFFF).to_bytes(2, "big")
        data[10:12] = b"\0\0"
        data[10:12] = checksum(data[:20]).to_bytes(2, "big")
        source, destination = data[12:16], data[16:20]
    else:
        data[4:6] = min(len(data) - 40, 0xFFFF).to_bytes(2, "big")
        source, destination = data[8:24], data[24:40]
    at = transport + 16
    data[at : at + 2] = b"\0\0"
    total = checksum(data[transport:], pseudo_header_sum(source, destination, TCP, len(data) - transport))
    data[at : at + 2] = total.to_bytes(2, "big")
    return bytes(data)
