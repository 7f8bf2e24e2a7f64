"""A listener of the userspace stack as an asyncio server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from usernet.aio.addresses import SocketName, socket_name
from usernet.aio.runtime import Waiters
from usernet.aio.transports import StreamTransport
from usernet.aio.userspace import UserspaceLink
from usernet.stack.listener import Listener
from usernet.tcp.connection import Connection

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class ListeningSocket(NamedTuple):
    """What `sockets` of an asyncio server has, as far as we have it."""

    name: SocketName

    def getsockname(self) -> SocketName:
        return self.name


class Server(asyncio.AbstractServer):
    """Accepts until it is closed; connections it has accepted live on.  `async with` closes it and waits for them."""

    def __init__(self, link: UserspaceLink, listener: Listener, protocol_factory: ProtocolFactory) -> None:
        self._link = link
        self._listener: Listener | None = listener
        self._protocol_factory = protocol_factory
        self._transports: set[StreamTransport] = set()
        self._waiters = Waiters()
        self._forever: asyncio.Future[None] | None = None
        self.port = listener.port
        link.accept_from(listener, self)

    def __repr__(self) -> str:
        return f"<Server port {self.port}{'' if self._listener else ' closed'}>"

    # userspace.Acceptor

    def on_accepted(self, connection: Connection) -> None:
        try:
            protocol = self._protocol_factory()
        except BaseException:
            self._link.abort(connection)
            raise
        StreamTransport(self._link, connection, protocol, self).start()

    # transports.Attachable

    def attach(self, transport: StreamTransport) -> None:
        self._transports.add(transport)

    def detach(self, transport: StreamTransport) -> None:
        self._transports.discard(transport)
        self._wake_waiters()

    # asyncio.AbstractServer

    def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._link.stop_accepting(listener)
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._wake_waiters()

    def close_clients(self) -> None:
        """Close the connections it has accepted, each once what was written to it is sent."""
        for transport in self._transports.copy():
            transport.close()

    def abort_clients(self) -> None:
        """End the connections it has accepted at once."""
        for transport in self._transports.copy():
            transport.abort()

    @property
    def sockets(self) -> tuple[ListeningSocket, ...]:
        """As asyncio.Server's; the unspecified IPv6 address stands for all of ours, of both families."""
        listener = self._listener
        return () if listener is None else (ListeningSocket(socket_name(listener.address or bytes(16), self.port)),)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._link.loop

    def is_serving(self) -> bool:
        return self._listener is not None

    async def start_serving(self) -> None:
        """It does from the start."""

    async def serve_forever(self) -> None:
        """Until cancelled or closed; closes it then."""
        if self._listener is None:
            raise RuntimeError(f"server {self!r} is closed")
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._forever = self._link.loop.create_future()
        try:
            await self._forever
        finally:
            self._forever = None
            self.close()
            await self.wait_closed()

    async def wait_closed(self) -> None:
        """Until it is closed and the last connection it accepted is."""
        while self._listener is not None or self._transports:
            await self._waiters.wait()

    def _wake_waiters(self) -> None:
        if self._listener is None and not self._transports:
            self._waiters.wake()

    async def __aexit__(self, *exc_info: Any) -> None:
        self.close()
        await self.wait_closed()
