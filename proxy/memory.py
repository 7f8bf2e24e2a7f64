"""Memory that a crowd of clients took, given back to the system when it has left.

The C library keeps what was freed, for the next time: after ten thousand connections a third of what they took.  It
hands that back when asked, in some milliseconds, so it is asked once things are quiet.
"""

from __future__ import annotations

import asyncio

CROWD = 1000  # connections; what fewer of them take is not worth a word
QUIET = 2.0  # s after most of it has gone: its last packets are through


class Relief:
    """Told of every connection that ends."""

    __slots__ = ("_loop", "_most", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._most = 0  # connections at once, since memory was given back
        self._timer: asyncio.TimerHandle | None = None

    def ended(self, left: int) -> None:
        """One of `left` + 1 connections has."""
        if left >= self._most:
            self._most = left + 1
        elif self._timer is None and self._most >= CROWD and left < self._most // 4:
            self._timer = self._loop.call_later(QUIET, self._give_back)

    def _give_back(self) -> None:
        self._timer = None
        self._most = 0
        trim()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def trim() -> bool:
    """Whether there was anything to give back; False also where the C library is not glibc."""
    try:
        import ctypes

        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (ImportError, OSError, AttributeError):
        return False
