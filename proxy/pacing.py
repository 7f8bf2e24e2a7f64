"""So many ends in one turn of the loop: a crowd that leaves all at once must not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

PER_TURN = 32  # a few milliseconds of work; then whoever stayed is looked after


class Pace:
    __slots__ = ("_left", "_loop", "_queue", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Callable[[], object]] = deque()
        self._left = PER_TURN
        self._scheduled = False

    def run(self, end: Callable[[], object]) -> None:
        """Now, unless there have been many in this turn; then soon, in order."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        if self._left:
            self._left -= 1
            end()
        else:
            self._queue.append(end)

    def _turn(self) -> None:
        self._left = PER_TURN
        self._scheduled = bool(self._queue)
        if self._scheduled:
            self._loop.call_soon(self._turn)
        while self._queue and self._left:
            self._left -= 1
            self._queue.popleft()()
