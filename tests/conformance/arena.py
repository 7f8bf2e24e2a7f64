"""What a conformance test stands on: a place to serve and connect, and protocols that note what happens to them."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from tests.support.networks import RIGHT, Pair

PATIENCE = 20.0  # s; only a failing test waits as long

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Arena(ABC):
    """`host` is where servers are found.  Leaving it closes servers and aborts transports."""

    host: str

    def __init__(self) -> None:
        self.servers: list[asyncio.AbstractServer] = []
        self.transports: list[asyncio.Transport] = []

    async def __aenter__(self) -> Arena:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.forget()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def forget(self) -> None:
        """Close all there is, and let go of it."""
        for server in self.servers:
            server.close()
        for transport in self.transports:
            if not transport.is_closing():
                transport.abort()
        self.servers.clear()
        self.transports.clear()

    @abstractmethod
    async def create_server(self, factory: Callable[[], asyncio.BaseProtocol]) -> tuple[asyncio.AbstractServer, int]:
        """A server and its port."""

    @abstractmethod
    async def create_connection(self, factory: Callable[[], P], port: int) -> tuple[asyncio.Transport, P]: ...

    @abstractmethod
    def reset(self, transport: asyncio.Transport) -> None:
        """Have the peer see a reset."""

    async def pair(
        self, client: Callable[[], Any] | None = None, server: Callable[[], Any] | None = None
    ) -> tuple[Any, Any]:
        """A connected pair of protocols, client and server; Recorders unless told."""
        accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def factory() -> asyncio.BaseProtocol:
            protocol = (server or Recorder)()
            accepted.set_result(protocol)
            return protocol

        _, port = await self.create_server(factory)
        _, ours = await self.create_connection(client or Recorder, port)
        theirs = await asyncio.wait_for(accepted, PATIENCE)
        self.transports += [ours.transport, theirs.transport]
        return ours, theirs


class KernelArena(Arena):
    """asyncio's own TCP over loopback."""

    host = "127.0.0.1"

    async def create_server(self, factory: Callable[[], asyncio.BaseProtocol]) -> tuple[asyncio.AbstractServer, int]:
        server = await asyncio.get_running_loop().create_server(factory, self.host, 0)
        self.servers.append(server)
        return server, server.sockets[0].getsockname()[1]

    async def create_connection(self, factory: Callable[[], P], port: int) -> tuple[asyncio.Transport, P]:
        return await asyncio.get_running_loop().create_connection(factory, self.host, port)

    def reset(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class TunnelArena(Arena):
    """Ours, through a tunnel."""

    host = RIGHT

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.networks = pair

    async def create_server(self, factory: Callable[[], asyncio.BaseProtocol]) -> tuple[asyncio.AbstractServer, int]:
        server = await self.networks.right.create_server(factory, None, 0)
        self.servers.append(server)
        return server, server.port

    async def create_connection(self, factory: Callable[[], P], port: int) -> tuple[asyncio.Transport, P]:
        return await self.networks.left.create_connection(factory, self.host, port)

    def reset(self, transport: asyncio.Transport) -> None:
        transport.abort()


def deviates(arena: Arena, how: str, *, asyncio_before: tuple[int, int, int] = (0, 0, 0)) -> None:
    """uvloop's own transport does not do as asyncio's does here; nor did asyncio's, before that version of Python."""
    if isinstance(arena, KernelArena):
        uvloop = type(asyncio.get_running_loop()).__module__ == "uvloop"
        if uvloop or sys.version_info < asyncio_before:
            pytest.xfail(f"{'uvloop' if uvloop else 'asyncio'}'s own transport {how}")


class Notes:
    """What both kinds of protocol note, and how a test waits for it."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = bytearray()
        self.lost: list[BaseException | None] = []
        self.keep_open: bool | None = False
        self._waiters: list[asyncio.Future[None]] = []

    def note(self, call: str) -> None:
        self.calls.append(call)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once condition() holds; it is looked at after each callback."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    async def until_received(self, count: int) -> bytes:
        await self.until(lambda: len(self.received) >= count)
        return bytes(self.received)

    async def until_lost(self) -> BaseException | None:
        await self.until(lambda: self.lost)
        return self.lost[0]

    async def until_called(self, call: str) -> None:
        await self.until(lambda: call in self.calls)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def eof_received(self) -> bool | None:
        self.note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)
        self.note("lost")


class Recorder(Notes, asyncio.Protocol):
    """A streaming protocol."""

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.note("data")


class HalfOpen(Recorder):
    """Stays open after the peer's end of file."""

    def __init__(self) -> None:
        super().__init__()
        self.keep_open = True


class Buffered(Notes, asyncio.BufferedProtocol):
    """A protocol with one small buffer of its own."""

    size = 1000

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(self.size)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]
        self.note("data")


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)
