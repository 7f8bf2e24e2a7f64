"""The network inside a tunnel that the kernel's own TCP/IP has, by a TUN: the verbs of usernet.Network, over sockets.

Other programs need none of this: they have routes.  Our own proxies do, so that what they dial goes through the tunnel
whatever the routes are, and is answered for in the same words.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from usernet.aio.connect import HAPPY_EYEBALLS_DELAY, carried_addresses, interleave, race
from usernet.aio.engine import DEFAULT_MTU, Engine, EngineStatistics
from usernet.aio.server import ProtocolFactory
from usernet.aio.streams import DEFAULT_LIMIT, open_connection
from usernet.links import PacketLink
from usernet.tun.link import TunLink, TunStatistics
from usernet.tun.sockets import ECHO_BYTES, Datagrams, bound_socket, echo, echo_socket, family_of
from usernet.tun.stall import Silence
from usernet.wire.ip import format_address

if TYPE_CHECKING:
    from usernet.config import Config
    from usernet.config.changes import Changes

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True)
class KernelStatistics(EngineStatistics):
    """With what went to the kernel, and came from there."""

    tun: TunStatistics


class Inside(Protocol):
    """An interface of the kernel's, with its addresses, routes and name servers; `link` is its packets.

    Whoever has opened it closes it, when the network is closed.
    """

    name: str
    link: TunLink

    async def change(self, config: Config, mtu: int) -> None:
        """Other addresses, routes, MTU or name servers.  Raises OSError; then it is as before."""


class KernelNetwork(Engine):
    """`inside` is the interface, opened already.  `mark`: of outer packets, see Interface.

    See Engine for the other arguments.
    """

    def __init__(self, config: Config, inside: Inside, *, mark: int = 0, **options: Any) -> None:
        super().__init__(config, **options)
        self._inside = inside
        self._own_mark = mark

    async def __aenter__(self) -> KernelNetwork:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _open_inside(self, loop: asyncio.AbstractEventLoop) -> PacketLink:
        silence = Silence(self._tunnel)

        def sent(remote: bytes, now: float) -> None:
            if silence.sent(remote, now):
                self._reach.doubt(remote)

        self._inside.link.on_asked(sent)
        return self._inside.link

    def _mark(self) -> int:
        return self._own_mark

    async def _change_inside(self, config: Config, changes: Changes) -> None:
        await self._inside.change(config, config.interface.mtu or DEFAULT_MTU)

    async def _close_inside(self) -> None:
        """It is its owner's, and commands to take it away may take their time."""

    def _ways(self) -> KernelNetwork:
        return self

    def statistics(self) -> KernelStatistics:
        return KernelStatistics(
            self._tunnel.statistics(), self._udp_statistics(), self._filter_statistics(), self._inside.link.statistics()
        )

    @property
    def interface(self) -> str:
        """Its name."""
        return self._inside.name

    def _socket(self, address: bytes, kind: int) -> socket.socket:
        """To speak to `address` with; what is for ourselves goes by no interface."""
        interface = "" if address in self._reach.own else self.interface
        return bound_socket(interface, family_of(address), kind)

    # The floor

    async def create_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        host: str,
        port: int,
        *,
        local_port: int = 0,
        happy_eyeballs_delay: float | None = HAPPY_EYEBALLS_DELAY,
    ) -> tuple[Any, ProtocolT]:
        """As loop.create_connection.  Raises what usernet.errors lists, or the kernel's OSError."""
        addresses: list[bytes] = []
        try:
            async with asyncio.timeout(self.dial_timeout):
                addresses = await carried_addresses(host, self._reach, self._resolver)
                attempts = [partial(self._dial, each, port, local_port) for each in interleave(addresses)]
                sock = await race(attempts, happy_eyeballs_delay, socket.socket.close)
        except TimeoutError:
            raise self._reach.too_late(host, addresses or self._reach.servers, self.dial_timeout) from None
        return await asyncio.get_running_loop().create_connection(protocol_factory, sock=sock)

    async def _dial(self, address: bytes, port: int, local_port: int) -> socket.socket:
        await self._reach.prepare(address)
        sock = self._socket(address, socket.SOCK_STREAM)
        try:
            if local_port:
                sock.bind(("", local_port))
            await asyncio.get_running_loop().sock_connect(sock, (format_address(address), port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def create_server(
        self, protocol_factory: ProtocolFactory, host: str, port: int, *, backlog: int = 128
    ) -> asyncio.Server:
        """As loop.create_server, on one of our own addresses, for what comes through the tunnel."""
        self._reach.check_open()
        address = self._reach.own_address(host)
        if address is None:
            raise ValueError("one of the tunnel's own addresses is needed")
        sock = bound_socket(self.interface, family_of(address), socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            return await asyncio.get_running_loop().create_server(protocol_factory, sock=sock, backlog=backlog)
        except BaseException:
            sock.close()
            raise

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], ProtocolT],
        local_addr: tuple[str | None, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
    ) -> tuple[Any, ProtocolT]:
        """As loop.create_datagram_endpoint; without any address it is for IPv4, as a socket has one family."""
        remote = None if remote_addr is None else await self._address(remote_addr[0])
        self._reach.check_open()
        host, port = local_addr or (None, 0)
        own = self._reach.own_address(host)
        known = remote or own or bytes(16 if host == "::" else 4)
        sock = self._socket(known, socket.SOCK_DGRAM)
        try:
            if local_addr is not None:
                sock.bind((host or "", port))
            if remote is not None and remote_addr is not None:
                sock.connect((format_address(remote), remote_addr[1]))
            loop = asyncio.get_running_loop()
            return await loop.create_datagram_endpoint(protocol_factory, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def _address(self, host: str) -> bytes:
        """The first that the tunnel carries.  Raises as a dial does."""
        addresses: list[bytes] = []
        try:
            async with asyncio.timeout(self.dial_timeout):
                addresses = await carried_addresses(host, self._reach, self._resolver)
        except TimeoutError:
            raise self._reach.too_late(host, self._reach.servers, self.dial_timeout) from None
        return addresses[0]

    # The storey above

    async def open_connection(
        self, host: str, port: int, *, limit: int = DEFAULT_LIMIT, local_port: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio.open_connection."""
        return await open_connection(self, host, port, limit=limit, local_port=local_port)

    async def open_datagrams(
        self, local_addr: tuple[str | None, int] | None = None, remote_addr: tuple[str, int] | None = None
    ) -> Datagrams:
        """A UDP socket to await on."""
        protocol = partial(Datagrams, self._inside.link.drops)
        _, datagrams = await self.create_datagram_endpoint(protocol, local_addr, remote_addr)
        return datagrams

    async def ping(self, host: str, *, timeout: float = 5.0) -> float:  # noqa: ASYNC109 - its error tells why
        """The round-trip time of one ICMP echo, in seconds.  Raises as a dial does; PermissionError without a right to.

        That is net.ipv4.ping_group_range, or CAP_NET_RAW.
        """
        addresses: list[bytes] = []
        try:
            async with asyncio.timeout(timeout):
                addresses = await carried_addresses(host, self._reach, self._resolver)
                await self._reach.session(addresses[:1])
                interface = "" if addresses[0] in self._reach.own else self.interface
                with echo_socket(interface, family_of(addresses[0])) as sock:
                    started = time.perf_counter()
                    await echo(sock, format_address(addresses[0]), os.urandom(ECHO_BYTES))
                    return time.perf_counter() - started
        except TimeoutError:
            raise self._reach.too_late(host, addresses or self._reach.servers, timeout) from None
