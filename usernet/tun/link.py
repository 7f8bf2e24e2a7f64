"""The kernel's TCP/IP as a PacketLink: packets go to it, and come from it, by the descriptor of a TUN.

Nothing is read before the pump asks: what it does not take stays in the kernel's queue, whose senders wait for it.  So
the loop looks at the descriptor only while it was last found empty.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from usernet.burst.packets import Drops, PacketBurst, SuperPacket
from usernet.errors import WireError
from usernet.tun.offload import HEADER_BYTES, read_packet, write_row
from usernet.tun.stall import asked

READ_BYTES = HEADER_BYTES + 65_536
# The interface is down, or being taken away: whoever sends is told by the kernel.
_IS_DOWN = frozenset({errno.EIO, errno.EBADFD, errno.ENODEV})


@dataclass(frozen=True, slots=True)
class TunStatistics:
    """A snapshot.  A packet is what one system call moved, up to 64 KiB; bytes are without the virtio header."""

    received_packets: int  # out of the tunnel, to the kernel
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    drops: dict[str, int]


class TunLink:
    """Owns `fd`, a TUN that is not blocking and has virtio headers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._wake: Callable[[], None] = lambda: None
        self._asked: Callable[[bytes, float], None] | None = None
        self._gone: Callable[[], None] = lambda: None
        self._is_watched = False
        self.drops = Drops()
        self._received_packets = self._received_bytes = self._sent_packets = self._sent_bytes = 0

    def deliver(self, burst: PacketBurst, now: float) -> None:
        fd, view = self._fd, memoryview(burst.buf)
        for row in burst.rows:
            try:
                written = os.writev(fd, write_row(view, row))
            except OSError as error:
                self._count(error)
            else:
                self._received_packets += 1
                self._received_bytes += written - HEADER_BYTES

    def _count(self, error: OSError) -> None:
        code = error.errno or 0
        reason = "tun-down" if code in _IS_DOWN else f"tun-{errno.errorcode.get(code, 'error').lower()}"
        self.drops.count(reason)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        packets: list[SuperPacket] = []
        if self._is_watched:
            return packets
        while budget_bytes > 0:
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                self._watch()
                break
            except OSError as error:
                self._count(error)
                if error.errno == errno.EBADFD:
                    self._end()
                else:
                    self._watch()
                break
            size = len(data) - HEADER_BYTES
            budget_bytes -= size
            try:
                packets += read_packet(data)
            except WireError as error:
                self.drops.count(error.reason)
                continue
            self._sent_packets += 1
            self._sent_bytes += size
        if self._asked is not None and packets and (remote := asked(packets[-1])) is not None:
            self._asked(remote, now)
        return packets

    def _end(self) -> None:
        """Somebody has deleted the interface: the descriptor is ready for ever now, with this error."""
        self._is_watched = True
        self._gone()

    def _watch(self) -> None:
        self._is_watched = True
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        self._is_watched = False
        self._loop.remove_reader(self._fd)
        self._wake()

    def next_timeout(self) -> float | None:
        return None

    def handle_timeout(self, now: float) -> None:
        """The kernel has its own timers."""

    def path_changed(self, now: float) -> None:
        """Nobody can tell the kernel's connections: they try again by themselves."""

    def on_wake(self, callback: Callable[[], None]) -> None:
        self._wake = callback
        callback()  # there may be something already

    def on_asked(self, callback: Callable[[bytes, float], None]) -> None:
        """Call back with where TCP goes that is to be acknowledged: the last packet of each `take` is looked at."""
        self._asked = callback

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back when the interface has been deleted; nothing comes from it any more."""
        self._gone = callback

    def statistics(self) -> TunStatistics:
        return TunStatistics(
            self._received_packets, self._received_bytes, self._sent_packets, self._sent_bytes, dict(self.drops)
        )

    def close(self) -> None:
        """The interface goes with its descriptor.  Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd, self._is_watched = -1, True
