"""What is kept between two starts: the clock of our handshakes, where peers were, and a key that was made here.

A peer takes no handshake whose timestamp is not greater than the last (WireGuard paper, 5.1), so a machine whose clock
is set back at a start, as small ones without a battery do, would stay outside until it has caught up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

from proxy.daemon.process import log
from proxy.state.store import NoValue, Store, StoreError
from usernet.aio.engine import Engine, Memory
from usernet.wireguard.events import EndpointMoved, HandshakeCompleted, HandshakeStarted, TunnelEvent

SETTLE: Final = 5.0  # s after a change: what follows soon is one write with it
RETRY: Final = 60.0  # s after a write that failed
FRESH_NS: Final = 300 * 10**9  # a timestamp that is no older need not be written: handshakes come every two minutes
MARGIN_NS: Final = 2 * FRESH_NS  # beyond what is stored, where the clock stands before it: what was sent since
PRIVATE_KEY: Final = "private-key"
TUNNEL: Final = "tunnel"


def remembered(store: Store, name: str, wall_ns: Callable[[], int] = time.time_ns) -> Memory:
    """What an earlier daemon of this name has left; nothing of it where it makes no sense."""
    try:
        found = json.loads(store.read(f"{name}.{TUNNEL}"))
        timestamp = int(found["timestamp_ns"])
        endpoints = {bytes.fromhex(key): _address(value) for key, value in found["endpoints"].items()}
    except NoValue:
        return Memory()
    except (ValueError, KeyError, TypeError, AttributeError):
        log.warning("--state %s: what is kept of %s makes no sense, and is not used", store.where, name)
        return Memory()
    if wall_ns() > timestamp:
        return Memory(0, endpoints)  # the clock is right, or at least not behind
    log.warning("this machine's clock is behind that of an earlier start; handshakes go on from there")
    return Memory(timestamp + MARGIN_NS, endpoints)


def _address(value: list[Any]) -> Any:
    host, port, *rest = value
    if (
        not isinstance(host, str)
        or len(value) not in (2, 4)
        or not all(isinstance(each, int) for each in (port, *rest))
    ):
        raise ValueError("no address")
    return host, port, *rest


def private_key(store: Store, name: str, make: Callable[[], bytes]) -> bytes:
    """The key that was made at the first start.  Raises StoreError."""
    field = f"{name}.{PRIVATE_KEY}"
    try:
        found = store.read(field)
        if len(found) == 32:
            return found
        raise StoreError(f"--state {store.where}: {field} is no key; take it out, or name another store")
    except NoValue:
        made = make()
        store.write(field, made)
        return made


class Keeper:
    """Writes when something has changed, a while after, by a thread; what cannot be written is tried again."""

    def __init__(self, store: Store, name: str, network: Engine) -> None:
        self._store = store
        self._field = f"{name}.{TUNNEL}"
        self._network = network
        self._changed = asyncio.Event()
        self._written = Memory()
        self.trouble = ""  # why nothing can be written, for whoever asks how it is
        network.on_event(self._on_event)

    def _on_event(self, event: TunnelEvent) -> None:
        if isinstance(event, HandshakeStarted | HandshakeCompleted | EndpointMoved):
            self._changed.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE)
            self._changed.clear()
            await self.save()
            if self.trouble:
                self._changed.set()
                await asyncio.sleep(RETRY)

    async def save(self) -> None:
        """Now, unless nothing is different."""
        memory, before = self._network.memory(), self._written
        if memory.endpoints == before.endpoints and memory.timestamp_ns - before.timestamp_ns < FRESH_NS:
            return
        text = json.dumps(
            {
                "timestamp_ns": memory.timestamp_ns,
                "endpoints": {key.hex(): list(address) for key, address in memory.endpoints.items()},
            }
        ).encode()
        try:
            await asyncio.to_thread(self._store.write, self._field, text)
        except StoreError as error:
            if not self.trouble:
                log.error("%s; trying again", error)
            self.trouble = str(error)
        else:
            if self.trouble:
                log.info("--state %s: written again", self._store.where)
            self.trouble, self._written = "", memory
