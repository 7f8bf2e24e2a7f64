"""The relay: a client's connection joined to one through the tunnel, until both directions have ended.

`join` takes both transports over from whatever dialogue came before, and nothing of that dialogue stays.  Then, with
no stage between: client readable -> one shared buffer -> the tunnel's transport; tunnel data -> the client's
transport.  Backpressure and ends are those of any relay (usernet/aio/relay.py).
"""

from __future__ import annotations

import asyncio
from typing import cast

from proxy.client import Client
from proxy.session import SWEEPS, Context
from usernet.aio.relay import Side, end_writing


class _Side(Side):
    """What both sides do alike."""

    __slots__ = ("client", "context", "idle")

    def __init__(self, context: Context, client: Client, transport: asyncio.Transport, ended: bool) -> None:
        super().__init__()
        self.context = context
        self.client = client
        self.transport = transport
        self.ended = ended
        self.idle = 0

    def drain(self) -> None:
        """It ends when its two ends do."""


class ClientSide(_Side, asyncio.BufferedProtocol):
    """Reads from the client.  It is also the session that is counted: `idle` here stands for both directions."""

    __slots__ = ("_ending", "_scratch")

    def __init__(self, context: Context, client: Client, transport: asyncio.Transport, ended: bool) -> None:
        super().__init__(context, client, transport, ended)
        self._scratch = context.scratch
        self._ending = False  # its EOF has come, and may not have been passed on yet

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        other = self.other
        if other is not None:
            other.transport.write(bytes(self._scratch[:nbytes]))
            self.idle = 0
            self.context.counters.bytes_up += nbytes
            self.client.up += nbytes

    def eof_received(self) -> bool:
        if not self._ending:
            self._ending = True
            self.context.pace.run(self._end)
        return True

    def _end(self) -> None:
        if self.transport.is_closing():
            return  # connection_lost has seen to it, or will
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ending:
            super().eof_received()  # first things first: what came before a reset was an end
        self.client.end(self._outcome())
        self.context.left(self, self.client)
        if self.other is not None:
            self.context.sessions.add(cast(_Side, self.other))  # it may have bytes left that the far end never takes
        super().connection_lost(exc)

    def _outcome(self) -> str:
        if self.ended:
            return "ok"
        if self.idle > SWEEPS:
            return "idle"
        return "connection_terminated" if self.other is None else "client-gone"


class TunnelSide(_Side, asyncio.Protocol):
    """Reads from the tunnel."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is not None:
            other.transport.write(data)
            cast(_Side, other).idle = 0
            self.context.counters.bytes_down += len(data)
            self.client.down += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.context.sessions.discard(self)
        super().connection_lost(exc)


def join(
    context: Context,
    who: Client,
    client: asyncio.Transport,
    tunnel: asyncio.Transport,
    *,
    upward: bytes = b"",
    client_ended: bool = False,
    client_full: bool = False,
    tunnel_full: bool = False,
) -> None:
    """Relay from here on.

    `upward` was read already and goes first; `client_ended`: so was the client's EOF.  `*_full`: that transport has
    called `pause_writing` of the protocol before, and will not again before it calls `resume_writing`.
    """
    client_side = ClientSide(context, who, client, client_ended)
    tunnel_side = TunnelSide(context, who, tunnel, False)
    client_side.other = tunnel_side
    tunnel_side.other = client_side
    context.sessions.add(client_side)
    client.set_protocol(client_side)
    tunnel.set_protocol(tunnel_side)
    if client_full:
        tunnel.pause_reading()
    else:
        tunnel.resume_reading()
    if tunnel_full:
        client.pause_reading()
    elif not client_ended:
        client.resume_reading()
    if upward:
        context.counters.bytes_up += len(upward)
        who.up += len(upward)
        tunnel.write(upward)
    if client_ended:
        end_writing(tunnel)
