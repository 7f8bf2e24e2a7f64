"""The relay between real sockets: nothing lost at an end, half-close both ways, resets, backpressure, idleness."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest

from proxy.session import Limits
from tests.proxy.support import Bench, Client, Handle, bench, digest, echo, serving, until
from tests.proxy.test_socks_handler import HELLO
from tests.proxy.test_socks_handler import request as socks_request
from usernet.aio.relay import end_writing

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


class Relayed(Protocol):
    def __call__(
        self, handle: Handle, *, limits: Limits = ..., receive_buffer: int | None = None
    ) -> AbstractAsyncContextManager[tuple[Bench, Client]]: ...


@pytest.fixture(params=["socks5", "connect", "upgrade"])
def relayed(request: pytest.FixtureRequest) -> Relayed:
    """A client that is through to a server, by each of the dialogues that become a relay."""

    async def by_socks(client: Client, port: int) -> None:
        await client.send(HELLO + socks_request("127.0.0.1", port))
        await client.exactly(12)

    async def by_connect(client: Client, port: int) -> None:
        await client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")

    async def by_upgrade(client: Client, port: int) -> None:
        fields = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        await client.send(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\n" % port + fields)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")

    ways = {"socks5": by_socks, "connect": by_connect, "upgrade": by_upgrade}

    @asynccontextmanager
    async def relayed(
        handle: Handle,
        *,
        limits: Limits = Limits(),  # noqa: B008
        receive_buffer: int | None = None,
    ) -> AsyncIterator[tuple[Bench, Client]]:
        async def switching(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(SWITCHED)
            await handle(reader, writer)

        async with serving(switching if request.param == "upgrade" else handle) as port, bench(limits=limits) as made:
            client = await made.client(receive_buffer=receive_buffer)
            await ways[request.param](client, port)
            yield made, client

    return relayed


async def test_client_ends_first(relayed: Relayed) -> None:
    """The upload's end is told, and the answer that needs it comes back."""
    data = os.urandom(8 << 20)
    async with relayed(digest) as (made, client):
        before = made.proxy.statistics()
        await client.send(data)
        client.end()
        assert await client.rest() == hashlib.sha256(data).hexdigest().encode()
        await until(lambda: made.proxy.statistics().connections == 0)
        assert made.proxy.statistics().bytes_up - before.bytes_up == len(data)
        assert made.proxy.statistics().bytes_down - before.bytes_down == 64


async def test_server_ends_first(relayed: Relayed) -> None:
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


async def test_client_that_closes_after_its_upload(relayed: Relayed) -> None:
    """It does not wait for an answer; what it sent arrives all the same."""
    heard = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read())

    data = os.urandom(8 << 20)
    async with relayed(server) as (_, client):
        await client.send(data)
        await client.close()
        assert await heard == data


async def test_server_that_closes_after_its_download(relayed: Relayed) -> None:
    data = os.urandom(8 << 20)

    async def server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    async with relayed(server, receive_buffer=8192) as (_, client):
        assert await client.rest() == data


async def test_both_ways_at_once(relayed: Relayed) -> None:
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


async def test_a_reset_by_the_server_is_a_reset(relayed: Relayed) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        await reader.readexactly(1)
        make_reset(writer)

    async with relayed(server) as (_, client):
        await client.expect(b"half")
        await client.send(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_a_reset_by_the_client_is_a_reset(relayed: Relayed) -> None:
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


async def test_slow_client_is_backpressure(relayed: Relayed) -> None:
    size = 16 << 20

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(size >> 16):
            writer.write(bytes(65536))
            await writer.drain()

    async with relayed(server, receive_buffer=8192) as (made, client):
        await until(lambda: not made.net.transports[0].is_reading())
        assert made.proxy.statistics().bytes_down < size
        assert buffered(made) < 512 << 10
        assert len(await client.rest()) == size


async def test_slow_server_is_backpressure(relayed: Relayed) -> None:
    size = 16 << 20
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


async def test_an_end_behind_backpressure(relayed: Relayed) -> None:
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


async def test_idle_relay_ends(relayed: Relayed) -> None:
    async with relayed(echo, limits=Limits(idle_timeout=0.2)) as (made, client):
        await client.send(b"x")
        await client.expect(b"x")
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert made.proxy.statistics().refused == {"idle": 1}


async def test_busy_relay_does_not_count_as_idle(relayed: Relayed) -> None:
    """Traffic one way only is traffic."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(24):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with relayed(server, limits=Limits(idle_timeout=0.3)) as (_, client):
        assert await client.rest() == b"x" * 24


async def test_a_busy_upload_does_not_count_as_idle(relayed: Relayed) -> None:
    """Nor the other way."""
    async with relayed(digest, limits=Limits(idle_timeout=0.3)) as (_, client):
        for _ in range(24):
            await client.send(b"x")
            await asyncio.sleep(0.02)
        client.end()
        assert await client.rest() == hashlib.sha256(b"x" * 24).hexdigest().encode()


async def test_one_direction_may_be_over_for_long(relayed: Relayed) -> None:
    """Many sweeps after the client's end its answer is still on its way, and after the server's its upload."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        for _ in range(24):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with relayed(server, limits=Limits(idle_timeout=0.3)) as (_, client):
        client.end()
        assert await client.rest() == b"x" * 24

    heard = asyncio.get_running_loop().create_future()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        heard.set_result(await reader.read())

    async with relayed(silent, limits=Limits(idle_timeout=0.3)) as (_, client):
        assert await client.rest() == b""
        for _ in range(24):
            await client.send(b"x")
            await asyncio.sleep(0.02)
        client.end()
        assert await heard == b"x" * 24


async def test_a_reset_behind_backpressure(relayed: Relayed) -> None:
    """A client that takes nothing, and then resets: the server, which waits to be read, learns of it as a reset."""
    ended = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except ConnectionResetError:
            ended.set_result(None)

    async with relayed(server, receive_buffer=8192) as (made, client):
        await until(lambda: not made.net.transports[0].is_reading())
        make_reset(client.writer)
        await ended
        await until(lambda: not made.proxy._context.sessions)


@pytest.mark.parametrize("more", [b"", bytes(1 << 20)])
async def test_a_server_that_speaks_first(more: bytes) -> None:
    """And ends, all before whoever has dialled takes the connection: uvloop has read it by then."""

    async def server(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello" + more)

    async def wait() -> None:
        for _ in range(50):
            await asyncio.sleep(0.001)

    async with serving(server) as port, bench() as made:
        made.net.pause = wait
        for head, words in (
            (12, HELLO + socks_request("127.0.0.1", port)),
            (39, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % port),
        ):
            client = await made.client()
            await client.send(words)
            client.end()
            await client.exactly(head)
            assert await client.rest() == b"hello" + more


async def test_an_end_that_cannot_be_passed_on() -> None:
    """The client is reset in the very moment in which the server ends: write_eof raises, and nothing else does."""

    class Gone(asyncio.Transport):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

    end_writing(Gone())


async def test_nobody_waits_for_ever_for_a_server_that_never_reads(relayed: Relayed) -> None:
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
