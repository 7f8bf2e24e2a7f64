"""The ways out of the proxy: the tunnel, the host's own network ("direct"), and upstream proxies.

Each is a `Route`, whose `net` speaks asyncio's own verbs, so nothing behind the dialer knows which one it has.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakSet

from proxy.names import parse_address
from usernet.errors import DialError, NameNotFound, NameServerFailed
from usernet.monitor import source_of

TUNNEL, DIRECT, REFUSE = "tunnel", "direct", "refuse"


class UpstreamFailed(DialError):
    """An upstream proxy cannot be reached, or does not do what is asked of it."""


class Unsupported(DialError):
    """The route cannot do what was asked of it."""

    code = errno.EOPNOTSUPP


class Net(Protocol):
    """What a route needs of a network; `usernet.Network` is one."""

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]: ...

    async def resolve(self, name: str) -> Sequence[str]: ...


class Begun(Protocol):
    """Something that is under way and can be given up."""

    def cancel(self) -> object: ...


# Network.start_connection: by calls, where there is nothing to wait for but the answer; else None.
Start = Callable[[asyncio.BaseProtocol, str, int, Callable[[Exception], None]], Begun | None]


class Route(NamedTuple):
    """`takes_names`: its net is given names as they are, and resolves them at its far end.  `start`: if it can."""

    name: str
    net: Net
    takes_names: bool = False
    start: Start | None = None


def let_in(net: object, transport: Literal["tcp", "udp"], port: int) -> Callable[[], None]:
    """Have whoever comes to this port of ours let in, until what this returns is called: where a net has a filter."""
    permit = getattr(net, "let_in", None)
    return permit(transport, port) if permit is not None else _nothing


def _nothing() -> None:
    """It has none."""


class HostNet:
    """The host's own network and its own resolver: only what a rule sends here comes here.

    `mark`: what keeps packets out of a tunnel that this machine's own routes lead into; 0 where none does.
    """

    def __init__(self, mark: int = 0) -> None:
        self._mark = mark
        self._dialled: WeakSet[Any] = WeakSet()  # transports

    def _socket(self, host: str, kind: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
        return sock

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        if self._mark:
            transport, protocol = await loop.create_connection(protocol_factory, sock=await self._connect(host, port))
        else:
            transport, protocol = await loop.create_connection(protocol_factory, host, port)
        self._dialled.add(transport)
        return transport, protocol

    async def _connect(self, host: str, port: int) -> socket.socket:
        """A marked socket, which a loop does not make: the addresses one after the other, as the loop does it."""
        addresses = [host] if parse_address(host) is not None else await self.resolve(host)
        errors: list[OSError] = []
        for address in addresses:
            sock = self._socket(address, socket.SOCK_STREAM)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
            except OSError as error:
                sock.close()
                errors.append(error)
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        try:
            raise errors[0]
        finally:
            errors.clear()  # or its traceback would hold itself

    def path_changed(self) -> int:
        """This machine's way out may be another one: end the connections that can only hang now, and count them.

        Those are the ones to where packets would leave from another address today: their answers would come to the old
        one.  Where there is no way at all just now, the old one may come back.
        """
        sources: dict[str, str | None] = {}
        ended = 0
        for transport in list(self._dialled):
            own, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
            if transport.is_closing() or own is None or peer is None:
                continue
            if peer[0] not in sources:
                sources[peer[0]] = source_of(peer)
            source = sources[peer[0]]
            if source is not None and source.partition("%")[0] != own[0].partition("%")[0]:
                transport.abort()
                ended += 1
        return ended

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], **kwargs: Any
    ) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        local, remote = kwargs.get("local_addr"), kwargs.get("remote_addr")
        if not self._mark:
            return await loop.create_datagram_endpoint(protocol_factory, **kwargs)
        sock = self._socket((remote or local or ("",))[0], socket.SOCK_DGRAM)
        try:
            if local is not None:
                sock.bind(local)
            if remote is not None:
                sock.connect(remote)
            return await loop.create_datagram_endpoint(protocol_factory, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def reach(self, addresses: Sequence[str]) -> None:
        """As usernet.Network's; here there is no session to wait for."""

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, *, backlog: int = 100
    ) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(protocol_factory, host, port, backlog=backlog)

    async def resolve(self, name: str) -> Sequence[str]:
        """Raises NameNotFound and NameServerFailed."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise NameServerFailed("the host's resolver gave no answer") from None
            raise NameNotFound("the host's resolver does not know the name") from None
        # Without zones: an address of a link is refused, and must not take the others with it.
        return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))

    async def reverse(self, address: str) -> Sequence[str]:
        """The name of an address.  Raises as `resolve` does."""
        try:
            return [(await asyncio.get_running_loop().getnameinfo((address, 0), socket.NI_NAMEREQD))[0]]
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise NameServerFailed("the host's resolver gave no answer") from None
            raise NameNotFound("the host's resolver does not know the address") from None
