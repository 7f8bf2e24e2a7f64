"""A listening port and its half-open connections.  Read RFC 4987 3 (what a SYN flood does, and what bounds it).

Half-open connections are bounded: HALF_OPEN_FACTOR for each of the backlog, for they weigh 2 KiB.  At the bound, one
that nobody has answered for STALE_SECONDS gives way to the newest; while there is none, a SYN is answered by a cookie
(cookies.py) and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

HALF_OPEN_FACTOR: Final = 8
STALE_SECONDS: Final = 10.0  # our SYN-ACK has left four times by then; a round trip is no longer than that


class Listener:
    """Accepts connections to `port` of one of our addresses, or of all when `address` is None."""

    __slots__ = ("_on_close", "address", "cookies_until", "half_open", "half_open_max", "port")

    def __init__(self, port: int, address: bytes | None, backlog: int, on_close: Callable[[Listener], None]) -> None:
        self.port = port
        self.address = address
        self.half_open_max = max(backlog, 1) * HALF_OPEN_FACTOR
        self.half_open: dict[bytes, float] = {}  # keys of flows and when they began, oldest first
        self.cookies_until = 0.0  # before this an ACK may bring back a cookie
        self._on_close: Callable[[Listener], None] | None = on_close

    @property
    def is_full(self) -> bool:
        return len(self.half_open) >= self.half_open_max

    def stale(self, now: float) -> bytes | None:
        """The oldest half-open connection if it is in the way and nobody will answer it any more."""
        if not self.is_full:
            return None
        key, began = next(iter(self.half_open.items()))
        return key if now - began >= STALE_SECONDS else None

    def close(self) -> None:
        """Accept no more and drop what is half-open.  Accepted connections live on."""
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close(self)

    @property
    def is_closed(self) -> bool:
        return self._on_close is None


class Forwarder(Listener):
    """A listener that keeps each client waiting until its owner has dialled (forward.py).  Port 0 is every port."""

    __slots__ = ()
