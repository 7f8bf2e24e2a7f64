"""From a host and port to a connection through the network: resolve once, check, dial that address.

The stages: `dial` (name or literal, the time limit) -> `_race` (several addresses: Happy Eyeballs, RFC 8305) ->
`_attempt`. A connection comes back paused, so that nothing its far end says is lost before its user has called
`set_protocol`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from proxy.names import parse_address
from proxy.policy import Forbidden, Policy
from usernet.errors import NameNotFound, NoRoute

RACE_DELAY = 0.3  # RFC 8305 section 5 suggests 250 ms
GRACE = 0.5  # the network's own limit comes first: it knows the cause


class Net(Protocol):
    """What the proxy needs of a network; `usernet.Network` is one.  Names never reach `create_connection`."""

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]: ...

    async def resolve(self, name: str) -> Sequence[str]: ...


class Dialled(asyncio.Protocol):
    """Holds a fresh connection still until somebody takes it."""

    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()


class Dialer:
    __slots__ = ("_losers", "net", "policy", "timeout")

    def __init__(self, net: Net, policy: Policy, timeout: float) -> None:
        self.net = net
        self.policy = policy
        self.timeout = timeout
        self._losers: set[asyncio.Task[asyncio.Transport]] = set()  # being cancelled: the loop keeps no reference

    async def dial(self, host: str, port: int) -> asyncio.Transport:
        """A connected, paused transport.  Raises an OSError of usernet/errors.py, of the kernel, or Forbidden."""
        async with asyncio.timeout(self.timeout + GRACE):
            addresses = [host]
            if parse_address(host) is None:
                self.policy.check_name(host)
                addresses = list(await self.net.resolve(host))
            allowed = self._allowed(addresses, port)
            if len(allowed) == 1:
                return await self._attempt(allowed[0], port)
            return await self._race(allowed, port)

    def _allowed(self, addresses: list[str], port: int) -> list[str]:
        """Those the policy lets through.  One forbidden among several is left out, not dialled; all of them raise."""
        allowed: list[str] = []
        refusal: Forbidden | None = None
        for address in addresses:
            try:
                allowed.append(self.policy.check(address, port))
            except Forbidden as error:
                refusal = error
        if allowed:
            return allowed
        raise refusal or NameNotFound("the name has no address")

    async def _attempt(self, address: str, port: int) -> asyncio.Transport:
        _, protocol = await self.net.create_connection(Dialled, address, port)
        transport: asyncio.Transport = protocol.transport
        return transport

    async def _race(self, addresses: list[str], port: int) -> asyncio.Transport:
        """The first to connect wins; the next starts after RACE_DELAY, or at once when one has failed."""
        loop = asyncio.get_running_loop()
        started: list[asyncio.Task[asyncio.Transport]] = []
        pending: set[asyncio.Task[asyncio.Transport]] = set()
        done: set[asyncio.Task[asyncio.Transport]] = set()
        errors: list[BaseException] = []
        winner: asyncio.Task[asyncio.Transport] | None = None
        try:
            while pending or len(started) < len(addresses):
                if len(started) < len(addresses):
                    task = loop.create_task(self._attempt(addresses[len(started)], port))
                    started.append(task)
                    pending.add(task)
                delay = RACE_DELAY if len(started) < len(addresses) else None
                done, pending = await asyncio.wait(pending, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        winner = task
                        return task.result()
                    errors.append(cast(BaseException, task.exception()))
            # The first error is reported, but one family's NoRoute says nothing while another could be tried.
            raise next((e for e in errors if not isinstance(e, NoRoute)), errors[0])
        finally:
            for task in started:
                if task is not winner:
                    self._discard(task)
            # What is raised refers to this frame by its traceback: the frame must not refer back.
            del started, pending, done, errors, task

    def _discard(self, task: asyncio.Task[asyncio.Transport]) -> None:
        self._losers.add(task)
        task.add_done_callback(self._discarded)
        task.cancel()

    def _discarded(self, task: asyncio.Task[asyncio.Transport]) -> None:
        self._losers.discard(task)
        if not task.cancelled() and task.exception() is None:
            task.result().abort()
