"""Packets that wait for a session: bounded, the oldest go first, and their bytes are our own.

The limit is Linux's, which counts packets of the MTU: a super-packet counts as its segments.  There is a limit in
bytes as well.  Pieces of a payload may be views that their owner changes after `seal`, so they are joined here.
"""

from __future__ import annotations

from collections import deque

from usernet.burst.packets import SuperPacket
from usernet.wireguard.constants import STAGED_PACKETS


def segment_count(packet: SuperPacket) -> int:
    """How many packets a super-packet will be on the wire."""
    return max(1, -(-packet.payload_bytes // packet.mss)) if packet.mss else 1


class Staging:
    """What one peer is to be sent once there is a session."""

    __slots__ = ("_bytes", "_max_bytes", "_packets", "_queue")

    def __init__(self, mtu: int) -> None:
        self._max_bytes = STAGED_PACKETS * mtu
        self._queue: deque[tuple[SuperPacket, int, int]] = deque()  # packet, segments, bytes
        self._packets = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Packets as they would be on the wire."""
        return self._packets

    @property
    def bytes(self) -> int:
        return self._bytes

    def stage(self, packet: SuperPacket) -> int:
        """Keep a copy; how many packets were dropped for it.  A lone super-packet always finds room."""
        owned = SuperPacket(bytes(packet.header), (b"".join(packet.pieces),) if packet.pieces else (), packet.mss)
        segments = segment_count(owned)
        size = len(owned.header) + owned.payload_bytes
        self._queue.append((owned, segments, size))
        self._packets += segments
        self._bytes += size
        dropped = 0
        while len(self._queue) > 1 and (self._packets > STAGED_PACKETS or self._bytes > self._max_bytes):
            _, segments, size = self._queue.popleft()
            self._packets -= segments
            self._bytes -= size
            dropped += segments
        return dropped

    def take(self) -> list[SuperPacket]:
        """All of them, in order; nothing is staged any more."""
        packets = [packet for packet, _, _ in self._queue]
        self.purge()
        return packets

    def purge(self) -> int:
        """Drop all of them; how many."""
        purged = self._packets
        self._queue.clear()
        self._packets = self._bytes = 0
        return purged
