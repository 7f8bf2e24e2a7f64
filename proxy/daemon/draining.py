"""A stop that waits: nobody new is let in, and who is served already may finish, for so many seconds at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.daemon.process import log

STEP = 0.05  # s between two looks


class Drain:
    """`seconds` 0: everything ends at once, and nothing here is called."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._is_pointless = False
        self._begin: list[Callable[[], None]] = []
        self._busy: list[Callable[[], int]] = []

    def add(self, begin: Callable[[], None], busy: Callable[[], int]) -> None:
        """Ask this part, too: to `begin` its end, and how many it still serves."""
        self._begin.append(begin)
        self._busy.append(busy)

    def busy(self) -> int:
        return sum(count() for count in self._busy)

    def give_up(self) -> None:
        """What they are served by is gone."""
        self._is_pointless = True

    async def wait(self) -> None:
        """Until nobody is served any more, or time is up."""
        if not self._seconds:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        for begin in self._begin:
            begin()
        await asyncio.sleep(STEP)  # whoever was sent away is gone
        if not self.busy():
            return
        log.info(
            "waiting up to %g s for %s to finish; another signal ends it at once",
            self._seconds, _connections(self.busy()),
        )  # fmt: skip
        while self.busy() and loop.time() < end and not self._is_pointless:  # noqa: ASYNC110 - once, at the end of the process
            await asyncio.sleep(STEP)
        if self.busy():
            log.warning("%s cut off after %g s", _connections(self.busy()), self._seconds)


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"
