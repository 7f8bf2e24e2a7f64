"""Opening a connection: from a name to addresses, one dial, and the race of several.

Read RFC 8305 (Happy Eyeballs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
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
Done = Callable[["Opening", Exception | None], None]


class Opening:
    """A connection that is being opened, and its owner until then.

    `done` is called once, in the very turn that brings the answer: with None, and a new owner must be found at once, or
    with what went wrong.
    """

    __slots__ = ("_done", "_link", "connection")

    def __init__(self, link: UserspaceLink, connection: Connection, done: Done) -> None:
        self._link = link
        self.connection = connection
        self._done: Done | None = done
        link.own(connection, self)
        link.wake()

    def on_ready(self, readiness: int) -> None:
        if readiness & CONNECTED:
            done, self._done = self._done, None
            if done is not None:
                done(self, None)
        elif readiness & CLOSED:
            self.end(self.connection.error or ConnectionAbortedError("the connection was closed"))

    def is_closing(self) -> bool:
        return self._done is None

    def end(self, error: Exception) -> None:
        done = self._done
        if done is not None:
            self.cancel()
            done(self, error)

    def cancel(self) -> None:
        """Nobody waits any more: `done` is not called, and nothing stays.  Too late, it does nothing."""
        if self._done is not None:
            self._done = None
            self._link.abort(self.connection)


class Dialler:
    """Opens connections by name or address, within `timeout` seconds in all."""

    def __init__(self, link: UserspaceLink, reach: Reach, resolver: Resolver, timeout: float) -> None:
        self._link = link
        self._reach = reach
        self._resolver = resolver
        self._timeout = timeout

    def start(self, host: str, port: int, local_port: int, done: Done) -> Opening | None:
        """Dial an address without a coroutine; None, and nothing has begun, where there is something to wait for.

        That is a name, or a peer whose endpoint is one that is being resolved.  Raises what `connect` does before it
        waits for an answer.
        """
        address = self._at_once(host)
        return None if address is None else self._open(host, address, port, local_port, done)

    async def connect(self, host: str, port: int, local_port: int, delay: float | None) -> Connection:
        """An established connection; several addresses start `delay` seconds apart."""
        address = self._at_once(host)
        if address is not None:
            return await self._established(host, address, port, local_port)
        addresses: list[bytes] = []
        try:
            async with asyncio.timeout(self._timeout):
                addresses = await self.addresses(host)
                if len(addresses) == 1:
                    return await self._dial(host, addresses[0], port, local_port)
                attempts = [lambda a=a: self._dial(host, a, port, local_port) for a in interleave(addresses)]
                return await race(attempts, delay, self._link.abort)
        except TimeoutError:
            raise self._reach.too_late(host, addresses or self._reach.servers, self._timeout) from None

    async def addresses(self, host: str) -> list[bytes]:
        """The addresses of a host that the tunnel carries, at least one.  Raises NoRoute, NameNotFound and the like."""
        return await carried_addresses(host, self._reach, self._resolver)

    def _at_once(self, host: str) -> bytes | None:
        """The address of a literal, unless its peer's endpoint is still to be resolved."""
        literal = _literal(host)
        if literal is None:
            return None
        address = self._reach.carried([literal], host)[0]
        return address if self._reach.is_prepared(address) else None

    def _open(self, host: str, address: bytes, port: int, local_port: int, done: Done) -> Opening:
        def answered(opening: Opening, error: Exception | None) -> None:
            done(
                opening, self._reach.too_late(host, [address], self._timeout) if type(error) is TimeoutError else error
            )

        # The limit is a deadline among those that the connection has anyway: asyncio.timeout() would cost 5 µs
        connection = self._link.host.connect(address, port, boottime(), local_port=local_port, timeout=self._timeout)
        return Opening(self._link, connection, answered)

    async def _dial(self, host: str, address: bytes, port: int, local_port: int) -> Connection:
        await self._reach.prepare(address)
        return await self._established(host, address, port, local_port)

    async def _established(self, host: str, address: bytes, port: int, local_port: int) -> Connection:
        """A connection for which the caller must find an owner at once.  Cancelled, this leaves nothing."""
        future: asyncio.Future[Connection] = self._link.loop.create_future()
        opening = self._open(host, address, port, local_port, partial(_settle_future, future))
        try:
            return await future
        except BaseException:
            self._link.abort(opening.connection)  # it may have been established meanwhile
            del opening, future  # both know the error, whose traceback knows this frame
            raise


async def carried_addresses(host: str, reach: Reach, resolver: Resolver) -> list[bytes]:
    """The addresses of a host that the tunnel carries, at least one.  Raises NoRoute, NameNotFound and the like."""
    literal = _literal(host)
    names = [literal] if literal is not None else await resolver.resolve(host, reach.families)
    return reach.carried(names, host)


def _literal(host: str) -> str | None:
    try:
        return literal_host(host)
    except ValueError as error:
        raise NameNotFound(str(error)) from None


def _settle_future(future: asyncio.Future[Connection], opening: Opening, error: Exception | None) -> None:
    if future.done():  # cancelled: whoever waited is about to abort it
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(opening.connection)


def interleave(addresses: Sequence[bytes]) -> list[bytes]:
    """RFC 8305 4: the families in turn, beginning with that of the first address; each in its order."""
    first = [address for address in addresses if len(address) == len(addresses[0])]
    second = [address for address in addresses if len(address) != len(addresses[0])]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


async def race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, T]]], delay: float | None, discard: Callable[[T], None]
) -> T:
    """The result of the first attempt to succeed.

    The next one starts when one has failed, or `delay` seconds after the last; None: not before.  Losers are cancelled,
    and one that got there at the same time is given to `discard`.  If all fail, the first error is raised.
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
