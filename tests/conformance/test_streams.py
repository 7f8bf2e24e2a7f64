"""asyncio's streams over either transport."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.conformance.arena import Arena, TunnelArena


class Storey:
    """open_connection and start_server of an arena."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    async def serve(self, client_connected: object) -> int:
        if isinstance(self._arena, TunnelArena):
            server = await self._arena.networks.right.start_server(client_connected, None, 0)  # type: ignore[arg-type]
            self._arena.servers.append(server)
            return server.port
        kernel = await asyncio.start_server(client_connected, self._arena.host, 0)  # type: ignore[arg-type]
        self._arena.servers.append(kernel)
        port: int = kernel.sockets[0].getsockname()[1]
        return port

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._arena, TunnelArena):
            return await self._arena.networks.left.open_connection(self._arena.host, port)
        return await asyncio.open_connection(self._arena.host, port)


@pytest.fixture
def storey(arena: Arena) -> Storey:
    return Storey(arena)


async def test_lines_and_exact_counts(storey: Storey) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int(await reader.readline())
        writer.write(b"x" * size + b"\n")
        await writer.drain()
        writer.close()

    reader, writer = await storey.connect(await storey.serve(serve))
    writer.write(b"70000\n")
    assert await reader.readexactly(70000) == b"x" * 70000
    assert await reader.readline() == b"\n"
    assert await reader.read() == b""
    assert reader.at_eof()
    writer.close()
    await writer.wait_closed()


async def test_drain_waits_for_a_slow_reader(storey: Storey) -> None:
    data = os.urandom(1 << 16) * 64
    got = asyncio.get_running_loop().create_future()
    may_read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        got.set_result(await reader.read())
        writer.close()

    _, writer = await storey.connect(await storey.serve(serve))
    for at in range(0, len(data), 1 << 16):
        writer.write(data[at : at + (1 << 16)])
        if at == 1 << 20:
            may_read.set()
        await writer.drain() if may_read.is_set() else None
    writer.write_eof()
    assert await got == data
    writer.close()
    await writer.wait_closed()


async def test_an_end_too_soon(storey: Storey) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"short")
        writer.close()

    reader, writer = await storey.connect(await storey.serve(serve))
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await reader.readexactly(6)
    assert caught.value.partial == b"short"
    writer.close()
    await writer.wait_closed()


async def test_names(storey: Storey, arena: Arena) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(repr(writer.get_extra_info("peername")).encode())
        writer.close()

    reader, writer = await storey.connect(await storey.serve(serve))
    assert (await reader.read()).decode() == repr(writer.get_extra_info("sockname"))
    writer.close()
    await writer.wait_closed()
