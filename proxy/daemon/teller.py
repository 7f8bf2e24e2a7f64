"""A Narrator on an event loop: its lines go into the log, and it is called when it wants to be."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence

from proxy.daemon.narrator import Line, Narrator, Struggle
from proxy.daemon.process import log
from usernet.wireguard.events import TunnelEvent


class Teller:
    """Puts a Narrator's lines into the log, and calls it when it wants to be."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._narrator = Narrator()
        self._timer: asyncio.TimerHandle | None = None

    def event(self, event: TunnelEvent) -> None:
        self._tell(self._narrator.event(event, time.monotonic()))

    def _tell(self, lines: Sequence[Line]) -> None:
        for line in lines:
            say = log.warning if line.warning else log.debug if line.detail else log.info
            say("%s", line.text, extra={"peer": base64.b64encode(line.peer).decode("ascii")})
        self._arm()

    def struggles(self) -> dict[bytes, Struggle]:
        """Of the peers that do not answer; times are seconds since 1970."""
        offset = time.time() - time.monotonic()
        return {key: one._replace(since=one.since + offset) for key, one in self._narrator.struggles().items()}

    def _arm(self) -> None:
        self.close()
        deadline = self._narrator.next_timeout()
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._tell(self._narrator.handle_timeout(time.monotonic()))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
