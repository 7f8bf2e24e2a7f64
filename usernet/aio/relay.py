"""Two transports joined, until both directions have ended: what any relay does, whatever it counts or reads with.

Each side's full write buffer pauses the other's reading, and that is the whole of backpressure.  Ends: EOF on one side
becomes a write-EOF on the other, and only both make an end.  A reset becomes a reset, after what was received before
it has been passed on.
"""

from __future__ import annotations

import asyncio
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

from usernet.aio.runtime import log

LINGER_ZERO: Final = struct.pack("ii", 1, 0)
EARLY_BYTES: Final = 64 << 10  # and what one read brings


class Side:
    """A protocol's half of it.  `ended`: this side's peer has said its last byte."""

    __slots__ = ("ended", "other", "transport")

    transport: asyncio.Transport
    other: Side | None

    def __init__(self) -> None:
        self.ended = False
        self.other = None

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
        """Cut off, so neither side may take it for an end."""
        other = self.other
        reset(self.transport, at_once=True)
        if other is not None:
            reset(other.transport, at_once=True)


class EarlySide(Side, asyncio.Protocol):
    """A side that may be there before its other one is, and say something; one of `peers` until it is lost.

    Once it has said EARLY_BYTES it is not read any more: who joins it resumes it.
    """

    __slots__ = ("_peers", "early", "is_lost", "is_made")

    def __init__(self, peers: set[EarlySide]) -> None:
        super().__init__()
        self._peers = peers
        self.early = b""
        self.is_made = self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.is_made = True

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
        else:
            self.early += data
            if len(self.early) > EARLY_BYTES:
                self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.other is None:
            self.ended = True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._peers.discard(self)
        super().connection_lost(exc)

    def give_up(self) -> None:
        """It is of no use after all, if it is there yet."""
        if self.is_made:
            reset(self.transport, at_once=True)


def end_writing(transport: asyncio.Transport) -> None:
    """write_eof, of a connection that may have been reset without our knowing yet: then connection_lost follows."""
    try:
        transport.write_eof()
    except OSError as error:
        log.debug("cannot end a direction: %s", error)


def reset(transport: asyncio.Transport, *, at_once: bool = False) -> None:
    """End with a reset, once what is buffered is written: the other side must not take a broken end for a clean one.

    `at_once`: what is buffered is of no use any more.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        transport.abort()  # a tunnel's transport aborts with a reset by itself
        return
    try:
        sock.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_ZERO)
    except OSError:
        log.debug("cannot set SO_LINGER", exc_info=True)
    if at_once:
        transport.abort()
    else:
        transport.close()
