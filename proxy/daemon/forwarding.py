"""The file's [TCPServerTunnel] and [UDPServerTunnel] sections: ports inside the tunnel that this machine answers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import usernet
from proxy.daemon.narrator import format_endpoint
from proxy.daemon.process import descriptor_limit
from usernet.config import ServerTunnel


@contextlib.asynccontextmanager
async def forward(net: usernet.Network, tunnels: Sequence[ServerTunnel]) -> AsyncIterator[None]:
    """Forward all of them for as long as the block lasts."""
    places = Places(descriptor_limit() // 2)  # the rest is the proxy's
    async with contextlib.AsyncExitStack() as stack:
        for tunnel in tunnels:
            dial = places.dial_to(tunnel)
            if tunnel.kind == "tcp":
                streams = await stack.enter_async_context(await net.create_forwarder(dial, None, tunnel.listen_port))
                places.count(lambda of=streams: of.statistics().dialling + of.statistics().open)  # type: ignore[misc]
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
            return await loop.create_connection(factory, *tunnel.target)

        return dial


def shown(tunnel: ServerTunnel) -> str:
    """What a person is told of it."""
    return f"forward: {tunnel.kind.upper()} port {tunnel.listen_port} to {format_endpoint(tunnel.target)}"
