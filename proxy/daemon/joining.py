"""[STDIOTunnel]: standard input and output, joined to a connection through the tunnel."""

from __future__ import annotations

import asyncio
from typing import Protocol

from proxy.daemon.narrator import format_endpoint
from proxy.daemon.process import StartError
from proxy.replies import reason
from proxy.stdio import PIECE, join
from usernet.config import StdioTunnel


class StreamNet(Protocol):
    """What is needed of a network; `usernet.Network` is one."""

    async def open_connection(
        self, host: str, port: int, *, limit: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


async def join_stdio(network: StreamNet, tunnel: StdioTunnel, stop: asyncio.Event) -> None:
    """Until the end of both directions, or the stop.  StartError where there is no connection, or it breaks."""
    where = format_endpoint(tunnel.target)

    async def joined() -> None:
        try:
            streams = await network.open_connection(*tunnel.target, limit=PIECE)
        except OSError as error:
            raise StartError(f"cannot connect to {where}: {reason(error)}") from None
        try:
            await join(*streams)
        except ConnectionError as error:
            raise StartError(f"the connection to {where} broke: {reason(error)}") from None

    joining, stopping = asyncio.ensure_future(joined()), asyncio.ensure_future(stop.wait())
    await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if joining.done():
        joining.result()
    joining.cancel()
    await asyncio.wait((joining, stopping))
