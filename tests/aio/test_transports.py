"""What is ours alone in a stream transport; what it shares with asyncio's is in tests/conformance."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.networks import RIGHT, RIGHT6, Pair, memory_pair
from usernet.aio import network
from usernet.aio.memory import Impairment
from usernet.aio.transports import StreamTransport
from usernet.tcp.settings import TcpSettings


class Recorder(asyncio.Protocol):
    transport: StreamTransport

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = bytearray()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.got: asyncio.Event = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")
        self.received += data
        self.got.set()

    def eof_received(self) -> None:
        self.calls.append("eof")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.calls.append("lost")
        self.lost.set_result(exc)


async def connected(pair: Pair, host: str = RIGHT) -> tuple[Recorder, Recorder]:
    accepted: asyncio.Future[Recorder] = asyncio.get_running_loop().create_future()

    def factory() -> Recorder:
        protocol = Recorder()
        accepted.set_result(protocol)
        return protocol

    server = await pair.right.create_server(factory, None, 0)
    _, client = await pair.left.create_connection(Recorder, host, server.port)
    return client, await accepted


async def test_it_is_small() -> None:
    async with memory_pair() as pair:
        client, _ = await connected(pair)
        assert sys.getsizeof(client.transport) <= 600
        assert not getattr(client.transport, "__dict__", None)  # compiled, it may have one from Python 3.12 on


async def test_names_of_ipv6() -> None:
    async with memory_pair() as pair:
        client, server = await connected(pair, RIGHT6)
        assert len(client.transport.get_extra_info("peername")) == 4
        assert client.transport.get_extra_info("peername") == server.transport.get_extra_info("sockname")
        assert repr(client.transport).startswith("<StreamTransport open fd07::1:")


async def test_tcp_info() -> None:
    async with memory_pair() as pair:
        client, server = await connected(pair)
        client.transport.write(bytes(5000))
        await server.got.wait()
        info = client.transport.get_extra_info("tcp_info")
        assert (info.mss, info.state.value, info.segments_resent) == (1420 - 40 - 12, "ESTABLISHED", 0)
        assert info.srtt > 0
        assert info.cwnd >= 10 * info.mss
        with pytest.raises(AttributeError):
            info.cwnd = 0
        assert server.transport.get_extra_info("tcp_info").unsent_bytes == 0


async def test_data_before_a_reset_is_delivered() -> None:
    """A kernel may throw it away; we need not."""
    async with memory_pair() as pair:
        client, server = await connected(pair)
        server.transport.write(b"the reason")
        server.transport.abort()  # in the same turn: the data has not even left
        error = await client.lost
        assert isinstance(error, ConnectionResetError)
        client, server = await connected(pair)
        client.transport.pause_reading()
        server.transport.write(b"the reason")
        await server.transport._loop.create_task(until_sent(server.transport))
        server.transport.abort()
        await pair.left.ping(RIGHT)
        assert not client.lost.done(), "what was received may still be read"
        client.transport.resume_reading()
        assert isinstance(await client.lost, ConnectionResetError)
        assert bytes(client.received) == b"the reason"


async def until_sent(transport: StreamTransport) -> None:
    async with asyncio.timeout(10):
        while transport.get_write_buffer_size():
            await asyncio.sleep(0)


async def test_writing_to_a_connection_that_died_while_reading_was_paused() -> None:
    async with memory_pair() as pair:
        client, server = await connected(pair)
        client.transport.pause_reading()
        server.transport.write(b"unread")
        await until_sent(server.transport)
        server.transport.abort()
        await pair.left.ping(RIGHT)
        assert not client.transport.is_closing()
        client.transport.write(b"anything")
        assert isinstance(await client.lost, ConnectionResetError)


async def died_with_unread_and_unsent(pair: Pair, high: int) -> Recorder:
    """Reset while reading is paused with data left, and more written than the far end takes."""
    client, server = await connected(pair)
    client.transport.pause_reading()
    server.transport.pause_reading()
    server.transport.write(b"unread")
    await until_sent(server.transport)
    client.transport.set_write_buffer_limits(high=high)
    client.transport.write(bytes(12 << 20))
    await pair.left.ping(RIGHT)
    assert client.transport.get_write_buffer_size()
    server.transport.abort()
    await pair.left.ping(RIGHT)
    return client


async def test_closing_a_connection_that_died_with_unread_and_unsent_data() -> None:
    async with memory_pair() as pair, asyncio.timeout(20):
        client = await died_with_unread_and_unsent(pair, 16 << 20)
        assert not client.lost.done()
        client.transport.close()
        assert isinstance(await client.lost, ConnectionResetError)


async def test_who_waits_to_write_to_a_connection_that_died_is_told_at_once() -> None:
    """It may well read on only when it has written: an echo."""
    async with memory_pair() as pair, asyncio.timeout(20):
        client = await died_with_unread_and_unsent(pair, 64 << 10)
        assert isinstance(await client.lost, ConnectionResetError)


async def test_unread_data_at_close_is_a_reset() -> None:
    """RFC 2525 2.17: the peer learns that not all it said was heard."""
    async with memory_pair() as pair:
        client, server = await connected(pair)
        server.transport.pause_reading()
        client.transport.write(b"unheard")
        await until_sent(client.transport)
        await pair.left.ping(RIGHT)
        server.transport.close()
        assert isinstance(await client.lost, ConnectionResetError)


async def test_closing_does_not_wait_for_ever_for_a_peer_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written may leave first, but a window that stays closed ends it, although the peer answers probes."""
    monkeypatch.setattr(network, "TcpSettings", functools.partial(TcpSettings, orphan_timeout=0.3))
    async with memory_pair() as pair, asyncio.timeout(20):
        client, server = await connected(pair)
        server.transport.pause_reading()
        client.transport.write(bytes(12 << 20))
        await pair.left.ping(RIGHT)
        client.transport.close()
        assert not client.lost.done()
        assert isinstance(await client.lost, TimeoutError)


async def test_writelines_copies_nothing_that_is_bytes() -> None:
    async with memory_pair() as pair:
        client, server = await connected(pair)
        data = os.urandom(100_000)
        before = sys.getrefcount(data)
        client.transport.write(data)
        assert sys.getrefcount(data) == before + 1
        while len(server.received) < len(data):
            server.got.clear()
            await server.got.wait()
        assert bytes(server.received) == data


async def test_a_file_that_aiohttp_serves(tmp_path: Path) -> None:
    """Its head goes by write(), its body by loop.sendfile() where that is not refused as aiohttp expects it."""
    data = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def serve(request: web.BaseRequest) -> web.FileResponse:
        return web.FileResponse(path)

    web_server = web.Server(serve)
    async with memory_pair() as pair:
        await pair.right.create_server(web_server, None, 80)
        reader, writer = await pair.left.open_connection(RIGHT, 80)
        writer.write(b"GET /file HTTP/1.1\r\nHost: right.example.test\r\nConnection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body == data
        writer.close()
        await web_server.shutdown()


async def test_tls_over_it() -> None:
    """asyncio's start_tls takes our transports (uvloop's takes only its own)."""
    loop = asyncio.get_running_loop()
    if type(loop).__module__ == "uvloop":
        with pytest.raises(TypeError):
            await try_tls(loop)
    else:
        with pytest.raises(OSError, match=r"SSL|TLS|reset|closed|EOF"):
            await try_tls(loop)


async def try_tls(loop: asyncio.AbstractEventLoop) -> None:
    """The other end does not speak TLS, which is enough to see our bytes on their way."""
    import ssl

    async with memory_pair() as pair:
        client, server = await connected(pair)
        context = ssl.create_default_context()
        handshake = asyncio.ensure_future(
            loop.start_tls(client.transport, client, context, server_hostname="www.example.test")
        )
        waiting = asyncio.ensure_future(server.got.wait())
        await asyncio.wait([handshake, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not handshake.done():
            assert server.received[:2] == b"\x16\x03", "a client hello"
            server.transport.abort()
        await handshake


@pytest.mark.parametrize(
    "impairment",
    [
        Impairment(loss=0.01, delay=0.002),
        Impairment(duplicate=0.05, delay=0.001),
        Impairment(reorder=0.02, reorder_delay=0.003, delay=0.001),
        Impairment(loss=0.02, duplicate=0.02, reorder=0.05, reorder_delay=0.002, delay=0.001, jitter=0.001),
    ],
    ids=["loss", "duplicates", "reordering", "all of it"],
)
async def test_a_bad_path_changes_nothing_but_the_time(impairment: Impairment) -> None:
    async with memory_pair(impairment, seed=11) as pair:
        client, server = await connected(pair)
        there, back = os.urandom(1 << 16) * 16, os.urandom(1 << 16) * 16
        client.transport.write(there)
        server.transport.write(back)
        async with asyncio.timeout(40):
            while len(server.received) < len(there) or len(client.received) < len(back):
                await asyncio.sleep(0.005)
        assert hashlib.sha256(server.received).digest() == hashlib.sha256(there).digest()
        assert hashlib.sha256(client.received).digest() == hashlib.sha256(back).digest()
