"""The network inside one WireGuard tunnel: what a program holds.

`usernet.open_tunnel(config)` makes one; `async with` starts and closes it.  The floor is asyncio's own shape,
transports and protocols (create_connection, create_server, create_datagram_endpoint); the storey above is streams,
datagrams, ping and resolve.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from usernet.aio.connect import HAPPY_EYEBALLS_DELAY, Dialler, Opening
from usernet.aio.datagram_forwarder import DatagramForwarder
from usernet.aio.datagrams import Datagrams, DatagramTransport
from usernet.aio.device import Device
from usernet.aio.endpoints import Endpoints
from usernet.aio.forwarder import Dial, StreamForwarder, networks_of
from usernet.aio.reach import Reach
from usernet.aio.resolver import Resolver
from usernet.aio.runtime import Tasks, boottime, log
from usernet.aio.sealer import second_core
from usernet.aio.server import ProtocolFactory, Server
from usernet.aio.streams import DEFAULT_LIMIT, ClientConnected, open_connection, start_server
from usernet.aio.transports import StreamTransport
from usernet.aio.udp import UdpLink, UdpStatistics
from usernet.aio.userspace import UserspaceLink
from usernet.burst import default_kernel
from usernet.burst.packets import Address
from usernet.links import DatagramLink
from usernet.stack.host import Host
from usernet.stack.statistics import HostStatistics
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings
from usernet.wire.ip import format_address, pack_address
from usernet.wireguard.events import TunnelEvent
from usernet.wireguard.timers import Timing
from usernet.wireguard.tunnel import PeerSettings, Tunnel, TunnelStatistics

if TYPE_CHECKING:
    from usernet.config import Config

DEFAULT_MTU: Final = 1420
DIAL_TIMEOUT: Final = 10.0
KEEPALIVE_IDLE: Final = 7200.0  # s; on for everybody: a peer that has vanished must not be held for ever
LINGER_SECONDS: Final = 1.0  # how long close() waits for the far end to acknowledge what was written
LINGER_STEP: Final = 0.01
REBIND_RETRY: Final = 1.0  # s
_NO_PORT: Final = "port 0 cannot be forwarded; None is every port"

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class NetworkStatistics:
    """A snapshot of the tunnel, of the stack inside it and of the socket outside."""

    tunnel: TunnelStatistics
    host: HostStatistics
    udp: UdpStatistics | None  # without a socket of its own there is none


class Network:
    """One tunnel and the userspace stack inside it.

    config: what a wg-quick file says.  port: the outer UDP port, 0 = any, None = as configured.  dial_timeout (s)
    bounds every dial, names and handshake included.  datagram_link: used instead of a UDP socket of its own.
    """

    def __init__(
        self,
        config: Config,
        *,
        port: int | None = None,
        dial_timeout: float = DIAL_TIMEOUT,
        datagram_link: DatagramLink | None = None,
        timing: Timing | None = None,
    ) -> None:
        interface = config.interface
        self.addresses = tuple(format_address(address) for address, _ in interface.addresses)
        self.mtu = interface.mtu or DEFAULT_MTU
        self.dial_timeout = dial_timeout
        self._config = config
        self._port = port if port is not None else interface.listen_port or 0
        self._servers = [pack_address(server) for server in interface.dns]
        self._datagram_link = datagram_link
        self._timing = timing or Timing()
        self._callbacks: list[Callable[[TunnelEvent], None]] = []
        self._asked_early: set[bytes] = set()  # peers to be asked for a session once their names are resolved
        self.listen_port = self._port
        self._started = False
        self._closed = False

    async def __aenter__(self) -> Network:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the outer socket and start.  Raises OSError when its port is taken.  No handshake is waited for."""
        if self._started:
            raise RuntimeError("the network has been started already")
        loop = asyncio.get_running_loop()
        interface = self._config.interface
        self._tasks = Tasks(loop)
        kernel = default_kernel()
        self._tunnel = Tunnel(
            interface.private_key,
            kernel=kernel,
            random=os.urandom,
            wall_ns=time.time_ns,
            mtu=self.mtu,
            timing=self._timing,
        )
        if self._datagram_link is None:
            self._datagram_link = UdpLink.open(loop, self._port)
        settings = TcpSettings(keepalive_idle=KEEPALIVE_IDLE)
        if isinstance(self._datagram_link, UdpLink):
            settings = replace(settings, receive_room=self._datagram_link.receive_room)
        self._host = Host(
            [address for address, _ in interface.addresses], mtu=self.mtu, random=os.urandom, settings=settings
        )
        self._link = UserspaceLink(loop, self._host, self._on_stalled)
        self._started = True
        self.listen_port = self._datagram_link.port
        sealer = second_core(loop, self._tunnel, self._datagram_link, kernel)
        self._device = Device(loop, self._tunnel, self._datagram_link, self._link, self._on_event, sealer)
        self._endpoints = Endpoints(self._tasks, self._on_endpoint)
        self._reach = Reach(self._config, self._tunnel, self._endpoints, self._link.wake)
        domains: dict[str, list[str]] = {}
        for one in self._config.access.name_servers:
            for domain in one.domains:
                domains.setdefault(domain, []).append(one.server)
        self._resolver = Resolver(self, self._tasks, interface.dns, interface.dns_search, domains)
        self._dialler = Dialler(self._link, self._reach, self._resolver, self._servers, self.dial_timeout)
        self._add_peers()
        self._device.start()

    def _add_peers(self) -> None:
        now = boottime()
        for peer in self._config.peers:
            if peer.public_key == self._tunnel.public_key:
                continue  # as the tunnel does
            endpoint = None if peer.endpoint is None else self._endpoints.add(peer.public_key, *peer.endpoint)
            settings = PeerSettings(
                public_key=peer.public_key,
                preshared_key=peer.preshared_key,
                allowed_ips=peer.allowed_ips,
                endpoint=endpoint,
                persistent_keepalive=peer.persistent_keepalive,
                reserved=peer.reserved,
            )
            self._tunnel.add_peer(settings, now)

    async def close(self) -> None:
        """Abort what is open, give what was closed a second to leave, and close the socket.  Idempotent."""
        if not self._started or self._closed:
            return
        self._closed = True
        try:
            await self._tasks.close()
            self._link.end(flushing=True)
            end = boottime() + LINGER_SECONDS
            while self._link.is_flushing() and boottime() < end:  # noqa: ASYNC110 - once, and short
                await asyncio.sleep(LINGER_STEP)
        finally:
            self._link.end(flushing=False)
            self._device.close()
            self._link.close()
            if self._datagram_link is not None:
                self._datagram_link.close()
        await asyncio.sleep(0)  # connection_lost of what was open

    # What is known

    def covers(self, address: str) -> bool:
        """Whether an address (an IP literal) is our own or some peer's; never so for loopback and link-local."""
        try:
            return self._reach.carries(pack_address(address))
        except ValueError:
            return False

    def on_event(self, callback: Callable[[TunnelEvent], None]) -> None:
        """Call back with each event of the tunnel: handshakes, endpoints that moved."""
        self._callbacks.append(callback)

    def request_handshakes(self) -> None:
        """Ask every peer that has an endpoint for a session now, instead of with the first packet for it.

        Whoever starts a tunnel learns so at once whether it works.  A peer whose name is still being resolved is asked
        when that is done.
        """
        now, own = boottime(), self._tunnel.public_key
        for peer in self._config.peers:
            if peer.public_key == own or peer.endpoint is None:
                continue
            if self._endpoints.is_known(peer.public_key):
                self._tunnel.request_handshake(peer.public_key, now)
            else:
                self._asked_early.add(peer.public_key)
        self._device.wake()

    def endpoints(self) -> list[Address]:
        """Where the peers are, as far as it is known: (host, port), or (host, port, flow, scope) for IPv6."""
        return self._tunnel.endpoints()

    def path_changed(self) -> None:
        """Something about this machine's network is different: what has stalled tries at once."""
        self._device.path_changed()

    def rebind(self) -> None:
        """This machine's own address, or its way out, is another one, or it has slept.  See `usernet.monitor`.

        A new outer socket, on the same port where that is possible; endpoint names are resolved anew; and every peer
        that we have a session with hears from us at once, since only then does it know where we are.  Nothing is
        closed.
        """
        if self._closed:
            return
        link = self._datagram_link
        if isinstance(link, UdpLink):
            self._device.rebind(lambda: self._renew(link))
        self._tunnel.path_changed(boottime())
        self._endpoints.path_changed()
        self._device.path_changed()

    def _renew(self, link: UdpLink) -> None:
        try:
            link.rebind()
        except OSError as error:
            log.warning("there is no new UDP socket: %s; trying again", error.strerror or error)
            asyncio.get_running_loop().call_later(REBIND_RETRY, self.rebind)
        else:
            self.listen_port = link.port

    def statistics(self) -> NetworkStatistics:
        link = self._datagram_link
        udp = link.statistics() if isinstance(link, UdpLink) else None
        return NetworkStatistics(self._tunnel.statistics(), self._host.statistics(), udp)

    # The floor

    async def create_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        host: str,
        port: int,
        *,
        local_port: int = 0,
        happy_eyeballs_delay: float = HAPPY_EYEBALLS_DELAY,
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
                started = time.perf_counter()
                self._host.ping(address, ident, sequence, os.urandom(56), boottime())
                self._link.wake()
                await reply
                return time.perf_counter() - started
        except TimeoutError:
            raise self._reach.too_late(host, addresses or self._servers, timeout) from None

    async def resolve(self, name: str, *, family: int = 0) -> list[str]:
        """The addresses of a name, by the configuration's DNS servers; `family` is 4, 6, or 0 for all we carry."""
        return await self._resolver.resolve(name, (family,) if family else self._reach.families)

    async def reverse(self, address: str) -> list[str]:
        """The names of an IP literal, by the configuration's DNS servers; at least one.  They are remote bytes."""
        return await self._resolver.reverse(address)

    async def reach(self, addresses: Sequence[str]) -> None:
        """Return once there is a session with the peer of one of these IP literals.  Raises NoHandshake."""
        packed = list(map(pack_address, addresses))
        try:
            async with asyncio.timeout(self.dial_timeout):
                await self._reach.session(packed)
        except TimeoutError:
            raise self._reach.too_late(addresses[0], packed, self.dial_timeout) from None

    def doubt(self, address: str) -> None:
        """Something at this IP literal does not answer: have its peer asked for a new session, at most every 5 s."""
        self._on_stalled(pack_address(address))

    # Dialling

    async def _open_udp(
        self, local_addr: tuple[str | None, int] | None, remote_addr: tuple[str, int] | None
    ) -> tuple[Any, tuple[bytes, int] | None]:
        remote = None
        if remote_addr is not None:
            remote = ((await self._dialler.addresses(remote_addr[0]))[0], remote_addr[1])
        host, port = local_addr or (None, 0)
        return self._host.open_udp(port=port, address=self._reach.own_address(host), remote=remote), remote

    # From the tunnel

    def _on_event(self, event: TunnelEvent) -> None:
        self._endpoints.on_event(event)
        self._reach.on_event(event)
        for callback in self._callbacks:
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - whoever watches does not stop the tunnel
                log.exception("a callback for events of the tunnel failed")

    def _on_stalled(self, remote: bytes) -> None:
        public_key = self._tunnel.route(remote)
        if public_key is not None:
            self._tunnel.request_handshake(public_key, boottime())
            self._device.wake()

    def _on_endpoint(self, public_key: bytes, address: Address) -> None:
        self._tunnel.set_endpoint(public_key, address)
        if public_key in self._asked_early:
            self._asked_early.discard(public_key)
            self._tunnel.request_handshake(public_key, boottime())
        self._reach.wake_waiters()
        self._device.wake()
