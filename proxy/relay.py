"""The relay: a client's connection joined to one through the tunnel, until both directions have ended.

`join` takes both transports over from whatever dialogue came before, and nothing of that dialogue stays.  Then, with
no stage between: client readable -> one shared buffer -> the tunnel's transport; tunnel data -> the client's
transport.  Each side's full write buffer pauses the other's reading, and that is the whole of backpressure.

Ends: EOF on one side becomes a write-EOF on the other, and only both make an end.  A reset becomes a reset, after
what was received before it has been passed on.
"""

from __future__ import annotations

import asyncio

from proxy.session import Context, end_writing, reset


class _Side:
    """What both sides do alike.  `ended`: this side's peer has said its last byte."""

    __slots__ = ("context", "ended", "idle", "other", "transport")

    other: _Side | None

    def __init__(self, context: Context, transport: asyncio.Transport, ended: bool) -> None:
        self.context = context
        self.transport = transport
        self.ended = ended
        self.other = None
        self.idle = 0

    def pause_writing(self) -> None:
        if self.other is not None and not self.other.ended:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        # After its EOF a side is not read again: a resumed transport would only report the EOF a second time.
        if self.other is not None and not self.other.ended:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        other = self.other
        if not self.ended and other is not None:
            self.ended = True
            if other.ended:
                self.transport.close()  # each writes out what it still has
                other.transport.close()
            else:
                end_writing(other.transport)
        return True  # keep our writing half

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is None:
            return
        other.other = None
        if self.ended:
            other.transport.close()  # all of it had come: it is still to be delivered, whatever became of its sender
        else:
            reset(other.transport)

    def abort(self) -> None:
        other = self.other
        self.transport.abort()
        if other is not None:
            other.transport.abort()


class ClientSide(_Side, asyncio.BufferedProtocol):
    """Reads from the client.  It is also the session that is counted: `idle` here stands for both directions."""

    __slots__ = ("_scratch",)

    def __init__(self, context: Context, transport: asyncio.Transport, ended: bool) -> None:
        super().__init__(context, transport, ended)
        self._scratch = context.scratch

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        other = self.other
        if other is not None:
            other.transport.write(bytes(self._scratch[:nbytes]))
            self.idle = 0
            self.context.counters.bytes_up += nbytes

    def connection_lost(self, exc: Exception | None) -> None:
        self.context.left(self, self.transport)
        if self.other is not None:
            self.context.sessions.add(self.other)  # it may have bytes left that the far end never takes
        super().connection_lost(exc)


class TunnelSide(_Side, asyncio.Protocol):
    """Reads from the tunnel."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is not None:
            other.transport.write(data)
            other.idle = 0
            self.context.counters.bytes_down += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.context.sessions.discard(self)
        super().connection_lost(exc)


def join(
    context: Context,
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
    client_side = ClientSide(context, client, client_ended)
    tunnel_side = TunnelSide(context, tunnel, False)
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
        tunnel.write(upward)
    if client_ended:
        end_writing(tunnel)
