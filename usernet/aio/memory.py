"""Outer links in memory, in pairs: whole engines under one loop, with a network as bad as a test wants it.

A link is a DatagramLink like the UDP one.  What one sends is cut into datagrams, each of which may be lost, delayed,
duplicated or held back behind later ones, all from one seeded source, so that a failure can be seen again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from usernet.burst.packets import Address, DatagramBurst, SendBurst

QUEUE_BYTES: Final = 8 << 20  # a receive buffer like a socket's: what does not fit is dropped


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a path does to datagrams.  Probabilities are of each datagram; delays are seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # the chance to arrive `reorder_delay` later than its turn
    reorder_delay: float = 0.01
    delay: float = 0.0
    jitter: float = 0.0

    @property
    def is_perfect(self) -> bool:
        return self == Impairment()


class MemoryLink:
    """One end.  `peer` is where everything goes, whatever address it is sent to; `sent` and `lost` count datagrams."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: Address, impairment: Impairment, chance: random.Random
    ) -> None:
        self.address = address
        self.port = address[1]
        self.impairment = impairment
        self.peer = self  # until it is paired
        self.sent = 0
        self.lost = 0
        self._loop = loop
        self._chance = chance
        self._eavesdropper: Callable[[bytes], None] | None = None
        self._queue: list[tuple[bytes, int]] = []
        self._queued_bytes = 0
        self._on_readable: Callable[[], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._scheduled = False
        self._blocked = False
        self._closed = False

    # The interface of links.DatagramLink

    def receive(self) -> list[DatagramBurst]:
        queue, self._queue, self._queued_bytes = self._queue, [], 0
        bursts: list[DatagramBurst] = []
        at = 0
        while at < len(queue):
            stride, tos = len(queue[at][0]), queue[at][1]
            end = at + 1
            # As UDP GRO merges: equal sizes, and a shorter one ends it.
            while end < len(queue) and len(queue[end - 1][0]) == stride and queue[end][1] == tos:
                if len(queue[end][0]) > stride or end - at >= 64:
                    break
                end += 1
            datagrams = [data for data, _ in queue[at:end]]
            buf = memoryview(bytearray(b"".join(datagrams)))
            bursts.append(DatagramBurst(self.peer.address, buf, stride, list(map(len, datagrams)), tos))
            at = end
        return bursts

    def send(self, burst: SendBurst) -> bool:
        if self._blocked:
            return False
        view, size = bytes(burst.buf), burst.segment_size or len(burst.buf)
        for at in range(0, len(view), size):
            self._send_one(view[at : at + size], burst.tos)
        return True

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._on_readable = callback
        if self._queue:
            self._schedule()

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        self._on_writable = callback
        if callback is not None and not self._blocked:
            self._loop.call_soon(self._writable)

    def close(self) -> None:
        self._closed = True
        self._queue.clear()
        self._on_readable = self._on_writable = None

    # What a test does

    def inject(self, datagram: bytes, tos: int = 0) -> None:
        """As if the other end, or anybody, had sent this here just now."""
        if self._closed or self._queued_bytes + len(datagram) > QUEUE_BYTES:
            self.lost += 1
            return
        self._queue.append((datagram, tos))
        self._queued_bytes += len(datagram)
        self._schedule()

    def eavesdrop(self, callback: Callable[[bytes], None] | None) -> None:
        """Show each datagram sent from here to callback, before its fate."""
        self._eavesdropper = callback

    def block(self, blocked: bool) -> None:
        """Whether a send would block."""
        self._blocked = blocked
        if not blocked and self._on_writable is not None:
            self._loop.call_soon(self._writable)

    def _send_one(self, datagram: bytes, tos: int) -> None:
        self.sent += 1
        if self._eavesdropper is not None:
            self._eavesdropper(datagram)
        peer, impairment = self.peer, self.impairment
        if impairment.is_perfect:
            peer.inject(datagram, tos)
            return
        chance = self._chance.random
        if chance() < impairment.loss:
            self.lost += 1
            return
        for _ in range(2 if chance() < impairment.duplicate else 1):
            delay = impairment.delay + impairment.jitter * chance()
            if chance() < impairment.reorder:
                delay += impairment.reorder_delay
            if delay:
                self._loop.call_later(delay, peer.inject, datagram, tos)
            else:
                peer.inject(datagram, tos)

    def _schedule(self) -> None:
        if not self._scheduled and self._on_readable is not None:
            self._scheduled = True
            self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        self._scheduled = False
        if self._on_readable is not None:
            self._on_readable()

    def _writable(self) -> None:
        if self._on_writable is not None and not self._blocked:
            self._on_writable()


def memory_links(
    loop: asyncio.AbstractEventLoop,
    *,
    addresses: tuple[Address, Address] = (("192.0.2.1", 51820), ("192.0.2.2", 51820)),
    there: Impairment | None = None,
    back: Impairment | None = None,
    seed: int = 0,
) -> tuple[MemoryLink, MemoryLink]:
    """Two ends of one path.  `there` impairs what the first sends, `back` what the second does (default: the same)."""
    chance = random.Random(seed)
    there = there or Impairment()
    left = MemoryLink(loop, addresses[0], there, chance)
    right = MemoryLink(loop, addresses[1], back or there, chance)
    left.peer, right.peer = right, left
    return left, right
