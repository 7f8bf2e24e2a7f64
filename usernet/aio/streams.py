"""asyncio's StreamReader and StreamWriter over our transports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from usernet.aio.server import ProtocolFactory, Server

DEFAULT_LIMIT: Final = 64 << 10

ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class Dials(Protocol):
    """The part of Network that opening a stream needs."""

    async def create_connection(
        self, protocol_factory: Callable[[], Any], host: str, port: int, *, local_port: int = 0
    ) -> tuple[asyncio.Transport, Any]: ...


class Serves(Protocol):
    """The part of Network that serving streams needs."""

    async def create_server(
        self, protocol_factory: ProtocolFactory, host: str | None, port: int, *, backlog: int = 128
    ) -> Server: ...


async def open_connection(
    net: Dials, host: str, port: int, *, limit: int = DEFAULT_LIMIT, local_port: int = 0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As asyncio.open_connection, through `net`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await net.create_connection(lambda: protocol, host, port, local_port=local_port)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_server(
    net: Serves,
    client_connected: ClientConnected,
    host: str | None,
    port: int,
    *,
    limit: int = DEFAULT_LIMIT,
    backlog: int = 128,
) -> Server:
    """As asyncio.start_server, through `net`."""
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, client_connected, loop=loop)

    return await net.create_server(factory, host, port, backlog=backlog)
