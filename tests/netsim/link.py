"""One direction of a path: a queue before a bottleneck, a delay, and what goes wrong, from a seed.

A link works on super-packets, or simulations would take minutes: each of their segments has its own fate, and
neighbours that arrive within `MODERATION` of each other come out as one row, as from a network card that interrupts
rarely and a kernel that coalesces.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.support.stack import cut
from usernet.burst.packets import CHECKSUM_OK, ECN_CE, SuperPacket
from usernet.wire.tcp import FIN, PSH

MODERATION: Final = 0.0005  # s
_PORTS: Final = 20  # where the TCP header begins: all simulations are IPv4 without options
_OUTER: Final = 60  # B that a datagram adds to a packet: IPv4, UDP, WireGuard


@dataclass(frozen=True)
class Conditions:
    """Shares are of packets; seconds and bytes."""

    delay: float
    rate: float = 0.0  # B/s; 0: without a bottleneck
    queue: int = 1 << 62  # B that wait before the bottleneck; more is dropped
    mark: int = 1 << 62  # B that wait from which on what is ECN-capable is marked
    loss: float = 0.0
    bursts: float = 0.0  # share of packets that begin a burst of losses
    burst_packets: float = 4.0  # and the mean length of one
    reorder: float = 0.0
    late: float = 0.005  # how late those are
    duplicate: float = 0.0
    corrupt: float = 0.0
    hole: tuple[float, float] = (0.0, 0.0)  # from, until: nothing passes
    largest: int = 0  # B of a packet; larger ones vanish, and no ICMP says so


@dataclass(frozen=True)
class Row:
    """What comes out together."""

    at: float
    data: bytes
    mss: int
    segments: int
    flags: int


class Link:
    """Packets in, rows out."""

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self.conditions = conditions
        self.lose: Callable[[int], bool] | None = None  # of the number of a data segment, counted from 1
        self.data_segments = 0
        self.dropped = 0
        self._random = random.Random(seed).random
        self._free_at = 0.0  # when the bottleneck has sent all that waits
        self._in_burst = False
        self._is_congested = False  # as the latest packet found it

    def carry(self, packet: SuperPacket, now: float) -> Iterator[Row]:
        """The rows that a packet becomes, in no order."""
        header, _, mss = packet
        payload = b"".join(packet.pieces)
        count = -(-len(payload) // mss) if mss else 1
        extra = len(header) + _OUTER
        run: list[int] = []  # neighbours that arrive together: numbers of segments
        first = last = 0.0
        is_capable = header[1] & 3 != 0
        was_marked = False  # what is in the run
        for number in range(count):
            size = min(mss, len(payload) - number * mss) + extra if mss else extra
            arrivals = self._fate(size, now, bool(mss))
            is_marked = is_capable and self._is_congested
            if run and is_marked != was_marked:
                yield _row(header, payload, mss, run, last, count, is_marked=was_marked)
                run = []
            was_marked = is_marked
            if len(arrivals) == 1 and arrivals[0] > 0 and (not run or first <= arrivals[0] <= first + MODERATION):
                first = first if run else arrivals[0]
                last = arrivals[0]
                run.append(number)
                continue
            if run:
                yield _row(header, payload, mss, run, last, count, is_marked=is_marked)
                run = []
            for at in arrivals:
                if at < 0:
                    yield _corrupted(packet, number, -at)
                else:
                    yield _row(header, payload, mss, [number], at, count, is_marked=is_marked)
        if run:
            yield _row(header, payload, mss, run, last, count, is_marked=was_marked)

    def _fate(self, size: int, now: float, is_data: bool) -> list[float]:
        """When one packet arrives: never, once or twice; a negative time says it is damaged."""
        c, chance = self.conditions, self._random
        self.data_segments += is_data
        if c.largest and size - _OUTER > c.largest:
            return []
        at = now
        if c.rate:
            waiting = max(self._free_at - now, 0.0) * c.rate
            if waiting + size > c.queue:
                self.dropped += 1
                return []
            self._is_congested = waiting > c.mark
            at = self._free_at = max(self._free_at, now) + size / c.rate
        if c.hole[0] <= now < c.hole[1] or (c.loss and chance() < c.loss) or (c.bursts and self._is_in_burst()):
            return []
        if self.lose is not None and is_data and self.lose(self.data_segments):
            return []
        at += c.delay
        if c.reorder and chance() < c.reorder:
            at += c.late
        if c.corrupt and chance() < c.corrupt:
            at = -at
        return [at, at] if c.duplicate and chance() < c.duplicate else [at]

    def _is_in_burst(self) -> bool:
        """Two states, as Gilbert has them."""
        c = self.conditions
        if self._in_burst:
            self._in_burst = self._random() >= 1 / c.burst_packets
        else:
            self._in_burst = self._random() < c.bursts
        return self._in_burst


def _row(header: bytes, payload: bytes, mss: int, run: list[int], at: float, count: int, *, is_marked: bool) -> Row:
    flags = CHECKSUM_OK | ECN_CE if is_marked else CHECKSUM_OK
    if not mss or len(run) == count:
        return Row(at, header + payload, mss, len(run), flags)
    return Row(at, _piece(header, run[0] * mss, run[-1] == count - 1) + payload[run[0] * mss : (run[-1] + 1) * mss],
               mss, len(run), flags)  # fmt: skip


def _piece(header: bytes, offset: int, is_last: bool) -> bytes:
    """The header `offset` bytes further in the stream."""
    changed = bytearray(header)
    seq = int.from_bytes(header[_PORTS + 4 : _PORTS + 8], "big") + offset
    changed[_PORTS + 4 : _PORTS + 8] = (seq & 0xFFFF_FFFF).to_bytes(4, "big")
    if not is_last:
        changed[_PORTS + 13] &= ~(FIN | PSH)
    return bytes(changed)


def _corrupted(packet: SuperPacket, number: int, at: float) -> Row:
    """A whole packet as on the wire, with a bit flipped behind the IP header: its checksum is for the host to see."""
    data = bytearray(cut(packet)[number])
    data[-1] ^= 0x10
    return Row(at, bytes(data), 0, 1, 0)
