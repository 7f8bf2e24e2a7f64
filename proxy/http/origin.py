"""The connection to an origin: it buffers, and has h11 as the origin sees us.  What that means is for forward.py."""

from __future__ import annotations

import asyncio
from typing import Protocol

import h11

from proxy.http.head import MAX_HEAD, Fields, HeadScanner
from usernet.aio.relay import reset

MAX_EVENT = MAX_HEAD + 4096  # for h11: the limits are ours
FRAMING = (b"content-length", b"transfer-encoding")


def without_framing(line: bytes, fields: Fields, more: bytes = b"") -> bytes:
    """A head for h11, as of a message that has no body."""
    kept = [b"%b: %b\r\n" % field for field in without_length(fields)]
    return b"%b\r\n%b%b\r\n" % (line, b"".join(kept), more)


def without_length(fields: Fields) -> Fields:
    """The fields without those of framing, which 1xx and 204 have no use for (RFC 9112 sections 6.1, 6.2)."""
    return [field for field in fields if field[0].lower() not in FRAMING]


def send(transport: asyncio.Transport, http: h11.Connection, event: h11.Event) -> None:
    """Write an event in h11's framing."""
    transport.write(b"".join(http.send_with_data_passthrough(event) or ()))  # one piece is not copied


class Owner(Protocol):
    def origin_data(self, data: bytes) -> None: ...
    def origin_ended(self, clean: bool) -> None: ...
    def origin_drained(self) -> None: ...


class Origin(asyncio.Protocol):
    """The connection to an origin.  `owner` is None once nobody is interested in what it still says."""

    __slots__ = ("buffer", "ended", "full", "http", "key", "owner", "scanner", "transport")

    def __init__(self, owner: Owner, transport: asyncio.Transport, key: tuple[str, int]) -> None:
        self.owner: Owner | None = owner
        self.transport = transport
        self.key = key
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_EVENT)
        self.buffer = bytearray()
        self.scanner = HeadScanner()
        self.ended = False
        self.full = False

    def data_received(self, data: bytes) -> None:
        if self.owner is not None:
            self.owner.origin_data(data)

    def eof_received(self) -> bool:
        self._end(clean=True)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(clean=False)

    def _end(self, *, clean: bool) -> None:
        if not self.ended:
            self.ended = True
            if self.owner is not None:
                self.owner.origin_ended(clean)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self.owner is not None:
            self.owner.origin_drained()

    def close(self, *, cleanly: bool) -> None:
        """Nobody waits for what the origin has not taken yet, so nothing stays behind that it could hold."""
        self.owner = None
        if cleanly and not self.transport.get_write_buffer_size():
            self.transport.close()
        else:
            reset(self.transport, at_once=True)
