"""A listening port and its half-open connections.  Read RFC 4987 3 (what a SYN flood does, and what bounds it).

Half-open connections are bounded: HALF_OPEN_FACTOR for each of the backlog, for they weigh 2 KiB.  At the bound the
oldest gives way to the newest: a client that answers within the time a flood needs to come round still gets in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

HALF_OPEN_FACTOR: Final = 8


class Listener:
    """Accepts connections to `port` of one of our addresses, or of all when `address` is None."""

    __slots__ = ("_on_close", "address", "half_open", "half_open_max", "port")

    def __init__(self, port: int, address: bytes | None, backlog: int, on_close: Callable[[Listener], None]) -> None:
        self.port = port
        self.address = address
        self.half_open_max = max(backlog, 1) * HALF_OPEN_FACTOR
        self.half_open: dict[bytes, None] = {}  # keys of flows, oldest first
        self._on_close: Callable[[Listener], None] | None = on_close

    def close(self) -> None:
        """Accept no more and drop what is half-open.  Accepted connections live on."""
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close(self)

    @property
    def is_closed(self) -> bool:
        return self._on_close is None
