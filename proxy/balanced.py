"""The first stage of a client that comes by a load balancer: the PROXY header, before anything else is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from proxy.client import Client
from proxy.proxyprotocol import parse
from proxy.session import Context, log
from usernet.errors import WireError


class HeaderReader(asyncio.Protocol):
    """Waits for the header; from then on the client's address is what it says, and `next_stage` has the connection."""

    __slots__ = ("_context", "_held", "_next_stage", "_transport", "client", "idle")

    def __init__(self, context: Context, client: Client, next_stage: Callable[[Client], asyncio.Protocol]) -> None:
        self._context = context
        self.client = client
        self._next_stage = next_stage
        self._held = b""
        self.idle = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        context = self._context
        context.sessions.add(self)
        if context.closing:
            self._transport.abort()
            return
        context.begin_handshake(self)
        limits = context.limits
        context.deadlines.start(self, limits.linger_timeout if context.draining else limits.head_timeout)

    def data_received(self, data: bytes) -> None:
        self._held += data
        try:
            header = parse(self._held)
        except WireError as error:
            self._refuse(error.reason)
            return
        if header is None:
            return
        if header.source is not None and not self._context.reassign(self.client, *header.source):
            self._refuse("client-limit")
            return
        if not self.client.is_allowed():
            if header.source is None:  # the balancer itself, which only looks whether we live
                self._refuse("source-not-allowed")
            else:
                self._context.not_allowed(self.client)
                self._transport.abort()
            return
        self._leave()
        stage = self._next_stage(self.client)
        self._transport.set_protocol(stage)
        stage.connection_made(self._transport)
        rest = self._held[header.size :]
        if rest and not self._transport.is_closing():
            # Whoever has it now: a stage may have handed it on at once.
            cast(asyncio.Protocol, self._transport.get_protocol()).data_received(rest)

    def _refuse(self, reason: str) -> None:
        self._context.counters.refuse(reason)
        log.debug("a load balancer's client was closed: %s", reason)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._context.left(self, self.client)

    def expired(self) -> None:
        self._refuse("proxy-header-timeout")

    def drain(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _leave(self) -> None:
        context = self._context
        context.deadlines.stop(self)
        context.handshakes.pop(self, None)
        context.sessions.discard(self)
