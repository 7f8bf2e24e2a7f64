"""Probing a silent path.

When nothing comes in at all and connections are stalled, waiting for each one's back-off would leave a path that has
returned unused for many seconds, and all of them resending often would be a burst at the worst time.  So one of them,
in turn, resends its oldest segment every half second for the first minute; the others keep to RFC 6298.  While
anything is heard the path is not what is wrong, and nobody probes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from usernet.stack.timers import Timer

PROBE_INTERVAL: Final = 0.5  # seconds
PROBE_SECONDS: Final = 60.0

T = TypeVar("T")


class StallProbe(Timer, Generic[T]):
    """Who is stalled, and since when anybody is.  `is_stalled` says whether one still is."""

    __slots__ = ("_is_stalled", "_members", "_received", "_since")

    def __init__(self, is_stalled: Callable[[T], bool]) -> None:
        super().__init__()
        self._is_stalled = is_stalled
        self._members: dict[T, None] = {}  # whose turn it is comes first
        self._since = 0.0
        self._received = -1

    def add(self, member: T, now: float) -> bool:
        """Somebody is stalled; True when the probe timer should start."""
        if member not in self._members and now - self._since >= PROBE_SECONDS:
            self._members = {other: None for other in self._members if self._is_stalled(other)}
        starts = not self._members
        if starts:
            self._since = now
            self._received = -1
        self._members[member] = None
        return starts

    def discard(self, member: T) -> None:
        """It is gone."""
        self._members.pop(member, None)

    def clear(self) -> None:
        """All of them have just been told to try."""
        self._members.clear()

    def choose(self, received: int, now: float) -> tuple[T | None, bool]:
        """Who probes now, if anybody, and whether to ask again after PROBE_INTERVAL.

        `received` counts what has come in: if it has grown since the last time, the path is not silent.
        """
        silent, self._received = received == self._received, received
        chosen = None
        while silent and self._members:
            member = next(iter(self._members))
            del self._members[member]
            if self._is_stalled(member):
                self._members[member] = None
                chosen = member
                break
        return chosen, bool(self._members) and now - self._since < PROBE_SECONDS
