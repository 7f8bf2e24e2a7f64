"""After a handshake the peer's own addresses are pinged until one answers: so both ends know at once that packets pass.

An address that stands alone in AllowedIPs is most likely a host: the peer itself.  Networks are not pinged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from proxy.daemon.process import log
from usernet.config import Config, Peer
from usernet.wire.ip import format_address
from usernet.wireguard.events import HandshakeCompleted, TunnelEvent

INTERVAL: Final = 0.3  # s
DURATION: Final = 3.0  # s
MOST_ADDRESSES: Final = 8  # of one peer: who has hundreds is no host, and one answer is enough
MOST_PEERS: Final = 32  # at once, of a server to which thousands come back at the same time


class PingNet(Protocol):
    """What is needed of a network; `usernet.Network` is one."""

    @property
    def addresses(self) -> tuple[str, ...]: ...

    @property
    def config(self) -> Config: ...

    async def ping(self, host: str, *, timeout: float) -> float: ...  # noqa: ASYNC109


class Wakeups:
    """`event` is to be called with each event of the tunnel."""

    def __init__(self, net: PingNet, *, interval: float = INTERVAL, duration: float = DURATION) -> None:
        self._net = net
        self._interval = interval
        self._duration = duration
        self._waking: dict[bytes, asyncio.Task[None]] = {}  # by public key

    def event(self, event: TunnelEvent) -> None:
        if not isinstance(event, HandshakeCompleted) or event.public_key in self._waking:
            return
        addresses = hosts(self._net.config, event.public_key, self._net.addresses)
        if not addresses or len(self._waking) >= MOST_PEERS:
            return
        task = asyncio.get_running_loop().create_task(self._wake(addresses), name="wake-up pings")
        self._waking[event.public_key] = task
        task.add_done_callback(lambda task: self._done(event.public_key, task))

    def _done(self, public_key: bytes, task: asyncio.Task[None]) -> None:
        del self._waking[public_key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("wake-up pings failed", exc_info=error)

    async def _wake(self, addresses: Sequence[str]) -> None:
        answered = asyncio.Event()
        pings: set[asyncio.Task[None]] = set()

        async def ping(address: str, timeout: float) -> None:  # noqa: ASYNC109 - as the network has it
            try:
                await self._net.ping(address, timeout=timeout)
            except OSError:  # no answer, or a refusal: the next one may have one
                return
            answered.set()

        loop = asyncio.get_running_loop()
        end = loop.time() + self._duration
        try:
            while (left := end - loop.time()) > 0 and not answered.is_set():
                for address in addresses:
                    task = loop.create_task(ping(address, left))
                    pings.add(task)
                    task.add_done_callback(pings.discard)
                try:
                    async with asyncio.timeout(min(left, self._interval)):
                        await answered.wait()
                except TimeoutError:
                    continue
        finally:
            for task in pings:
                task.cancel()
            if pings:
                await asyncio.wait(pings)

    async def close(self) -> None:
        """Idempotent."""
        tasks = list(self._waking.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def hosts(config: Config, public_key: bytes, own: Sequence[str]) -> list[str]:
    """A peer's addresses that stand alone, of the families that we have an address of."""
    peer: Peer | None = next((peer for peer in config.peers if peer.public_key == public_key), None)
    if peer is None:
        return []
    families = {":" in address for address in own}
    alone = (format_address(packed) for packed, length in peer.allowed_ips if length == len(packed) * 8)
    return [address for address in alone if (":" in address) in families and address not in own][:MOST_ADDRESSES]
