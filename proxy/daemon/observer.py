"""Looks at the daemon for everybody who wants to know, no more often than that costs next to nothing.

Who asks while a look is to come shares it: one is running, one is queued.  With ten thousand streams a look takes
milliseconds, in which nothing is carried; so the next comes no sooner than nine times as long after it.  One timer
takes samples of the peers' counters: every second while somebody looks, else seldom.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from proxy.daemon.process import log
from proxy.status.history import Counts, History
from proxy.status.snapshot import Status
from usernet.wireguard.events import HandshakeCompleted, TunnelEvent

SHARE: Final = 9.0  # times as long as a look takes nobody has another
WATCHED: Final = 15.0  # s after a look somebody may still be there
OFTEN: Final = 1.0  # s between two samples while somebody is
SELDOM: Final = 5.0


class Observer:
    """`look` makes a Status, `count` gives the peers' counters and how many streams there are."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        look: Callable[[], Status],
        count: Callable[[], tuple[Counts, int]],
    ) -> None:
        self.history = History()
        self._loop = loop
        self._look = look
        self._count = count
        self._queued: asyncio.Future[Status] | None = None
        self._handle: asyncio.TimerHandle | None = None  # of the look that is queued
        self._earliest = 0.0
        self._watched_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._next_sample = 0.0
        self._callbacks: list[Callable[[Status], None]] = []
        self._is_to_be_told = False

    def start(self) -> None:
        """Take samples from now on."""
        self._sample()

    def close(self) -> None:
        """Idempotent."""
        for handle in (self._timer, self._handle):
            if handle is not None:
                handle.cancel()
        self._timer = self._handle = None
        if self._queued is not None:
            self._queued.cancel()

    async def status(self, *, watching: bool = True) -> Status:
        """How it is.  `watching`: whoever asks will soon do so again, and wants rates."""
        if watching:
            now = self._loop.time()
            self._watched_until = now + WATCHED
            if self._timer is not None and self._next_sample > now + OFTEN:
                self._arm(OFTEN)
        return await asyncio.shield(self._queue())

    def on_status(self, callback: Callable[[Status], None]) -> Callable[[], None]:
        """Call back with a Status after each handshake, until what this returns is called."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def event(self, event: TunnelEvent) -> None:
        """Of the tunnel."""
        if isinstance(event, HandshakeCompleted) and self._callbacks:
            self._is_to_be_told = True
            self._queue()

    def _queue(self) -> asyncio.Future[Status]:
        if self._queued is None:
            self._queued = self._loop.create_future()
            self._queued.add_done_callback(_retrieved)
            self._handle = self._loop.call_later(max(0.0, self._earliest - self._loop.time()), self._run)
        return self._queued

    def _run(self) -> None:
        future, self._queued, self._handle = self._queued, None, None
        if future is None:
            return
        began = time.perf_counter()
        try:
            status = self._look()
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            future.set_exception(error)
            return
        finally:
            self._earliest = self._loop.time() + SHARE * (time.perf_counter() - began)
        future.set_result(status)
        if self._is_to_be_told:
            self._is_to_be_told = False
            self._tell(status)

    def _tell(self, status: Status) -> None:
        for callback in list(self._callbacks):
            try:
                callback(status)
            except Exception:  # noqa: BLE001 - the others are told all the same
                log.exception("a callback for the status failed")

    def _sample(self) -> None:
        self.history.take(time.monotonic(), *self._count())
        self._arm(OFTEN if self._loop.time() < self._watched_until else SELDOM)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_sample = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._sample)


def _retrieved(future: asyncio.Future[Status]) -> None:
    """Nobody has to be there: the look was for those who are called back."""
    if not future.cancelled():
        future.exception()
