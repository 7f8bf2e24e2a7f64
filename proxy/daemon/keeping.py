"""What is kept between two starts: the clock of our handshakes, where peers were, and a key that was made here.

A peer takes no handshake whose timestamp is not greater than the last (WireGuard paper, 5.1), so a machine whose clock
is set back at a start, as small ones without a battery do, would stay outside until it has caught up.  What is stored
is a mark that lies ahead: the next start begins there if its clock says less, and most handshakes need no write.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from proxy.daemon.process import log
from proxy.state.store import MemoryStore, NoValue, Store, StoreError
from usernet.aio.engine import Engine
from usernet.aio.peers import Memory
from usernet.burst.packets import Address
from usernet.wireguard.events import EndpointMoved, HandshakeCompleted, HandshakeStarted, TunnelEvent

SETTLE: Final = 5.0  # s after a change: what follows soon is one write with it
RETRY: Final = 60.0  # s after a write that failed
LEAVE: Final = 0.5  # s that the last write may hold up the end
JUMP_NS: Final = 300 * 10**9  # what a far side would call one; starts that were killed lead there by a second each
AHEAD_NS: Final = 290 * 10**9  # how far the mark lies beyond the clock
RENEW_NS: Final = AHEAD_NS // 2  # when less of that is left the mark is moved
# And beyond a timestamp that is itself beyond the clock: sixty handshakes, since each adds 17 ms.  So little that
# starts that end in crashes, one after the other, do not run away from the clock.
STEP_NS: Final = 10**9
BORROWED_NS: Final = STEP_NS // 4  # sixteen handshakes
PRIVATE_KEY: Final = "private-key"
TUNNEL: Final = "tunnel"


def remembered(store: Store, name: str, wall_ns: Callable[[], int] = time.time_ns) -> Memory:
    """What an earlier daemon of this name has left; nothing of it where it makes no sense."""
    try:
        found = json.loads(store.read(f"{name}.{TUNNEL}"))
        timestamp = int(found["timestamp_ns"])
        if not 0 <= timestamp < 1 << 63:
            raise ValueError("no time")
        endpoints = {bytes.fromhex(key): _address(value) for key, value in found["endpoints"].items()}
    except NoValue:
        return Memory()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        log.warning("--state %s: what is kept of %s makes no sense, and is not used", store.where, name)
        return Memory()
    if wall_ns() < timestamp - JUMP_NS:
        log.warning("this machine's clock is behind that of an earlier start; handshakes go on from there")
    return Memory(timestamp, endpoints)


def borrowed(name: str, wall_ns: Callable[[], int] = time.time_ns) -> Memory:
    """Where the timestamps begin of a command that opens the tunnel by itself for a moment, without a daemon.

    One that was killed has left a mark that lies ahead of the clock, and the next may have begun there: below it the
    peer hears nobody.  A piece behind the mark is the command's own, and the mark moves beyond it: by less than such a
    command takes, so that many of them do not run away from the clock.  Not where a daemon lives: what it says lies
    before its mark, so that it would not be heard after us until the clock has come there.
    """
    from proxy.state import file, opening

    path = opening.left_by(name)
    try:
        left = Memory() if path is None else remembered(MemoryStore(file.load(path)), name, wall_ns)
        if path is None or left.timestamp_ns <= wall_ns():
            return Memory()
        with contextlib.closing(file.FileStore(path)) as store:
            store.write(f"{name}.{TUNNEL}", _encoded(Memory(left.timestamp_ns + BORROWED_NS, left.endpoints)))
    except (OSError, StoreError) as error:
        log.debug("handshakes go by the clock alone: %s", error)
        return Memory()
    return Memory(left.timestamp_ns)


def _encoded(memory: Memory) -> bytes:
    endpoints = {key.hex(): list(address) for key, address in memory.endpoints.items()}
    return json.dumps({"timestamp_ns": memory.timestamp_ns, "endpoints": endpoints}).encode()


def _address(value: list[Any]) -> Address:
    host, port, *rest = value
    if len(value) not in (2, 4) or not all(isinstance(each, int) for each in (port, *rest)) or not 0 < port < 1 << 16:
        raise ValueError("no address")
    version = ipaddress.ip_address(str(host)).version
    if version != (4 if len(value) == 2 else 6):
        raise ValueError("no address of its family")
    return str(host), port, *rest


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
    """Writes what has changed; what cannot be written is said once and tried again.

    `trouble`: why nothing can be written, or ''.  `failures`: how often that was so.
    """

    def __init__(self, store: Store, name: str, network: Engine) -> None:
        self.trouble = ""
        self.failures = 0
        self._network = network
        self._writer = _Writer(store, f"{name}.{TUNNEL}")
        self._where = store.where
        self._written = network.memory()
        self._changed = asyncio.Event()  # to be written in a while
        self._urgent = asyncio.Event()  # at once
        network.on_event(self._on_event)

    def _on_event(self, event: TunnelEvent) -> None:
        if isinstance(event, HandshakeStarted):
            if self._network.latest_timestamp_ns > self._written.timestamp_ns - RENEW_NS:
                self._urgent.set()
                self._changed.set()
        elif isinstance(event, HandshakeCompleted | EndpointMoved):
            self._changed.set()

    async def begin(self) -> None:
        """Before the first handshake: what it will say is covered, and the store can be written.  Raises StoreError."""
        await self._write(self._ahead())

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._changed.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE):
                    await self._urgent.wait()
            self._changed.clear()
            self._urgent.clear()
            await self._save(self._ahead())
            if self.trouble:
                await asyncio.sleep(RETRY)
                self._changed.set()

    async def close(self) -> None:
        """The last write, with a mark that lies ahead of nothing; a store that is slow is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE):
                await self._save(self._network.memory())
        self._writer.close()

    def _ahead(self) -> Memory:
        memory, before = self._network.memory(), self._written
        mark = max(time.time_ns() + AHEAD_NS, memory.timestamp_ns + STEP_NS)
        is_covered = memory.timestamp_ns <= before.timestamp_ns - RENEW_NS
        return Memory(before.timestamp_ns if is_covered else mark, memory.endpoints)

    async def _save(self, memory: Memory) -> None:
        if memory == self._written:
            return
        try:
            await self._write(memory)
        except StoreError as error:
            self.failures += 1
            if not self.trouble:
                log.error("%s; trying again", error)
            self.trouble = str(error)
        else:
            if self.trouble:
                log.info("--state %s: written again", self._where)
            self.trouble = ""

    async def _write(self, memory: Memory) -> None:
        await self._writer.write(_encoded(memory))
        self._written = memory


class _Writer:
    """Writes one after the other, by a thread that nobody waits for: a store may take half a minute to fail."""

    def __init__(self, store: Store, field: str) -> None:
        self._store = store
        self._field = field
        self._queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def write(self, text: bytes) -> None:
        """Raises StoreError."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"state {self._store.where}", daemon=True)
            self._thread.start()
        future = asyncio.get_running_loop().create_future()
        self._queue.put((text, future))
        await future

    def close(self) -> None:
        self._queue.put(None)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            text, future = job
            failure = None
            try:
                self._store.write(self._field, text)
            except StoreError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - of a library: no reason to keep nothing from now on
                failure = StoreError(f"--state {self._store.where}: {type(error).__name__}: {error}")
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                future.get_loop().call_soon_threadsafe(_settle, future, failure)


def _settle(future: asyncio.Future[None], failure: StoreError | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)
