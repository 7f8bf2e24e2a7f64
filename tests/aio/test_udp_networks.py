"""Two whole networks in one process, over real UDP on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from tests.support.networks import RIGHT, RIGHT6, Pair, udp_pair

MEGABYTES_16 = 16 << 20


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def answer_with_digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end, then say what it was and send as much back."""
    digest, size = hashlib.sha256(), 0
    while data := await reader.read(1 << 18):
        digest.update(data)
        size += len(data)
    writer.write(digest.digest())
    block = os.urandom(1 << 16)
    digest = hashlib.sha256()
    for _ in range(size >> 16):
        digest.update(block)
        writer.write(block)
        await writer.drain()
    writer.write(digest.digest())
    writer.close()


@pytest.mark.parametrize("host", [RIGHT, RIGHT6])
async def test_echo(host: str) -> None:
    async with udp_pair() as pair:
        server = await pair.right.start_server(echo, None, 0)
        reader, writer = await pair.left.open_connection(host, server.port)
        writer.write(b"through the tunnel")
        assert await reader.readexactly(18) == b"through the tunnel"
        writer.close()
        await writer.wait_closed()


async def transfer(pair: Pair, host: str, size: int) -> None:
    server = await pair.right.start_server(answer_with_digest, None, 0)
    reader, writer = await pair.left.open_connection(host, server.port, limit=1 << 20)
    block, digest = os.urandom(1 << 16), hashlib.sha256()
    for _ in range(size >> 16):
        digest.update(block)
        writer.write(block)
        await writer.drain()
    writer.write_eof()
    assert await reader.readexactly(32) == digest.digest()
    digest = hashlib.sha256()
    got = 0
    while got < size:
        data = await reader.read(min(1 << 18, size - got))
        assert data
        digest.update(data)
        got += len(data)
    assert await reader.readexactly(32) == digest.digest()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("host", [RIGHT, RIGHT6])
async def test_16_mib_each_way(host: str) -> None:
    async with udp_pair() as pair:
        await transfer(pair, host, MEGABYTES_16)
