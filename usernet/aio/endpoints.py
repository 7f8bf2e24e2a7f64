"""The peers' endpoint names: resolved by the host's own resolver, and again when handshakes fail.

A name that does not resolve is asked for again with back-off and reported once.  A dynamic address that moved is found
again because the third initiation without an answer, and each series that was given up, asks anew.

Where an earlier start has left an address behind, that is the peer's for as long as its name has no answer.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from usernet.aio.addresses import has_route, outer_addresses, outer_literal
from usernet.aio.runtime import Tasks, boottime, log
from usernet.burst.packets import Address
from usernet.wireguard.events import EndpointMoved, HandshakeGaveUp, HandshakeStarted, TunnelEvent

FAILED_ATTEMPT: Final = 3  # the initiation that says the address may be stale
REFRESH_SECONDS: Final = 15.0  # at most this often for one peer
FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 30.0
PATIENCE: Final = 2.0  # s that a resolver may take before the remembered address is tried

LookUp = Callable[[str, int], Awaitable[list[Address]]]


class _Named:
    """One peer's endpoint name."""

    __slots__ = (
        "asked", "current", "host", "known", "patience", "port", "public_key", "remembered", "task", "trouble", "turn"
    )  # fmt: skip

    def __init__(self, public_key: bytes, host: str, port: int, remembered: Address | None) -> None:
        self.public_key = public_key
        self.host = host
        self.port = port
        self.remembered = remembered  # by an earlier start; None once the name has resolved
        self.patience: asyncio.Task[None] | None = None
        self.current: Address | None = None  # where the tunnel sends
        self.known = asyncio.Event()
        self.trouble = ""
        self.turn = -1  # which of a name's addresses: the next at each failure
        self.asked = 0.0
        self.task: asyncio.Task[None] | None = None


class Endpoints:
    """`moved(public_key, address)` is called with each new address, outside of the tunnel's own calls."""

    def __init__(self, tasks: Tasks, moved: Callable[[bytes, Address], None], look_up: LookUp | None = None) -> None:
        self._tasks = tasks
        self._moved = moved
        self._look_up = look_up or host_look_up
        self._named: dict[bytes, _Named] = {}

    def add(self, public_key: bytes, host: str, port: int, remembered: Address | None = None) -> Address | None:
        """The address of a literal; None for a name, which is resolved from now on.

        `remembered`: where the peer was at an earlier start, for as long as the name does not resolve.
        """
        literal = outer_literal(host, port)
        if literal is None:
            named = self._named[public_key] = _Named(public_key, host, port, remembered)
            if remembered is not None:
                named.patience = self._tasks.start(self._lose_patience(named), f"endpoint {host}, as it was")
            self._refresh(named)
        return literal

    def forget(self, public_key: bytes) -> None:
        """The peer is gone, or has another endpoint."""
        named = self._named.pop(public_key, None)
        if named is not None:
            named.known.set()  # whoever waits looks again
            if named.task is not None:
                named.task.cancel()
            if named.patience is not None:
                named.patience.cancel()

    def close(self) -> None:
        for public_key in list(self._named):
            self.forget(public_key)

    async def known(self, public_key: bytes) -> None:
        """Return once the peer's endpoint is known, or need not be."""
        named = self._named.get(public_key)
        if named is not None:
            await named.known.wait()

    def is_known(self, public_key: bytes) -> bool:
        named = self._named.get(public_key)
        return named is None or named.known.is_set()

    def trouble(self, public_key: bytes) -> str:
        """Why the name does not resolve, or ''."""
        named = self._named.get(public_key)
        return "" if named is None else named.trouble

    def on_event(self, event: TunnelEvent) -> None:
        named = self._named.get(event.public_key)
        if named is None:
            return
        if isinstance(event, EndpointMoved):
            named.current = event.new
            named.known.set()
        elif _is_failure(event) and boottime() - named.asked >= REFRESH_SECONDS:
            self._refresh(named)

    def path_changed(self) -> None:
        """We may be in another network, where names have other answers; whoever is asked now may not be there."""
        for named in self._named.values():
            if named.task is not None:
                named.task.cancel()
            named.asked = boottime()
            named.task = self._tasks.start(self._resolve(named, stays=True), f"resolve endpoint {named.host}")

    def _refresh(self, named: _Named) -> None:
        if named.task is None or named.task.done():
            named.asked = boottime()
            named.task = self._tasks.start(self._resolve(named), f"resolve endpoint {named.host}")

    async def _resolve(self, named: _Named, *, stays: bool = False) -> None:
        """`stays`: the present address is as good as before, if it is still among the answers."""
        delay = FIRST_RETRY
        while True:
            named.asked = boottime()
            try:
                addresses = await self._look_up(named.host, named.port)
                break
            except OSError as error:
                why = error.strerror or error
                if not named.trouble:
                    peer = base64.b64encode(named.public_key).decode()
                    remedy = "it is asked again; see that Endpoint is spelt right, and that this machine resolves names"
                    where = f"endpoint {named.host} of peer {peer[:8]}..."
                    log.warning("%s does not resolve: %s; %s", where, why, remedy, extra={"peer": peer})
                named.trouble = f"endpoint name {named.host} does not resolve: {why}"
            self._fall_back(named)
            if named.current is not None and named.remembered is None:
                return  # there is one to go on with; the next failed handshake asks again
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY)
        named.trouble = ""
        if named.patience is not None:
            named.patience.cancel()
        stays = stays or named.remembered is not None
        named.remembered = None
        if stays:
            if named.current is not None and named.current in addresses and has_route(named.current):
                return
            named.turn = -1  # the resolver's order is that of the network we are in now
        named.turn += 1
        address = addresses[named.turn % len(addresses)]
        if address != named.current:
            if named.current is not None:
                log.info("endpoint %s is now %s", named.host, address[0])
            named.current = address
            self._moved(named.public_key, address)
        named.known.set()

    async def _lose_patience(self, named: _Named) -> None:
        await asyncio.sleep(PATIENCE)
        self._fall_back(named)

    def _fall_back(self, named: _Named) -> None:
        """The name has no answer yet."""
        if named.remembered is None or named.current is not None:
            return
        log.info("endpoint %s has no answer yet; trying %s, where it was", named.host, named.remembered[0])
        named.current = named.remembered
        self._moved(named.public_key, named.current)
        named.known.set()


def _is_failure(event: TunnelEvent) -> bool:
    return isinstance(event, HandshakeGaveUp) or (
        isinstance(event, HandshakeStarted) and event.attempt >= FAILED_ATTEMPT
    )


async def host_look_up(host: str, port: int) -> list[Address]:
    """As the host resolves it.  Raises OSError.

    In a thread that nobody waits for: the loop's executor would hold up the end of the program for as long as a dead
    name server takes to fail.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Address]] = loop.create_future()

    def settle(addresses: list[Address], error: OSError | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(addresses)

    def work() -> None:
        addresses: list[Address] = []
        failure: OSError | None = None
        try:
            addresses = outer_addresses(socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM))
        except OSError as error:
            failure = error
        except UnicodeError:
            failure = OSError("the name is not a legal one")
        try:
            loop.call_soon_threadsafe(settle, addresses, failure)
        except RuntimeError:
            return  # the loop has been closed meanwhile

    threading.Thread(target=work, name=f"resolve {host}", daemon=True).start()
    return await future
