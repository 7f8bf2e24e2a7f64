"""Opening a connection: from a name to addresses, one dial, and the race of several.

Read RFC 8305 (Happy Eyeballs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, TypeVar

from usernet.aio.addresses import literal_host
from usernet.aio.reach import Reach
from usernet.aio.resolver import Resolver
from usernet.aio.runtime import boottime
from usernet.aio.userspace import UserspaceLink
from usernet.errors import NameNotFound
from usernet.tcp.connection import CLOSED, CONNECTED, Connection

HAPPY_EYEBALLS_DELAY: Final = 0.3  # RFC 8305 8: recommended 250 ms, at least 100 ms

T = TypeVar("T")


class Dial:
    """The owner of a connection until it is established or has failed."""

    __slots__ = ("_connection", "_future")

    def __init__(self, connection: Connection, future: asyncio.Future[None]) -> None:
        self._connection = connection
        self._future = future

    def on_ready(self, readiness: int) -> None:
        if self._future.done():
            return
        if readiness & CONNECTED:
            self._future.set_result(None)
        elif readiness & CLOSED:
            self._future.set_exception(self._connection.error or ConnectionAbortedError("the connection was closed"))

    def is_closing(self) -> bool:
        return self._future.done()

    def end(self, error: OSError) -> None:
        if not self._future.done():
            self._future.set_exception(error)


async def dial(link: UserspaceLink, address: bytes, port: int, local_port: int = 0) -> Connection:
    """An established connection, for which the caller must find an owner at once.  Cancelled, it leaves nothing."""
    connection = link.host.connect(address, port, boottime(), local_port=local_port)
    future: asyncio.Future[None] = link.loop.create_future()
    link.own(connection, Dial(connection, future))
    link.wake()
    try:
        await future
    except BaseException:
        link.abort(connection)
        del connection, future  # both know the error, whose traceback knows this frame
        raise
    return connection


class Dialler:
    """Opens connections by name or address, within `timeout` seconds in all.  `servers`: whom names are asked of."""

    def __init__(
        self, link: UserspaceLink, reach: Reach, resolver: Resolver, servers: Sequence[bytes], timeout: float
    ) -> None:
        self._link = link
        self._reach = reach
        self._resolver = resolver
        self._servers = servers
        self._timeout = timeout

    async def connect(self, host: str, port: int, local_port: int, delay: float) -> Connection:
        """An established connection; several addresses start `delay` seconds apart."""
        addresses: list[bytes] = []
        try:
            async with asyncio.timeout(self._timeout):
                addresses = await self.addresses(host)
                if len(addresses) == 1:
                    return await self._dial(addresses[0], port, local_port)
                attempts = [lambda a=a: self._dial(a, port, local_port) for a in interleave(addresses)]
                return await race(attempts, delay, self._link.abort)
        except TimeoutError:
            raise self._reach.too_late(host, addresses or self._servers, self._timeout) from None

    async def addresses(self, host: str) -> list[bytes]:
        """The addresses of a host that the tunnel carries, at least one.  Raises NoRoute, NameNotFound and the like."""
        try:
            literal = literal_host(host)
        except ValueError as error:
            raise NameNotFound(str(error)) from None
        names = [literal] if literal is not None else await self._resolver.resolve(host, self._reach.families)
        return self._reach.carried(names, host)

    async def _dial(self, address: bytes, port: int, local_port: int) -> Connection:
        await self._reach.prepare(address)
        return await dial(self._link, address, port, local_port)


def interleave(addresses: Sequence[bytes]) -> list[bytes]:
    """RFC 8305 4: the families in turn, beginning with that of the first address; each in its order."""
    first = [address for address in addresses if len(address) == len(addresses[0])]
    second = [address for address in addresses if len(address) != len(addresses[0])]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


async def race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, T]]], delay: float, discard: Callable[[T], None]
) -> T:
    """The result of the first attempt to succeed.

    The next one starts when one has failed, or `delay` seconds after the last.  Losers are cancelled, and one that got
    there at the same time is given to `discard`.  If all fail, the first error is raised.
    """
    running: set[asyncio.Task[T]] = set()
    waiting = list(attempts)
    errors: list[BaseException] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            winner = await _settle(running, delay if waiting else None, errors)
            if winner is not None:
                return winner.result()
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(lambda task: _lost(task, discard))
    try:
        raise errors[0] if errors else ValueError("nothing to try")
    finally:
        errors.clear()  # or the error's traceback would hold, by this frame, the error


async def _settle(
    running: set[asyncio.Task[T]], seconds: float | None, errors: list[BaseException]
) -> asyncio.Task[T] | None:
    """Wait for news.  One that has succeeded leaves `running`, as do those whose errors are added."""
    done, _ = await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        error = task.exception()
        running.discard(task)
        if error is None:
            return task
        errors.append(error)
    return None


def _lost(task: asyncio.Task[T], discard: Callable[[T], None]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())
