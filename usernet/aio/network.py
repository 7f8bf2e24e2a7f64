"""The network inside one WireGuard tunnel: what a program holds.

`usernet.open_tunnel(config)` makes one; `async with` starts and closes it.  The floor is asyncio's own shape,
transports and protocols (create_connection, create_server, create_datagram_endpoint); the storey above is streams,
datagrams, ping and resolve.  What it has from Engine is the tunnel; what it adds is the userspace stack.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from usernet.aio.connect import HAPPY_EYEBALLS_DELAY, Dialler, Opening
from usernet.aio.datagram_forwarder import DatagramForwarder
from usernet.aio.datagrams import Datagrams, DatagramTransport
from usernet.aio.engine import DEFAULT_MTU, DIAL_TIMEOUT, Engine, EngineStatistics
from usernet.aio.forwarder import Dial, StreamForwarder, networks_of
from usernet.aio.runtime import boottime
from usernet.aio.server import ProtocolFactory, Server
from usernet.aio.streams import DEFAULT_LIMIT, ClientConnected, open_connection, start_server
from usernet.aio.transports import StreamTransport
from usernet.aio.udp import UdpLink
from usernet.aio.userspace import UserspaceLink
from usernet.links import PacketLink
from usernet.stack.host import Host
from usernet.stack.statistics import HostStatistics
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings

if TYPE_CHECKING:
    from usernet.config import Config
    from usernet.config.changes import Changes

__all__ = ["DIAL_TIMEOUT", "Network", "NetworkStatistics"]

KEEPALIVE_IDLE: Final = 7200.0  # s; on for everybody: a peer that has vanished must not be held for ever
LINGER_SECONDS: Final = 1.0  # how long close() waits for the far end to acknowledge what was written
LINGER_STEP: Final = 0.01
_NO_PORT: Final = "port 0 cannot be forwarded; None is every port"

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class NetworkStatistics(EngineStatistics):
    """With the stack inside."""

    host: HostStatistics


class Network(Engine):
    """One tunnel and the userspace stack inside it.  See Engine for the arguments."""

    async def __aenter__(self) -> Network:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _open_inside(self, loop: asyncio.AbstractEventLoop) -> PacketLink:
        settings = TcpSettings(keepalive_idle=KEEPALIVE_IDLE)
        if isinstance(self._datagram_link, UdpLink):
            settings = replace(settings, receive_room=self._datagram_link.receive_room)
        addresses = [address for address, _ in self.config.interface.addresses]
        self._host = Host(addresses, mtu=self.mtu, random=os.urandom, settings=settings)
        self._link = UserspaceLink(loop, self._host, self._reach.doubt)
        self._dialler = Dialler(self._link, self._reach, self._resolver, self.dial_timeout)
        return self._link

    async def _change_inside(self, config: Config, changes: Changes) -> None:
        if changes.addresses or changes.mtu:
            addresses = [address for address, _ in config.interface.addresses]
            self._link.readdress(addresses, config.interface.mtu or DEFAULT_MTU)

    async def _leave(self) -> None:
        self._link.end(flushing=True)
        end = boottime() + LINGER_SECONDS
        while self._link.is_flushing() and boottime() < end:  # noqa: ASYNC110 - once, and short
            await asyncio.sleep(LINGER_STEP)
        self._link.end(flushing=False)

    async def _close_inside(self) -> None:
        self._link.end(flushing=False)  # again, should the wait have been cancelled
        self._link.close()

    def _ways(self) -> Network:
        return self

    def statistics(self) -> NetworkStatistics:
        return NetworkStatistics(
            self._tunnel.statistics(), self._udp_statistics(), self._filter_statistics(), self._host.statistics()
        )

    # The floor

    async def create_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        host: str,
        port: int,
        *,
        local_port: int = 0,
        happy_eyeballs_delay: float | None = HAPPY_EYEBALLS_DELAY,
    ) -> tuple[StreamTransport, ProtocolT]:
        """As loop.create_connection.  Raises what usernet.errors lists, ConnectionRefusedError or TimeoutError."""
        connection = await self._dialler.connect(host, port, local_port, happy_eyeballs_delay)
        return self._transport_for(connection, protocol_factory)

    def _transport_for(
        self, connection: Connection, protocol_factory: Callable[[], ProtocolT]
    ) -> tuple[StreamTransport, ProtocolT]:
        try:
            protocol = protocol_factory()
            transport = StreamTransport(self._link, connection, protocol)
        except BaseException:
            self._link.abort(connection)
            raise
        transport.start()
        return transport, protocol

    def start_connection(
        self, protocol: asyncio.BaseProtocol, host: str, port: int, failed: Callable[[Exception], None]
    ) -> Opening | None:
        """create_connection by calls, for who opens thousands: the protocol's connection_made, or `failed`, follows.

        Neither is called before this returns, nor after `cancel()` of what it returns.  None where there is more to do
        than to ask an address: then nothing has begun, and create_connection is the way.  Raises what needs no answer,
        NoRoute for one.
        """

        def done(opening: Opening, error: Exception | None) -> None:
            if error is not None:
                failed(error)
            else:
                self._transport_for(opening.connection, lambda: protocol)

        return self._dialler.start(host, port, 0, done)

    async def create_server(
        self, protocol_factory: ProtocolFactory, host: str | None, port: int, *, backlog: int = 128
    ) -> Server:
        """As loop.create_server.  `host` is one of our own addresses, or None for all of them."""
        address = self._reach.own_address(host)
        listener = self._host.listen(port, address=address, backlog=backlog)
        return Server(self._link, listener, protocol_factory)

    async def create_forwarder(self, dial: Dial, host: str | None, port: int | None) -> StreamForwarder:
        """Pass connections on: `dial(protocol_factory, inbound)` connects to the backend, before the client is let in.

        It returns what loop.create_connection does; an OSError, or dial_timeout, and the client is refused.  `host` is
        one of our own addresses, None for all of them, or a network behind us such as "192.168.7.0/24".  `port` is None
        for every port.  Raises OSError (EADDRINUSE), ValueError.
        """
        if port == 0:
            raise ValueError(_NO_PORT)
        forwarder = self._host.forwards.open(networks_of(host), port or 0)
        return StreamForwarder(self._link, self._tasks, forwarder, dial, self.dial_timeout)

    async def create_datagram_forwarder(self, dial: Dial, host: str | None, port: int | None) -> DatagramForwarder:
        """As create_forwarder, for UDP: each client and destination has a backend of its own until it is idle.

        `dial` returns what loop.create_datagram_endpoint does, with a remote_addr.
        """
        if port == 0:
            raise ValueError(_NO_PORT)
        forwarder = self._host.flows.open(networks_of(host), port or 0)
        return DatagramForwarder(self._link, self._tasks, forwarder, dial, self.dial_timeout)

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], ProtocolT],
        local_addr: tuple[str | None, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
    ) -> tuple[DatagramTransport, ProtocolT]:
        """As loop.create_datagram_endpoint; a name in remote_addr is resolved, later ones in sendto() are not."""
        socket, remote = await self._open_udp(local_addr, remote_addr)
        try:
            protocol = protocol_factory()
        except BaseException:
            socket.close()
            raise
        transport = DatagramTransport(self._link, socket, protocol, remote, self._reach.check)  # type: ignore[arg-type]
        transport.start()
        return transport, protocol

    # The storey above

    async def open_connection(
        self, host: str, port: int, *, limit: int = DEFAULT_LIMIT, local_port: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio.open_connection."""
        return await open_connection(self, host, port, limit=limit, local_port=local_port)

    async def start_server(
        self,
        client_connected: ClientConnected,
        host: str | None,
        port: int,
        *,
        limit: int = DEFAULT_LIMIT,
        backlog: int = 128,
    ) -> Server:
        """As asyncio.start_server."""
        return await start_server(self, client_connected, host, port, limit=limit, backlog=backlog)

    async def open_datagrams(
        self,
        local_addr: tuple[str | None, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
    ) -> Datagrams:
        """A UDP socket to await on."""
        socket, remote = await self._open_udp(local_addr, remote_addr)
        return Datagrams(self._link, socket, remote, self._reach.check)

    async def ping(self, host: str, *, timeout: float = 5.0) -> float:  # noqa: ASYNC109 - its error tells why
        """The round-trip time of one ICMP echo, in seconds.  Raises as a dial does."""
        addresses: list[bytes] = []
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._dialler.addresses(host)
                address = addresses[0]
                await self._reach.session([address])
                ident, sequence = int.from_bytes(os.urandom(2), "big"), 1
                reply = self._link.expect_echo(address, ident, sequence)
                try:
                    started = time.perf_counter()
                    self._host.ping(address, ident, sequence, os.urandom(56), boottime())
                    self._link.wake()
                    await reply
                    return time.perf_counter() - started
                finally:
                    reply.cancel()
        except TimeoutError:
            raise self._reach.too_late(host, addresses or self._reach.servers, timeout) from None

    # Dialling

    async def _open_udp(
        self, local_addr: tuple[str | None, int] | None, remote_addr: tuple[str, int] | None
    ) -> tuple[Any, tuple[bytes, int] | None]:
        remote = None
        if remote_addr is not None:
            remote = ((await self._dialler.addresses(remote_addr[0]))[0], remote_addr[1])
        host, port = local_addr or (None, 0)
        return self._host.open_udp(port=port, address=self._reach.own_address(host), remote=remote), remote
