"""The HTTP handler between two transports in memory: what it is told, cut anywhere, and what both ends hear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, cast

from proxy.auth import Users
from proxy.client import Client, Terms
from proxy.dialer import Dialer
from proxy.http.handler import open_http
from proxy.session import Context, Limits


class Wire(asyncio.Transport):
    """A transport whose far end is the test: `said` is what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol = asyncio.Protocol()
        self.said = b""
        self.closed = self.cut = self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.said += bytes(data)

    def hear(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)

    def end(self) -> None:
        if not self.closed:
            self.protocol.eof_received()

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.cut = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Dialogue:
    """One client's connection, and `record`, what is known of the client.

    `origins` are the connections dialled, in order; `dialled` where to.
    """

    def __init__(self, context: Context, users: Users | None) -> None:
        self.client = Wire()
        self.origins: list[Wire] = []
        self.dialled: list[tuple[str, int]] = []
        self._context = context
        self.record = Client(Terms(users), "127.0.0.1", 9, None)
        self._open = False

    def start(self, *dial: object) -> None:
        """There is no dialling by calls here."""

    async def dial(self, client: Client, host: str, port: int) -> Wire:
        assert client is self.record
        self.dialled.append((host, port))
        self.origins.append(Wire())
        return self.origins[-1]

    async def say(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            if self._open:
                self.client.hear(piece)
            else:
                self._open = True
                self.client.protocol = asyncio.Protocol()
                open_http(self._context, self.record, self.client, piece)
            if self._context.handshakes or self.dialled:
                await settle()
        await settle()

    @property
    def origin(self) -> Wire:
        return self.origins[-1]


async def settle() -> None:
    """The turns that a dial takes."""
    for _ in range(3):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def dialogue(
    users: Users | None = None,
    *,
    via: bytes | None = None,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
) -> AsyncIterator[Dialogue]:
    loop = asyncio.get_running_loop()
    context = Context(loop, cast(Dialer, None), limits)
    context.via = via
    made = Dialogue(context, users)
    context.dialer = cast(Dialer, made)
    try:
        yield made
    finally:
        context.deadlines.close()


def cuts(data: bytes, *, most: int = 400) -> Iterable[Sequence[bytes]]:
    """Whole, byte by byte, and in two at every place (at `most` of them, first and last always, where it is long)."""
    step = max(1, len(data) // most)
    yield [data]
    yield [data[at : at + step] for at in range(0, len(data), step)]
    for at in [*range(1, len(data), step), len(data) - 1]:
        yield [data[:at], data[at:]]
