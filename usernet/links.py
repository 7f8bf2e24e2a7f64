"""The two tiny interfaces between the engine and the world.

`DatagramLink` is the outside: UDP on a real host, or memory in a test.  `PacketLink` is the inside: the userspace
stack, or the kernel's TUN.  The pump (`aio/device.py`) knows nothing else of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from usernet.burst.packets import DatagramBurst, PacketBurst, SendBurst, SuperPacket


class DatagramLink(Protocol):
    """The outer side."""

    port: int

    def receive(self) -> list[DatagramBurst]:
        """Drain what has arrived, bounded by the ring; [] when there is nothing.  Buffers live until the next call."""

    def send(self, burst: SendBurst) -> bool:
        """Send, or return False where it would block (then wait for `on_writable`).  Errors are counted, not raised."""

    def on_readable(self, callback: Callable[[], None]) -> None: ...

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        """Call back while the socket takes more; None ends that."""

    def close(self) -> None: ...


class PacketLink(Protocol):
    """The inner side.  `now` is CLOCK_BOOTTIME in seconds everywhere."""

    def deliver(self, burst: PacketBurst, now: float) -> None:
        """Packets out of the tunnel.  The burst is valid only during the call."""

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        """Packets for the tunnel, about budget_bytes at the most: pulled while the outer socket is writable."""

    def next_timeout(self) -> float | None: ...

    def handle_timeout(self, now: float) -> None: ...

    def path_changed(self, now: float) -> None:
        """The path has (probably) come back or moved: whatever is stalled should try at once."""

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Call back when `take` has something again, or next_timeout moved, outside of the pump's own calls."""

    def close(self) -> None: ...
