"""What goes through the tunnel, as a pcap file: the packets inside, both ways.  Read draft-ietf-opsawg-pcap.

While nobody captures nothing is in the way: `Device.tap` puts a link before the one there is, and takes it away again.
Merged segments are written as the one packet that they are here, with lengths and checksums that are right for it.
Of longer ones than `snaplen` the rest is left out, as tcpdump's -s does.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Final

from usernet.aio.runtime import log
from usernet.burst.packets import PacketBurst, SuperPacket
from usernet.links import PacketLink
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import TCP

MAGIC_NANOSECONDS: Final = 0xA1B23C4D
LINKTYPE_RAW: Final = 101  # an IP packet, of either version
SNAPLEN: Final = 65_535 + 40
_RECORD: Final = struct.Struct("<IIII")


def header(snaplen: int = SNAPLEN) -> bytes:
    """What a file begins with."""
    return struct.pack("<IHHiIII", MAGIC_NANOSECONDS, 2, 4, 0, 0, snaplen, LINKTYPE_RAW)


class Tap:
    """A PacketLink before another, `link`: `write` is given what passes, as records to stand behind header().

    Once it has failed it is given no more.
    """

    link: PacketLink

    def __init__(
        self, write: Callable[[bytes], None], snaplen: int = SNAPLEN, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._write = write
        self._snaplen = snaplen
        self._wall_ns = wall_ns
        self._failed = False

    def deliver(self, burst: PacketBurst, now: float) -> None:
        for offset, length, mss, _, transport, _ in burst.rows:
            if self._failed:
                break
            packet = bytes(burst.buf[offset : offset + length])
            self._record(self._whole(packet, transport) if mss else packet)
        self.link.deliver(burst, now)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        packets = self.link.take(budget_bytes, now)
        for packet in packets:
            if self._failed:
                break
            whole = packet.header + b"".join(packet.pieces)
            self._record(self._whole(whole, 20 if whole[0] >> 4 == 4 else 40) if packet.mss else whole)
        return packets

    def _whole(self, packet: bytes, transport: int) -> bytes:
        """A packet of TCP whose header tells of its first segment, or of none yet: with what is right for all of it."""
        data = bytearray(packet)
        if transport == 20:
            data[2:4] = min(len(data), 0xFFFF).to_bytes(2, "big")
            data[10:12] = b"\0\0"
            data[10:12] = checksum(data[:20]).to_bytes(2, "big")
            source, destination = data[12:16], data[16:20]
        else:
            data[4:6] = min(len(data) - 40, 0xFFFF).to_bytes(2, "big")
            source, destination = data[8:24], data[24:40]
        if len(data) <= self._snaplen:  # else nobody can verify it, and it is most of the work
            at = transport + 16
            data[at : at + 2] = b"\0\0"
            total = checksum(data[transport:], pseudo_header_sum(source, destination, TCP, len(data) - transport))
            data[at : at + 2] = total.to_bytes(2, "big")
        return bytes(data)

    def _record(self, packet: bytes) -> None:
        seconds, nanoseconds = divmod(self._wall_ns(), 1_000_000_000)
        part = packet[: self._snaplen]
        try:
            self._write(_RECORD.pack(seconds, nanoseconds, len(part), len(packet)) + part)
        except Exception:  # noqa: BLE001 - whoever captures does not stop the tunnel
            self._failed = True
            log.exception("capturing failed, and has ended")

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
