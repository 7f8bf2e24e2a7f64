"""The connection to an origin: it buffers.  What that means is for forward.py."""

from __future__ import annotations

import asyncio
from typing import Protocol

from proxy.http.head import HeadScanner
from usernet.aio.relay import reset


class Owner(Protocol):
    def origin_data(self, data: bytes) -> None: ...
    def origin_ended(self, clean: bool) -> None: ...
    def origin_drained(self) -> None: ...


Key = tuple[str, int, str | None]  # host, port, and the user whose rules led there


class Origin(asyncio.Protocol):
    """The connection to an origin.  `owner` is None while nobody is interested in what it says: then its next word is
    its last.  `route` is the name of the one it was dialled by."""

    __slots__ = ("buffer", "ended", "full", "key", "owner", "route", "scanner", "transport")

    def __init__(self, owner: Owner, transport: asyncio.Transport, key: Key, route: str) -> None:
        self.owner: Owner | None = owner
        self.transport = transport
        self.key = key
        self.route = route
        self.buffer = bytearray()
        self.scanner = HeadScanner()
        self.ended = False
        self.full = False

    def data_received(self, data: bytes) -> None:
        if self.owner is not None:
            self.owner.origin_data(data)
        else:
            self.transport.abort()

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
            else:
                self.transport.close()

    def expired(self) -> None:
        """It was kept long enough (pool.py)."""
        self.close(cleanly=True)

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
