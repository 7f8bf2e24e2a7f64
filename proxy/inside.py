"""A listener inside the tunnel: the proxy, served to other peers.  Its clients are counted and asked as any others.

What they reach is what rules say, as for everybody: the tunnel, and this host's own network only by a rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from proxy.client import Client, Terms
from proxy.session import Context


class ListeningNet(Protocol):
    """What is needed of a network; `usernet.Network` is one."""

    @property
    def addresses(self) -> tuple[str, ...]: ...

    async def create_server(self, protocol_factory: Callable[[], Any], host: str | None, port: int) -> Any: ...


class Door:
    """What whoever comes is met by."""

    __slots__ = ("first_stage", "terms")

    def __init__(self, first_stage: Callable[[Client], asyncio.Protocol], terms: Terms) -> None:
        self.first_stage = first_stage
        self.terms = terms


class Inside(asyncio.Protocol):
    """The protocol of a fresh connection, until it is known whose it is."""

    __slots__ = ("_context", "_door")

    def __init__(self, context: Context, door: Door) -> None:
        self._context = context
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        context = self._context
        address, port = transport.get_extra_info("peername")[:2]
        client = Client(self._door.terms, address, port, context.write)
        if context.open >= context.limits.connections:
            context.counters.refuse("connection-limit")
        elif not client.is_allowed():
            context.not_allowed(client)
        elif context.admit(client):
            context.counters.accepted += 1
            stage = self._door.first_stage(client)
            transport.set_protocol(stage)
            stage.connection_made(transport)
            return
        cast(asyncio.Transport, transport).abort()


class InsideListener:
    """What `Proxy` keeps of one, in the shape of its other listeners."""

    __slots__ = ("_door", "_server", "address", "port", "protocols")

    def __init__(self, server: Any, door: Door, address: str, port: int, protocols: frozenset[str]) -> None:
        self._server = server
        self._door = door
        self.address = address
        self.port = port
        self.protocols = protocols

    def serve(self, first_stage: Callable[[Client], asyncio.Protocol], terms: Terms, protocols: frozenset[str]) -> None:
        self._door.first_stage, self._door.terms = first_stage, terms
        self.protocols = protocols

    def start(self) -> None:
        """It never pauses."""

    def close(self) -> None:
        self._server.close()
