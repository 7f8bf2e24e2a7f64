"""A second core for a fast upload: what is worth the way is sealed and sent by a thread of the native kernel.

The loop goes on with TCP meanwhile.  Everything that is decided stays in Python: who it is for, which session, whether
it may be sent so.  What is small, or not so simple, is sealed by the loop itself as ever, once the thread has nothing
that it would overtake.  The thread begins with the first upload worth it, and ends with its owner.  See worker.rs, and
docs/performance.md for what it brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from usernet.aio.udp import UdpLink
from usernet.burst.ecn import by_ecn
from usernet.burst.packets import Kernel, SendBurst, SuperPacket
from usernet.links import DatagramLink
from usernet.wireguard.tunnel import Tunnel

if TYPE_CHECKING:
    from usernet.burst._native import Worker

WORTHWHILE_BYTES: Final = 48 << 10  # with less the two cores talk more than they save (docs/performance.md)
IN_FLIGHT: Final = 4  # more make others wait
FINISH_MS: Final = 1000  # the thread waits for nothing, so only a machine that stands still takes as long


class Sealer:
    """The thread, and what it has at present."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tunnel: Tunnel, link: UdpLink) -> None:
        self._loop = loop
        self._tunnel = tunnel
        self._link = link
        self._on_done: Callable[[], None] = lambda: None
        self._event = -1
        self._worker: Worker | None = None
        self.jobs: deque[SendBurst] = deque()  # where to, and how: its buffer is empty

    def start(self, on_done: Callable[[], None]) -> None:
        """Call back whenever there is something to collect."""
        self._on_done = on_done

    def close(self) -> list[SendBurst]:
        """Wait for what the thread has, and end it; what it could not send."""
        unsent = self.finish()
        if self._worker is not None:
            self._worker = None
            self._loop.remove_reader(self._event)
            os.close(self._event)
        return unsent

    @property
    def is_full(self) -> bool:
        return len(self.jobs) >= IN_FLIGHT

    def submit(self, packets: list[SuperPacket], now: float) -> int:
        """Have the thread seal and send them; bytes on the wire.  0: the caller may, after `finish`."""
        if not self.jobs and sum(packet.payload_bytes for packet in packets) < WORTHWHILE_BYTES:
            return 0
        groups = by_ecn(packets)
        ready = self._tunnel.ready_to_seal(packets, now) if len(groups) == 1 else None
        if ready is None:
            return 0
        peer, session, endpoint = ready
        tos, group = groups[0]
        burst = SendBurst(endpoint, memoryview(b""), 0, tos, peer.local)
        route = self._link.route(burst)
        if route is None:
            return 0
        try:
            worker = self._worker or self._begin()
            size = worker.submit(session.send_key, group, self._tunnel.mtu, route[0], endpoint, route[1])
        except OSError:  # no descriptor is left, or no thread: the loop can do without
            return 0
        if size:
            self.jobs.append(burst)
            self._tunnel.note_sealed(peer, session, size, now)
        return size

    def _begin(self) -> Worker:
        from usernet.burst._native import Worker

        event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            worker = Worker(event)
        except OSError:
            os.close(event)
            raise
        self._event, self._worker = event, worker
        self._loop.add_reader(event, self._on_done)
        return worker

    def collect(self) -> list[SendBurst]:
        """Note what is done; what could not be sent, nor anything behind it, and is the caller's to send."""
        unsent = self._take()
        return unsent + self.finish() if unsent else unsent

    def finish(self) -> list[SendBurst]:
        """Wait until the thread has nothing left, less than a millisecond; what it could not send."""
        unsent: list[SendBurst] = []
        if self.jobs:
            poll = select.poll()
            poll.register(self._event, select.POLLIN)
            while self.jobs and poll.poll(FINISH_MS):
                unsent += self._take()
        return unsent

    def _take(self) -> list[SendBurst]:
        unsent: list[SendBurst] = []
        if self._worker is None:
            return unsent
        with contextlib.suppress(BlockingIOError):  # it was read already
            os.eventfd_read(self._event)
        for datagrams, size, messages, rest in self._worker.collect():
            burst = self.jobs.popleft()
            self._link.count_sent(datagrams, size, messages)
            unsent += [burst._replace(buf=memoryview(buf), segment_size=segment) for buf, segment in rest]
        return unsent


def second_core(loop: asyncio.AbstractEventLoop, tunnel: Tunnel, link: DatagramLink, kernel: Kernel) -> Sealer | None:
    """A sealer, where there is a second core, and a kernel and a link that can do it."""
    if kernel.name != "native" or not isinstance(link, UdpLink) or not hasattr(os, "eventfd"):
        return None
    from usernet.burst._native import Worker

    return Sealer(loop, tunnel, link) if Worker.has_core() else None
