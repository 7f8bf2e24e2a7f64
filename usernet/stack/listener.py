"""A listening port and its half-open connections.  Read RFC 4987 3 (what a SYN flood does, and what bounds it).

The backlog bounds the half-open connections.  When it is full the oldest gives way to the newest: a client that answers
within the time a flood needs to fill the backlog still gets in, and no answer is ever owed to a forged address.
"""

from __future__ import annotations

from collections.abc import Callable


class Listener:
    """Accepts connections to `port` of one of our addresses, or of all when `address` is None."""

    __slots__ = ("_on_close", "address", "backlog", "half_open", "port")

    def __init__(self, port: int, address: bytes | None, backlog: int, on_close: Callable[[Listener], None]) -> None:
        self.port = port
        self.address = address
        self.backlog = max(backlog, 1)
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
