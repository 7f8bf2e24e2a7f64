"""WebSockets (RFC 6455) through plain forwarding and through CONNECT: real clients, a real server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.proxy.support import Bench, bench

BIG = os.urandom(3 << 20)


async def speak(connection: ServerConnection) -> None:
    """The first word is the server's: it comes right behind the 101."""
    await connection.send("hello")
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def chat() -> AsyncIterator[tuple[int, Bench]]:
    server: Server
    async with serve(speak, "127.0.0.1", 0, max_size=None) as server, bench() as made:
        yield next(iter(server.sockets)).getsockname()[1], made


async def test_of_aiohttp() -> None:
    async with chat() as (port, made), aiohttp.ClientSession() as session:
        proxy = f"http://127.0.0.1:{made.port}"
        async with session.ws_connect(f"ws://origin.test:{port}/", proxy=proxy, max_msg_size=0) as socket:
            assert await socket.receive_str() == "hello"
            for message in (b"", b"a", BIG):
                await socket.send_bytes(message)
                assert await socket.receive_bytes() == message
        assert socket.close_code == CloseCode.NORMAL_CLOSURE
        assert made.proxy.statistics().http_forward == 1


async def test_of_websockets_by_connect() -> None:
    async with chat() as (port, made):
        uri, proxy = f"ws://origin.test:{port}/", f"http://127.0.0.1:{made.port}"
        async with connect(uri, proxy=proxy, max_size=None) as connection:
            assert await connection.recv() == "hello"
            await connection.send(BIG)
            assert await connection.recv() == BIG
            await (await connection.ping())
        assert made.proxy.statistics().http_connect == 1


async def test_of_websockets_forwarded() -> None:
    """Its core, with the target as a proxy wants it."""
    async with chat() as (port, made):
        core = ClientProtocol(parse_uri(f"ws://origin.test:{port}/"), max_size=None)
        request = core.connect()
        request.path = f"http://origin.test:{port}/"
        core.send_request(request)
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        messages: list[bytes] = []
        answer: Response | None = None
        while core.state is not State.CLOSED:
            for data in core.data_to_send():
                writer.write(data)
            heard = await asyncio.wait_for(reader.read(65536), 10)
            if heard:
                core.receive_data(heard)
            else:
                core.receive_eof()
            for event in core.events_received():
                if isinstance(event, Response):
                    answer = event
                    core.send_binary(b"from the client")
                elif isinstance(event, Frame) and event.opcode in (1, 2):
                    messages.append(bytes(event.data))
                    if len(messages) == 2:
                        core.send_close(CloseCode.NORMAL_CLOSURE)
        assert core.close_code == CloseCode.NORMAL_CLOSURE
        assert answer is not None
        assert answer.status_code == 101
        assert messages == [b"hello", b"from the client"]
        writer.close()
        await writer.wait_closed()
