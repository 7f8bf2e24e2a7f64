"""Forwards of `usernet run` as a real process, against a far peer in this one: wireproxy's sections, and flags."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from tests.cli.support import Daemon
from tests.cli.test_run import FAR, NEAR, Far, far
from tests.proxy.support import Handle, digest, echo
from tests.proxy.test_forwards import Peer

__all__ = ["far"]  # a fixture

PORT = 7
SIZE = 50 << 20


@contextlib.asynccontextmanager
async def serving(far: Far, handle: Handle) -> AsyncIterator[None]:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handle(reader, writer)
        writer.close()

    async with await far.network.start_server(run, None, PORT):
        yield


async def port_of(daemon: Daemon, kind: str) -> int:
    found = await daemon.line(rf"forward: {kind} 127\.0\.0\.1:(\d+) into the tunnel, to {FAR}:{PORT}")
    return int(found[1])


async def mirrored(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Their digest, and then as many bytes as came."""
    total, size = hashlib.sha256(), 0
    while data := await reader.read(1 << 18):
        total.update(data)
        size += len(data)
    writer.write(total.digest())
    for _ in range(size >> 18):
        writer.write(BLOCK)
        await writer.drain()


BLOCK = os.urandom(1 << 18)


async def test_fifty_megabytes_each_way(far: Far) -> None:
    far.append(f"[TCPClientTunnel]\nBindAddress = 127.0.0.1:0\nTarget = {FAR}:{PORT}\n")
    async with serving(far, mirrored), Daemon.start("run", str(far.file)) as daemon:
        reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(daemon, "TCP"), limit=1 << 20)
        total = hashlib.sha256()
        for _ in range(SIZE >> 18):
            writer.write(BLOCK)
            total.update(BLOCK)
            await writer.drain()
        writer.write_eof()
        assert await reader.readexactly(32) == total.digest()
        back = hashlib.sha256()
        while data := await reader.read(1 << 18):
            back.update(data)
        assert back.digest() == total.digest()
        writer.close()
        assert "proxy:" not in daemon.text  # a way in has been named: there is no other
        assert await daemon.stop() == 0


async def test_flags_both_ways_and_udp(far: Far) -> None:
    peer = Peer(echoes=True)
    await far.network.create_datagram_endpoint(lambda: peer, local_addr=(FAR, PORT))
    server = await asyncio.start_server(echo_and_close, "127.0.0.1", 0)
    local = server.sockets[0].getsockname()[1]
    async with (
        server,
        serving(far, echo),
        Daemon.start(
            "run",
            str(far.file),
            "--forward",
            f"127.0.0.1:0:{FAR}:{PORT}:TCP,UDP",
            "--remote",
            f"8080:127.0.0.1:{local}",
        ) as daemon,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(daemon, "TCP"))
        writer.write(b"tcp")
        writer.write_eof()
        assert await reader.read() == b"tcp"
        writer.close()
        asking = Peer(echoes=False)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: asking, remote_addr=("127.0.0.1", await port_of(daemon, "UDP"))
        )
        transport.sendto(b"udp")
        assert await asking.heard.get() == b"udp"
        transport.close()
        reader, writer = await far.network.open_connection(NEAR, 8080)
        writer.write(b"remote")
        writer.write_eof()
        assert await reader.read() == b"remote"
        writer.close()
        assert await daemon.stop() == 0


async def echo_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await echo(reader, writer)
    writer.close()


async def test_nobody_answers(far: Far) -> None:
    async with Daemon.start("run", str(far.file), "--forward", f"127.0.0.1:0:{FAR}:{PORT}") as daemon:
        reader, _ = await asyncio.open_connection("127.0.0.1", await port_of(daemon, "TCP"))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert await daemon.stop() == 0


async def test_an_address_that_is_taken(far: Far) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for flags in ([f"127.0.0.1:{port}:{FAR}:7"], ["127.0.0.1:0:x"], ["192.0.2.9:5:h:6:UDP"]):
            async with Daemon.start("run", str(far.file), "--forward", *flags) as daemon:
                assert await daemon.end() == 1
            assert daemon.lines[-1].startswith("Error: ")
            assert "; " in daemon.lines[-1]


async def stdio(far: Far, data: bytes) -> tuple[int | None, bytes, str]:
    far.append(f"[STDIOTunnel]\nTarget = {FAR}:{PORT}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", "run", str(far.file), "--socket", f"{far.file}.sock",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(data)
    return process.returncode, out, err.decode()


async def test_standard_input_and_output(far: Far) -> None:
    data = os.urandom(1 << 20)
    async with serving(far, digest):
        status, out, err = await stdio(far, data)
    assert (status, out) == (0, hashlib.sha256(data).hexdigest().encode())
    assert "tunnel:" in err
    assert "proxy:" not in err


async def test_standard_input_and_nobody_there(far: Far) -> None:
    status, out, err = await stdio(far, b"")
    assert (status, out) == (1, b"")
    assert f"Error: cannot connect to {FAR}:{PORT}: the destination refused the connection" in err


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
