"""`usernet run --drain`: a real process that is told to stop in the middle of transfers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.cli.support import Daemon
from tests.cli.test_run import FAR, NEAR, Far, far_peer, port_of

ADDR = ("--socks5-server", "127.0.0.1:0", "--outbound-http-proxy-listen", "127.0.0.1:0")
HALF = os.urandom(4 << 20)
SOCKS = b"\x05\x01\x00\x05\x01\x00\x01" + bytes(map(int, FAR.split("."))) + (81).to_bytes(2, "big")
KEPT = f"GET http://{FAR}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
HELD = f"GET http://{FAR}:81/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_peer(tmp_path / "wg.conf") as found:
        yield found


Connect = Callable[..., Awaitable[Streams]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect, say this, and hear so many bytes; closed after the test."""
    writers = []

    async def connect(port: int, words: bytes, answer: int = 0) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(words)
        await reader.readexactly(answer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()


async def end(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(), 20)


async def serve(far: Far, handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    await far.network.start_server(handle, None, 81)


async def test_what_is_under_way_is_finished(far: Far, connect: Connect) -> None:
    """Both ways through a relay, an upload whose client has gone, and an HTTP exchange; whoever idles is sent away."""
    go = asyncio.Event()
    uploads: list[str] = []

    async def half_and_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readexactly(4)
        if asked == b"GET ":
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nyes!")
            return
        if asked == b"both":
            writer.write(HALF)
        await go.wait()
        writer.write(HALF)
        writer.write_eof()
        uploads.append(hashlib.sha256(await reader.read()).hexdigest())
        writer.close()

    await serve(far, half_and_half)
    async with Daemon.start("run", str(far.file), *ADDR, "--drain", "30") as daemon:
        socks, http = await port_of(daemon, "SOCKS5"), await port_of(daemon, "HTTP")
        silent = await connect(http, b"")
        kept, _ = await connect(http, KEPT)
        head = await kept.readuntil(b"\r\n\r\n")
        assert b"onnection: close" not in head
        await kept.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        both = await connect(socks, SOCKS, 12)
        both[1].write(b"both" + HALF)
        assert await both[0].readexactly(len(HALF)) == HALF
        gone = await connect(socks, SOCKS, 12)
        gone[1].write(b"gone" + HALF)
        sent = asyncio.ensure_future(gone[1].drain())
        held = await connect(http, HELD)
        dialogue = await connect(socks, SOCKS[:5], 2)

        daemon.process.send_signal(signal.SIGTERM)
        assert await end(silent[0]) == b""
        assert await end(kept) == b""
        await daemon.line("waiting up to 30 s for 4 connections to finish; another signal ends it at once")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", socks)

        dialogue[1].write(SOCKS[5:] + b"late")
        go.set()
        both[1].write(HALF)
        both[1].write_eof()
        assert await end(both[0]) == HALF
        answer = await end(held[0])
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nyes!")
        assert b"\r\nConnection: close\r\n" in answer
        await sent
        gone[1].write_eof()
        assert await end(gone[0]) == HALF
        late = await dialogue[0].readexactly(10)
        assert late[1] == 0
        assert await dialogue[0].readexactly(len(HALF)) == HALF
        dialogue[1].write_eof()
        assert await daemon.end() == 0
        assert sorted(uploads) == sorted(hashlib.sha256(data).hexdigest() for data in (HALF + HALF, HALF, b""))
    assert "cut off" not in daemon.text
    assert "Traceback" not in daemon.text


async def test_an_upload_whose_client_has_gone(far: Far, connect: Connect) -> None:
    """Nobody is connected any more, but the far end has not taken everything yet."""
    go = asyncio.Event()
    heard = asyncio.get_running_loop().create_future()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        heard.set_result(await reader.read())
        writer.close()

    await serve(far, slow)
    async with Daemon.start("run", str(far.file), *ADDR, "--drain", "30") as daemon:
        _, writer = await connect(await port_of(daemon, "SOCKS5"), SOCKS, 12)
        size = 0
        while True:  # until everything on the way is full
            writer.write(bytes(65536))
            size += 65536
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
        writer.close()
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.line("waiting up to 30 s for 1 connection to")
        go.set()
        assert len(await heard) == size
        assert await daemon.end() == 0


async def test_what_is_forwarded_out_of_the_tunnel(far: Far) -> None:
    """[TCPServerTunnel]: nobody new, but who is there may finish."""
    go = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(3))
        await go.wait()
        writer.write(HALF + await reader.read())
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    far.append(f"[TCPServerTunnel]\nListenPort = 80\nTarget = 127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    async with Daemon.start("run", str(far.file), *ADDR, "--drain", "30") as daemon:
        await daemon.line("handshake with .* completed")
        reader, writer = await far.network.open_connection(NEAR, 80)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.line("waiting up to 30 s for 1 connection to finish")
        with pytest.raises(ConnectionRefusedError):
            await far.network.open_connection(NEAR, 80)
        go.set()
        writer.write(b"two")
        writer.write_eof()
        assert await reader.read() == HALF + b"two"
        writer.close()
        assert await daemon.end() == 0
    server.close()


async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_time_is_up(far: Far, connect: Connect) -> None:
    await serve(far, hold)
    async with Daemon.start("run", str(far.file), *ADDR, "--drain", "0.3") as daemon:
        reader, _ = await connect(await port_of(daemon, "SOCKS5"), SOCKS, 12)
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert 0.3 <= time.monotonic() - began < 2.3
        with pytest.raises(ConnectionResetError):
            await end(reader)
    assert "1 connection cut off after 0.3 s" in daemon.text


async def test_a_second_signal(far: Far, connect: Connect) -> None:
    await serve(far, hold)
    async with Daemon.start("run", str(far.file), *ADDR, "--drain", "60") as daemon:
        await connect(await port_of(daemon, "SOCKS5"), SOCKS, 12)
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.line("waiting up to 60 s")
        assert await daemon.stop(signal.SIGINT) == -signal.SIGINT


async def test_nobody_to_wait_for(far: Far, connect: Connect) -> None:
    async with Daemon.start("run", str(far.file), *ADDR, "--drain", "60") as daemon:
        reader, _ = await connect(await port_of(daemon, "HTTP"), KEPT)
        await reader.readuntil(b"</html>")
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began < 5
    assert "waiting" not in daemon.text
