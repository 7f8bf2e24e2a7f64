"""The relay between real sockets: nothing lost at an end, half-close both ways, resets, backpressure, idleness."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.session import Limits
from tests.proxy.support import Bench, Client, Handle, bench, digest, echo, serving, until
from tests.proxy.test_socks_handler import HELLO, request
from usernet.aio.relay import end_writing


@asynccontextmanager
async def relayed(
    handle: Handle,
    *,
    limits: Limits = Limits(),  # noqa: B008
    receive_buffer: int | None = None,
) -> AsyncIterator[tuple[Bench, Client]]:
    """A client that is through to a server."""
    async with serving(handle) as port, bench(limits=limits) as made:
        client = await made.client(receive_buffer=receive_buffer)
        await client.send(HELLO + request("127.0.0.1", port))
        await client.exactly(12)
        yield made, client


async def test_client_ends_first() -> None:
    """The upload's end is told, and the answer that needs it comes back."""
    data = os.urandom(8 << 20)
    async with relayed(digest) as (made, client):
        await client.send(data)
        client.end()
        assert await client.rest() == hashlib.sha256(data).hexdigest().encode()
        await until(lambda: made.proxy.statistics().connections == 0)
        assert made.proxy.statistics().bytes_up == len(data)
        assert made.proxy.statistics().bytes_down == 64


async def test_server_ends_first() -> None:
    """Its end is told, and what the client sends after that still arrives."""
    heard = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        heard.set_result(await reader.read())

    data = os.urandom(8 << 20)
    async with relayed(server) as (made, client):
        assert await client.rest() == b"bye"
        await client.send(data)
        client.end()
        assert await heard == data
        await until(lambda: made.proxy.statistics().connections == 0)


async def test_client_that_closes_after_its_upload() -> None:
    """It does not wait for an answer; what it sent arrives all the same."""
    heard = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read())

    data = os.urandom(8 << 20)
    async with relayed(server) as (_, client):
        await client.send(data)
        await client.close()
        assert await heard == data


async def test_server_that_closes_after_its_download() -> None:
    data = os.urandom(8 << 20)

    async def server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    async with relayed(server, receive_buffer=8192) as (_, client):
        assert await client.rest() == data


async def test_both_ways_at_once() -> None:
    data = os.urandom(8 << 20)
    async with relayed(echo) as (_, client):

        async def upload() -> None:
            await client.send(data)
            client.end()

        heard, _ = await asyncio.gather(client.rest(), upload())
        assert heard == data


def make_reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_reset_by_the_server_is_a_reset() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        await reader.readexactly(1)
        make_reset(writer)

    async with relayed(server) as (_, client):
        await client.expect(b"half")
        await client.send(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_reset_by_the_client_is_a_reset() -> None:
    ended = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            ended.set_result(None)

    async with relayed(server) as (_, client):
        make_reset(client.writer)
        await ended


def buffered(made: Bench) -> int:
    held = sum(t.get_write_buffer_size() for t in made.net.transports)
    return held + sum(s.transport.get_write_buffer_size() for s in made.proxy._context.sessions)  # type: ignore[attr-defined]


def client_side(made: Bench) -> asyncio.Transport:
    [session] = made.proxy._context.sessions
    transport: asyncio.Transport = session.transport  # type: ignore[attr-defined]
    return transport


async def test_slow_client_is_backpressure() -> None:
    size = 32 << 20

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(size >> 16):
            writer.write(bytes(65536))
            await writer.drain()

    async with relayed(server, receive_buffer=8192) as (made, client):
        await until(lambda: not made.net.transports[0].is_reading())
        assert made.proxy.statistics().bytes_down < size
        assert buffered(made) < 512 << 10
        assert len(await client.rest()) == size


async def test_slow_server_is_backpressure() -> None:
    size = 32 << 20
    go = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await digest(reader, writer)

    async with relayed(server) as (made, client):
        sending = asyncio.ensure_future(client.send(bytes(size)))
        await until(lambda: not client_side(made).is_reading())
        assert not sending.done()
        assert buffered(made) < 512 << 10
        go.set()
        await sending
        client.end()
        assert await client.rest() == hashlib.sha256(bytes(size)).hexdigest().encode()


async def test_an_end_behind_backpressure() -> None:
    """EOF while the other side is paused, and a resume after it."""
    data = os.urandom(4 << 20)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == b"late"

    async with relayed(server, receive_buffer=8192) as (made, client):
        await until(lambda: not made.net.transports[0].is_reading())
        assert len(await client.exactly(len(data))) == len(data)
        await client.send(b"late")
        client.end()
        assert await client.rest() == b""


async def test_idle_relay_ends() -> None:
    async with relayed(echo, limits=Limits(idle_timeout=0.2)) as (made, client):
        await client.send(b"x")
        await client.expect(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert made.proxy.statistics().refused == {"idle": 1}


async def test_busy_relay_does_not_count_as_idle() -> None:
    """Traffic one way only is traffic."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(40):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with relayed(server, limits=Limits(idle_timeout=0.3)) as (_, client):
        assert await client.rest() == b"x" * 40


async def test_an_end_that_cannot_be_passed_on() -> None:
    """The client is reset in the very moment in which the server ends: write_eof raises, and nothing else does."""

    class Gone(asyncio.Transport):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

    end_writing(Gone())


async def test_nobody_waits_for_ever_for_a_server_that_never_reads() -> None:
    """The client has gone; what the server does not take is kept for the idle time, and no longer than the proxy."""
    go = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()

    async with relayed(server, limits=Limits(idle_timeout=0.4)) as (made, client):
        while not made.net.transports[0].get_write_buffer_size():
            await client.send(bytes(16384))
        assert client_side(made).is_reading()
        make_reset(client.writer)
        await until(lambda: made.proxy.statistics().connections == 0)
        assert len(made.proxy._context.sessions) == 1
        await until(lambda: not made.proxy._context.sessions)
        go.set()
