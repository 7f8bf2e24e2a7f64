"""Forwards into the tunnel, TCP: a client of a [TCPClientTunnel] is dialled for at once, and then relayed.

What the file names as a target is dialled as it is: rules and the policy are for what clients ask for.
"""

from __future__ import annotations

import asyncio
from typing import cast

from proxy.client import Client
from proxy.connect import Handler
from proxy.dialer import Dialled
from proxy.proxyprotocol import Version, encode
from proxy.replies import Reply
from proxy.routes import TUNNEL, Net
from proxy.session import Context
from usernet.aio.relay import reset


class Forward(asyncio.Protocol):
    """What a fresh connection has for as long as it takes to begin the dial."""

    __slots__ = ("_client", "_context", "_header", "_net", "_target")

    def __init__(
        self, context: Context, client: Client, net: Net, target: tuple[str, int], header: Version | None
    ) -> None:
        self._context = context
        self._client = client
        self._net = net
        self._target = target
        self._header = header

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Forwarded(self._context, self._client, cast(asyncio.Transport, transport), self._net, self._header).begin(
            *self._target
        )


class Forwarded(Handler):
    """A client whose dial is under way."""

    __slots__ = ("_header", "_net")

    def __init__(
        self, context: Context, client: Client, transport: asyncio.Transport, net: Net, header: Version | None
    ) -> None:
        super().__init__(context, client, transport)
        self._net = net
        self._header = header

    def begin(self, host: str, port: int) -> None:
        self.client.ask("FORWARD", host, port)
        if self.context.closing:
            self.transport.abort()
            return
        self._task = self.context.loop.create_task(self._dial(host, port))  # not `dial`, which asks the rules

    async def connect(self, host: str, port: int) -> asyncio.Transport:
        """The name is resolved through the tunnel, for each connection anew."""
        self.client.route = TUNNEL
        _, protocol = await self._net.create_connection(Dialled, host, port)
        return cast(asyncio.Transport, protocol.transport)

    def data_received(self, data: bytes) -> None:
        self.hold(data)

    def accepted(self, tunnel: asyncio.Transport) -> None:
        if self._header is not None and not self.transport.is_closing():
            asked = self.transport.get_extra_info("sockname")
            self.held[:0] = encode(self._header, (self.client.address, self.client.port), asked[:2])
        self.start_relay(tunnel, b"")

    def rejected(self, reply: Reply) -> None:
        self.finish_handshake()
        reset(self.transport, at_once=True)
