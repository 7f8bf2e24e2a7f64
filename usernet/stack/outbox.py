"""What is ready to leave: replies first, then whoever is next; and what never leaves, because it is for us.

Replies (echo replies, ICMP errors, resets, acknowledgements for connections that are gone) are finished packets that
belong to no connection.  They are few and small, and go first; when somebody makes us owe more than REPLY_BYTES of
them, the rest is dropped.  Packets to our own addresses (hairpin) come back in at the next `handle_timeout`, which is
at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from usernet.burst.packets import CHECKSUM_OK, PSH, Drops, PacketBurst, SuperPacket
from usernet.stack.schedule import Scheduler, Sender

REPLY_BYTES: Final = 256 << 10
LOOPBACK_BYTES: Final = 4 << 20


class Outbox:
    """Packets on their way out of one host."""

    __slots__ = ("_addresses", "_drops", "_loopback", "_loopback_bytes", "_replies", "_reply_bytes", "_scheduler")

    def __init__(
        self, addresses: frozenset[bytes], mtu: int, drops: Drops, after_turn: Callable[[Sender, float], bool]
    ) -> None:
        self._addresses = addresses
        self._drops = drops
        self._replies: deque[bytes] = deque()
        self._reply_bytes = 0
        self._loopback: list[SuperPacket] = []
        self._loopback_bytes = 0
        self._scheduler: Scheduler[Sender] = Scheduler(mtu, after_turn)

    def readdress(self, addresses: frozenset[bytes], mtu: int) -> None:
        """What is looped back from now on, and how large a packet may be."""
        self._addresses = addresses
        self._scheduler.smallest = mtu

    def reply(self, packet: bytes | None, destination: bytes) -> None:
        """Owe somebody a finished packet; None is nothing to say."""
        if packet is None:
            return
        if destination in self._addresses:
            self.loop_back(SuperPacket(packet))
        elif self._reply_bytes + len(packet) > REPLY_BYTES:
            self._drops.count("reply-queue-full")
        else:
            self._replies.append(packet)
            self._reply_bytes += len(packet)

    def loop_back(self, packet: SuperPacket) -> None:
        """Send a packet to ourselves."""
        size = len(packet.header) + packet.payload_bytes
        if self._loopback_bytes + size > LOOPBACK_BYTES:
            self._drops.count("loopback-full")
            return
        self._loopback.append(packet)
        self._loopback_bytes += size

    def want(self, sender: Sender) -> None:
        """A sender has something to send."""
        if not sender.is_queued:
            self._scheduler.add(sender)

    def forget(self, sender: Sender) -> None:
        """A sender is gone."""
        self._scheduler.discard(sender)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        """About budget_bytes of packets for the tunnel."""
        packets: list[SuperPacket] = []
        replies = self._replies
        while replies and budget_bytes > 0:
            packet = replies.popleft()
            self._reply_bytes -= len(packet)
            budget_bytes -= len(packet)
            packets.append(SuperPacket(packet))
        if budget_bytes > 0:
            packets += self._scheduler.take(budget_bytes, now)
        return packets

    @property
    def senders_waiting(self) -> int:
        return len(self._scheduler)

    @property
    def has_loopback(self) -> bool:
        return bool(self._loopback)

    def take_loopback(self) -> PacketBurst:
        """What we have sent to ourselves, as it would come out of the tunnel, checksums verified."""
        burst = PacketBurst(self._loopback_bytes)
        at = 0
        for packet in self._loopback:
            data = b"".join((packet.header, *packet.pieces))
            burst.buf[at : at + len(data)] = data
            transport = 20 if data[0] >> 4 == 4 else 40
            segments = -(-packet.payload_bytes // packet.mss) if packet.mss else 1
            # a single packet may be a fragment or ICMP: let it be parsed like one from outside
            row = (packet.mss, segments, transport, CHECKSUM_OK | PSH) if packet.mss else (0, 1, 0, 0)
            burst.rows.append((at, len(data), *row))
            at += len(data)
        self._loopback, self._loopback_bytes = [], 0
        return burst
