"""Forwards: ports inside the tunnel that this machine answers, and addresses of this machine that lead into it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import usernet
from proxy.accesslog import AccessLog
from proxy.binding import addresses_of, bind_udp
from proxy.client import Terms
from proxy.daemon.draining import Drain
from proxy.daemon.narrator import format_endpoint
from proxy.daemon.process import descriptor_limit
from proxy.daemon.serving import networks, refusal
from proxy.proxyprotocol import encode
from proxy.server import Proxy
from proxy.session import Limits
from proxy.udpforward import IDLE_TIMEOUT, UdpForward
from usernet.config import ClientTunnel, ServerTunnel


@contextlib.asynccontextmanager
async def forward(
    net: usernet.Network, tunnels: Sequence[ServerTunnel], drain: Drain | None = None
) -> AsyncIterator[None]:
    """Answer all of them for as long as the block lasts."""
    places = Places(descriptor_limit() // 2)  # the rest is the proxy's
    async with contextlib.AsyncExitStack() as stack:
        for tunnel in tunnels:
            dial = places.dial_to(tunnel)
            if tunnel.kind == "tcp":
                streams = await stack.enter_async_context(await net.create_forwarder(dial, None, tunnel.listen_port))
                places.count(lambda of=streams: of.statistics().dialling + of.statistics().open)  # type: ignore[misc]
                if drain is not None:
                    drain.add(streams.close, lambda of=streams: of.statistics().open)  # type: ignore[misc]
            else:
                flows = await stack.enter_async_context(
                    await net.create_datagram_forwarder(dial, None, tunnel.listen_port)
                )
                places.count(lambda of=flows: of.statistics().open)  # type: ignore[misc]
        yield


class Places:
    """How many backends at once, of all forwarders: each takes a descriptor."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: list[Callable[[], int]] = []

    def count(self, taken: Callable[[], int]) -> None:
        """Ask this one, too, how many it has."""
        self._counts.append(taken)

    def dial_to(self, tunnel: ServerTunnel) -> Callable[[Callable[[], Any], usernet.Inbound], Any]:
        async def dial(factory: Callable[[], Any], inbound: usernet.Inbound) -> tuple[Any, Any]:
            if sum(taken() for taken in self._counts) > self._most:  # this one is counted already
                raise OSError(errno.EMFILE, "too many connections are forwarded")
            loop = asyncio.get_running_loop()
            if tunnel.kind == "udp":
                return await loop.create_datagram_endpoint(factory, remote_addr=tunnel.target)
            transport, protocol = await loop.create_connection(factory, *tunnel.target)
            if tunnel.header is not None:
                transport.write(encode(tunnel.header, inbound.client[:2], inbound.destination[:2]))
            return transport, protocol

        return dial


def shown(tunnel: ServerTunnel) -> str:
    """What a person is told of it."""
    return f"forward: {tunnel.kind.upper()} port {tunnel.listen_port} to {format_endpoint(tunnel.target)}"


@dataclass(frozen=True, slots=True)
class BoundForward:
    """A [TCPClientTunnel] or [UDPProxyTunnel] with the address it has got."""

    tunnel: ClientTunnel
    address: str
    port: int

    def __str__(self) -> str:
        here, there = format_endpoint((self.address, self.port)), format_endpoint(self.tunnel.target)
        return f"forward: {self.tunnel.kind.upper()} {here} into the tunnel, to {there}"


@contextlib.asynccontextmanager
async def forward_into(
    net: usernet.Network,
    tunnels: Sequence[ClientTunnel],
    *,
    access_log: AccessLog | None = None,
    drain: Drain | None = None,
) -> AsyncIterator[list[BoundForward]]:
    """Listen for all of them for as long as the block lasts.  ListenError where one cannot be.

    As many clients as half the descriptors: what it takes of those of the proxy comes back as a pause in accepting.
    """
    made: list[BoundForward] = []
    proxy = Proxy(net, limits=Limits(connections=descriptor_limit() // 2), access_log=access_log) if tunnels else None
    if proxy is not None and drain is not None:
        drain.add(proxy.drain, proxy.unfinished)
    sockets: list[asyncio.DatagramTransport] = []
    try:
        for tunnel in tunnels:
            try:
                if tunnel.kind == "udp":
                    made += [BoundForward(tunnel, *name) for name in await _open_udp(net, tunnel, sockets)]
                elif proxy is not None:
                    terms = Terms(balancers=networks(tunnel.balancers))
                    opened = await proxy.forward(
                        tunnel.host, tunnel.port, tunnel.target, terms=terms, header=tunnel.header
                    )
                    made += [BoundForward(tunnel, one.address, one.port) for one in opened]
            except OSError as error:
                raise refusal(error, tunnel.host or "every address") from None
        yield made
    finally:
        for transport in sockets:
            transport.close()
        if proxy is not None:
            await proxy.close()


async def _open_udp(
    net: usernet.Network, tunnel: ClientTunnel, sockets: list[asyncio.DatagramTransport]
) -> list[tuple[str, int]]:
    idle = IDLE_TIMEOUT if tunnel.idle_timeout is None else tunnel.idle_timeout
    names: list[tuple[str, int]] = []
    for address in await addresses_of(tunnel.host):
        sock = bind_udp(address, names[0][1] if names else tunnel.port)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: UdpForward(net, tunnel.target, idle), sock=sock
        )
        sockets.append(transport)
        names.append(transport.get_extra_info("sockname")[:2])
    return names
