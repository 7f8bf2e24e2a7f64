"""Deadlines for thousands of connections with one timer.

There are few different durations, so each has a queue in which the first to begin is the first to expire: a dict
keeps the order and forgets a member in constant time.  Nothing of a connection stays behind here once `stop` was
called.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

PER_TURN = 32  # of the loop: a thousand at once must not keep the others waiting


class Expiring(Protocol):
    def expired(self) -> None:
        """The time is over.  Called once, after which the member is forgotten."""


class Deadlines:
    __slots__ = ("_at", "_loop", "_queues", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, dict[Expiring, float]] = {}
        self._timer: asyncio.Handle | None = None
        self._at = 0.0  # when it fires

    def start(self, member: Expiring, seconds: float) -> None:
        """Give a member a deadline, in place of the one it has."""
        self.stop(member)
        deadline = self._loop.time() + seconds
        self._queues.setdefault(seconds, {})[member] = deadline
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
        """Fire then, or earlier if that was meant already."""
        if self._timer is not None:
            if self._at <= deadline:
                return
            self._timer.cancel()
        self._at = deadline
        self._timer = self._loop.call_at(deadline, self._fire)

    def _go_on_soon(self, now: float) -> None:
        if self._timer is not None:  # whoever expired started another deadline
            self._timer.cancel()
        self._at = now
        self._timer = self._loop.call_soon(self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        left = PER_TURN
        for queue in list(self._queues.values()):  # what expires may start another deadline
            while queue:
                member, deadline = next(iter(queue.items()))
                if deadline > now:
                    break
                if not left:
                    self._go_on_soon(now)
                    return
                left -= 1
                del queue[member]
                member.expired()
        # A stopped member leaves the timer where it was: it fires for nothing once, which is cheaper than moving it.
        first = min((next(iter(queue.values())) for queue in self._queues.values() if queue), default=None)
        if first is not None:
            self._arm(first)
