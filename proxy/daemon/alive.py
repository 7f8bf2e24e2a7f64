"""wireproxy's CheckAlive: addresses that are pinged through the tunnel, whose answers say whether it works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from proxy.daemon.process import log

LEEWAY = 2.0  # s for a ping to come back, beyond the interval; wireproxy's


class PingNet(Protocol):
    """What is needed of a network; `usernet.Network` is one."""

    async def ping(self, host: str, *, timeout: float) -> float: ...  # noqa: ASYNC109


class Alive:
    """`pongs`: when each address answered last, in s since 1970; 0 is never."""

    def __init__(self, net: PingNet, addresses: Sequence[str] = (), interval: float = 5) -> None:
        self.pongs: dict[str, int] = {}
        self._net = net
        self._silent: set[str] = set()
        self._asked = asyncio.Event()
        self.ask(addresses, interval)

    def ask(self, addresses: Sequence[str], interval: float) -> None:
        """These, so often, from now on."""
        self.pongs = {address: self.pongs.get(address, 0) for address in addresses}
        self._interval = interval
        self._silent.intersection_update(addresses)
        if addresses:
            self._asked.set()
        else:
            self._asked.clear()

    def is_ready(self) -> bool:
        """Whether every address has answered lately; so it is where there is none."""
        return not self.missing()

    def missing(self) -> list[str]:
        """Those that have not answered lately."""
        since = time.time() - self._interval - LEEWAY
        return [address for address, pong in self.pongs.items() if pong < since]

    def silent(self) -> list[str]:
        """Those that did not answer the last time."""
        return sorted(self._silent)

    async def run(self) -> None:
        """Ping all of them at every interval, for ever."""
        while True:
            await self._asked.wait()
            began = time.monotonic()
            await asyncio.gather(*map(self._ping, self.pongs))
            await asyncio.sleep(max(0.0, self._interval - (time.monotonic() - began)))

    async def _ping(self, address: str) -> None:
        try:
            await self._net.ping(address, timeout=self._interval)
        except OSError as error:  # TimeoutError is one
            if address not in self._silent:
                self._silent.add(address)
                log.warning("CheckAlive: %s does not answer: %s", address, error.strerror or "no echo came back")
            return
        if address in self.pongs:
            self.pongs[address] = int(time.time())
        if address in self._silent:
            self._silent.discard(address)
            log.info("CheckAlive: %s answers again", address)
