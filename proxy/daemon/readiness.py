"""Whether the tunnel works, for probes: by what it has heard of late, or else by asking the peers for a handshake.

Nobody else is asked: a third party's outage is not ours.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.status.verdict import FRESH, judge

if TYPE_CHECKING:
    from proxy.daemon.app import Daemon

SECONDS: Final = 4.0  # for handshakes, where there was none of late; probes have some five


class Readiness(NamedTuple):
    ready: bool
    why: str


async def is_ready(daemon: Daemon) -> Readiness:
    """Any peer will do; where the file has CheckAlive its addresses have to answer, too."""
    if daemon.stop.is_set():
        return Readiness(False, "it is stopping")
    for address in daemon.alive.silent():
        return Readiness(False, f"CheckAlive: {address} does not answer")
    status = await daemon.observer.status()
    shaken = max((peer.latest_handshake or 0.0 for peer in status.peers), default=0.0)
    if status.at - shaken <= FRESH:
        return Readiness(True, f"the latest handshake was {max(0.0, status.at - shaken):.0f} s ago")
    if await _any_shakes_hands(daemon):
        return Readiness(True, "a peer has just answered a handshake")
    return Readiness(False, judge(await daemon.observer.status()).detail)


async def _any_shakes_hands(daemon: Daemon) -> bool:
    """A tunnel at rest has no session: the first that answers is enough."""
    asking = [
        asyncio.ensure_future(daemon.network.shake_hands(peer.public_key, SECONDS))
        for peer in daemon.config.peers
        if peer.endpoint is not None
    ]
    try:
        for answer in asyncio.as_completed(asking):
            if await answer is not None:
                return True
    finally:
        for each in asking:
            each.cancel()
    return False
