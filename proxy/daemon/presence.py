"""Whether the tunnel is there, for routing: which peers answer, by the tunnel's events.

A peer comes with a handshake, or with any sign of life after a silence.  It goes when a handshake that was begun has
had no answer for SILENCE seconds; an idle peer, whose keys are wiped in the end, is still there, since whatever is sent
to it begins a handshake.  A machine without a clock: `event` and `handle_timeout` take `now` (s, any steady clock).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from usernet.wireguard.events import HandshakeCompleted, HandshakeGaveUp, HandshakeStarted, PathReturned, TunnelEvent

SILENCE: Final = 15.0  # s: three attempts of 5 s


class Presence:
    """Of all peers of one tunnel."""

    def __init__(self) -> None:
        self._here: set[bytes] = set()
        self._asked: dict[bytes, float] = {}  # since when a peer that is here has been asked in vain

    @property
    def is_up(self) -> bool:
        return bool(self._here)

    @property
    def answering(self) -> int:
        """Peers."""
        return len(self._here)

    def event(self, event: TunnelEvent, now: float) -> None:
        key = event.public_key
        if isinstance(event, HandshakeCompleted | PathReturned):
            self._here.add(key)
            self._asked.pop(key, None)
        elif isinstance(event, HandshakeStarted) and key in self._here:
            self._asked.setdefault(key, now)
        elif isinstance(event, HandshakeGaveUp):
            self._gone(key)

    def keep(self, keys: Collection[bytes]) -> None:
        """The configuration has no other peers any more."""
        for key in self._here.difference(keys):
            self._gone(key)

    def next_timeout(self) -> float | None:
        return min(self._asked.values()) + SILENCE if self._asked else None

    def handle_timeout(self, now: float) -> None:
        for key in [key for key, since in self._asked.items() if now >= since + SILENCE]:
            self._gone(key)

    def _gone(self, key: bytes) -> None:
        self._here.discard(key)
        self._asked.pop(key, None)
