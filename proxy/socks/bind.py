"""BIND (RFC 1928 sections 4 and 6): one port that waits for one peer, on the route that a dial to it would take.

The stages: `open_rendezvous` (rules and names as for a dial; the address that the route has towards the peer; listen)
-> the first reply -> `Rendezvous.peer` (whoever comes from elsewhere is reset) -> the second reply and the relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from proxy.client import Client
from proxy.dialer import GRACE, Dialer, Dialled, Place
from proxy.names import parse_address
from proxy.policy import unmapped
from proxy.routes import Net, Unsupported, let_in
from proxy.session import Context
from usernet.aio.relay import reset
from usernet.errors import NameNotFound

DISCARD_PORT = 9  # nothing is sent there: a connected UDP socket only tells which of its addresses a route would use


@runtime_checkable
class ListeningNet(Net, Protocol):
    """A route's net that can be connected to as well."""

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, backlog: int
    ) -> Any: ...

    async def reach(self, addresses: Sequence[str]) -> None: ...

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], *, remote_addr: tuple[str, int]
    ) -> tuple[Any, Any]: ...


class Rendezvous:
    """`address`, `port`: where the peer is to connect."""

    __slots__ = ("_context", "_expected", "_peer", "_revoke", "_server", "address", "port")

    def __init__(self, context: Context, expected: Sequence[Place]) -> None:
        self._context = context
        self._expected = frozenset(unmapped(place.host)[1] for place in expected)
        self._peer: asyncio.Future[asyncio.Transport] = context.loop.create_future()
        self._server: Any = None
        self._revoke: Callable[[], None] | None = None  # of the packet filter
        self.address, self.port = "", 0

    async def listen(self, net: ListeningNet, address: str) -> None:
        """Raises OSError.  Cancelled, it leaves nothing that listens."""
        # One is expected: strangers' half-open connections need no room.
        making = self._context.loop.create_task(net.create_server(lambda: Arrival(self), address, 0, backlog=1))
        try:
            self._server = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_close_server)
            raise
        self.address, self.port = self._server.sockets[0].getsockname()[:2]
        self._revoke = let_in(net, "tcp", self.port)

    def arrived(self, transport: asyncio.Transport) -> None:
        """Somebody has connected.  The port is not looked at: a peer seldom knows the one it will connect from."""
        name = transport.get_extra_info("peername")
        if self._peer.done() or name is None or unmapped(name[0].partition("%")[0])[1] not in self._expected:
            self._context.counters.refuse("bind-stranger")
            reset(transport)
            return
        transport.pause_reading()  # until the relay has it
        self._peer.set_result(transport)

    async def peer(self) -> asyncio.Transport:
        """The peer's connection, paused.  However this ends, nobody can connect any more."""
        try:
            return await self._peer
        except BaseException:
            if self._peer.done() and not self._peer.cancelled():
                reset(self._peer.result())
            raise
        finally:
            self._server.close()
            self._server = None  # which knows us as well
            if self._revoke is not None:
                self._revoke()


class Arrival(Dialled):
    """Holds a fresh connection for its rendezvous."""

    __slots__ = ("_rendezvous",)

    def __init__(self, rendezvous: Rendezvous) -> None:
        self._rendezvous = rendezvous

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._rendezvous.arrived(self.transport)


async def open_rendezvous(context: Context, client: Client, host: str, port: int, *, only_ipv4: bool) -> Rendezvous:
    """Listen for this peer.  Raises what a dial to it would, and Unsupported where its route cannot listen.

    `only_ipv4`: SOCKS4 has no way to say another address.
    """
    dialer: Dialer = context.dialer
    async with asyncio.timeout(dialer.timeout + GRACE):
        error: OSError | None = None
        places = await dialer.locate(client, host, port)
        for place in places:
            client.route = place.route.name
            net = place.route.net
            if not isinstance(net, ListeningNet) or parse_address(place.host) is None:
                error = error or Unsupported("this route cannot listen")
                continue
            if only_ipv4 and ":" in place.host:
                error = error or NameNotFound("the name has no IPv4 address")
                continue
            rendezvous = Rendezvous(context, [other for other in places if other.route is place.route])
            try:
                await rendezvous.listen(net, await _own_address(net, place.host))
            except OSError as failure:  # a family that this route does not have, say
                error = error or failure
                continue
            return rendezvous
        try:
            raise error or NameNotFound("the name has no address")
        finally:
            del error  # its traceback refers to this frame


async def _own_address(net: ListeningNet, peer: str) -> str:
    """Where the net would speak to the peer from, which is where the peer can answer.  Raises OSError."""
    transport, _ = await net.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(peer, DISCARD_PORT))
    try:
        address = cast(str, transport.get_extra_info("sockname")[0])
    finally:
        transport.close()
    await net.reach([peer])  # a far end that has never heard from us may not know where we are
    return address


def _close_server(making: asyncio.Task[Any]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().close()
