"""Whether the daemon is of use: there was a handshake of late, or an answer came through the tunnel.

No third party is asked.  Where a session has ended, for lack of traffic perhaps, or its peer does not answer, a
handshake is asked for and waited for a moment; who asks again a little later hears of one that took longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.daemon.look import peers_of
from proxy.http.own import Content, Page, Visit
from proxy.status.verdict import peer_state
from usernet.wireguard.events import HandshakeCompleted, TunnelEvent

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon

PATIENCE: Final = 0.8  # s: a probe of Kubernetes' gives up after one
LONGEST: Final = 4.0  # s that a handshake which was asked for is waited for, by whoever has so long
PLAIN: Final = "text/plain; charset=utf-8"


class Readiness(NamedTuple):
    ready: bool
    why: str


class Readying:
    """`event` is to be called with each event of the tunnel."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._completed = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    def event(self, event: TunnelEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self._completed.set()

    async def ask(self, patience: float = PATIENCE) -> Readiness:
        """Now, or within so many seconds.  Any number may ask at a time."""
        found = self._look()
        if found.ready or self._daemon.stop.is_set():
            return found
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._handshake(), name="ask for a handshake")
            self._asking.add_done_callback(self._asked)
        await asyncio.wait((self._asking,), timeout=patience)
        return self._look()

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None

    async def _handshake(self) -> None:
        self._completed.clear()
        self._daemon.network.request_handshakes()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST):
                await self._completed.wait()

    def _look(self) -> Readiness:
        daemon = self._daemon
        if daemon.stop.is_set():
            return Readiness(False, "the daemon is stopping")
        if not daemon.alive.is_ready():
            return Readiness(False, f"no answer from {', '.join(daemon.alive.missing())}, which CheckAlive = names")
        if daemon.alive.pongs:
            return Readiness(True, f"answers come from {', '.join(daemon.alive.pongs)}")
        peers, now = peers_of(daemon), time.time()
        ages = [now - (peer.latest_handshake or 0.0) for peer in peers if peer_state(peer, now) == "up"]
        if ages:
            return Readiness(True, f"the latest handshake was {max(0.0, min(ages)):.0f} s ago")
        trouble = next((peer.trouble for peer in peers if peer.trouble), "")
        if trouble:
            return Readiness(False, f"no peer answers: {trouble}")
        if not peers:
            return Readiness(False, "no peer is configured")
        if not any(peer.is_dialled for peer in peers):
            return Readiness(False, "no peer has an Endpoint, and none has spoken of late")
        return Readiness(False, "no handshake has completed in the last 180 s; one has been asked for")


def own_pages(ask: Callable[[], Awaitable[Readiness]]) -> dict[bytes, Page]:
    """What the proxy's own port says of it.  There strangers come, who are not told why it is not so."""

    def healthz(visit: Visit) -> Content:
        return Content(PLAIN, b"ok\n")  # the loop turns

    async def readyz(visit: Visit) -> Content:
        found = await ask()
        return Content(PLAIN, b"ready\n") if found.ready else Content(PLAIN, b"not ready\n", 503)

    return {b"/healthz": healthz, b"/readyz": readyz}
