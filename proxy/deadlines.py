"""Deadlines for thousands of connections with one timer.

There are few different durations, so each has a queue in which the first to begin is the first to expire: a dict
keeps the order and forgets a member in constant time.  Nothing of a connection stays behind here once `stop` was
called.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Expiring(Protocol):
    def expired(self) -> None:
        """The time is over.  Called once, after which the member is forgotten."""


class Deadlines:
    __slots__ = ("_loop", "_queues", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, dict[Expiring, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, member: Expiring, seconds: float) -> None:
        """Give a member a deadline, in place of the one it has."""
        self.stop(member)
        deadline = self._loop.time() + seconds
        self._queues.setdefault(seconds, {})[member] = deadline
        if self._timer is None or deadline < self._timer.when():
            self._arm(deadline)

    def stop(self, member: Expiring) -> None:
        for queue in self._queues.values():
            if queue.pop(member, None) is not None:
                return

    def close(self) -> None:
        self._queues.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for queue in list(self._queues.values()):  # what expires may start another deadline
            while queue:
                member, deadline = next(iter(queue.items()))
                if deadline > now:
                    break
                del queue[member]
                member.expired()
        # A stopped member leaves the timer where it was: it fires for nothing once, which is cheaper than moving it.
        first = min((next(iter(queue.values())) for queue in self._queues.values() if queue), default=None)
        if first is not None and self._timer is None:
            self._arm(first)
