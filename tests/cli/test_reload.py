"""`kill -HUP` of a real process: the file is read again; all of it holds, or nothing, and connections go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.support import Daemon
from tests.cli.test_run import FAR, Far, far_peer, text_of
from usernet.config import parse

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LEAD = "[TCPClientTunnel]\nTarget = 10.0.0.1:1\nBindAddress = "
REFUSED_BY_RULE = 2  # RFC 1928, REP


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_peer(tmp_path / "wg.conf") as found:
        await found.network.start_server(echo, None, 7)
        yield found


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def socks(port: int, *, password: str = "", host: str = FAR, to: int = 7) -> tuple[int, Streams]:
    """The answer to CONNECT, and the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    method = 2 if password else 0
    writer.write(bytes((5, 1, method)))
    assert await reader.readexactly(2) == bytes((5, method))
    if password:
        writer.write(b"\1\2me" + bytes((len(password),)) + password.encode())
        assert await reader.readexactly(2) == b"\1\0"
    writer.write(b"\5\1\0\1" + socket.inet_aton(host) + to.to_bytes(2, "big"))
    answer = await reader.readexactly(10)
    return answer[1], (reader, writer)


async def check(streams: Streams) -> None:
    reader, writer = streams
    said = os.urandom(20_000)
    writer.write(said)
    assert await reader.readexactly(len(said)) == said


async def hang_up(daemon: Daemon, pattern: str = "reloaded") -> str:
    seen = len(daemon.lines)
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.line_after(seen, pattern)
    return daemon.lines[-1]


async def test_everything_changes_under_a_connection(far: Far) -> None:
    """Listeners come and go, a password, a rule, a forward's target and a peer: a stream goes on through all of it."""
    old, new, lead = free_port(), free_port(), free_port()
    base = far.file.read_text()
    far.append(
        f"[Socks5]\nBindAddress = 127.0.0.1:{old}\n"
        f"[TCPClientTunnel]\nBindAddress = 127.0.0.1:{lead}\nTarget = {FAR}:9\n"
    )
    async with Daemon.start("run", str(far.file)) as daemon:
        await daemon.line("handshake with .* completed")
        code, stream = await socks(old)
        assert code == 0
        await check(stream)
        far.file.write_text(
            base + "[Peer]\nPublicKey = 3Uu5dY0XlF2bM1tzzWHlxkMDsMZqq5Q1g5rYvRRmKiw=\nAllowedIPs = 10.9.0.0/16\n"
            f"[Socks5]\nBindAddress = 127.0.0.1:{new}\nUsername = me\nPassword = secret\n"
            f"[Access]\nRule = refuse {FAR} port 8\n"
            f"[TCPClientTunnel]\nBindAddress = 127.0.0.1:{lead}\nTarget = {FAR}:7\n"
        )
        assert await hang_up(daemon) == "reloaded: proxies, forwards, access, 1 peer added"
        await check(stream)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", old)
        code, second = await socks(new, password="secret")
        assert code == 0
        await check(second)
        code, third = await socks(new, password="secret", to=8)
        assert code == REFUSED_BY_RULE
        led = await asyncio.open_connection("127.0.0.1", lead)
        await check(led)
        await check(stream)
        assert await hang_up(daemon) == "reloaded: nothing has changed"
        for _, writer in (stream, second, third, led):
            writer.close()
        assert await daemon.stop() == 0
    assert "secret" not in daemon.text


async def test_a_password_asked_for_from_now_on_at_an_address_that_stays(far: Far) -> None:
    port = free_port()
    base = far.file.read_text()
    far.append(f"[Socks5]\nBindAddress = 127.0.0.1:{port}\n")
    async with Daemon.start("run", str(far.file)) as daemon:
        await daemon.line("handshake with .* completed")
        _, stream = await socks(port)
        far.file.write_text(base + f"[Socks5]\nBindAddress = 127.0.0.1:{port}\nUsername = me\nPassword = secret\n")
        await hang_up(daemon)
        await check(stream)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\5\1\0")
        assert await reader.read() == b"\5\xff"
        _, second = await socks(port, password="secret")
        await check(second)
        for each in (writer, stream[1], second[1]):
            each.close()
        assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Nonsense = 1\n", r"wg\.conf:\d+: .*Nonsense"),
        ("[Socks5]\nBindAddress = 0.0.0.0:{free}\n", "asks for no password"),
        ("[Socks5]\nBindAddress = 127.0.0.1:{taken}\n", "in use"),
        ("[Socks5]\nBindAddress = 127.0.0.1:{free}\n" + LEAD + "127.0.0.1:{taken}\n", "in use"),
        ("[STDIOTunnel]\nTarget = 10.0.0.1:1\n", "start usernet anew"),
    ],
)  # fmt: skip
async def test_what_cannot_be_leaves_everything_as_it_was(far: Far, text: str, why: str) -> None:
    port, free = free_port(), free_port()
    far.append(f"[Socks5]\nBindAddress = 127.0.0.1:{port}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with Daemon.start("run", str(far.file)) as daemon:
            await daemon.line("handshake with .* completed")
            _, stream = await socks(port)
            good = far.file.read_text()
            far.append(text.format(free=free, taken=taken.getsockname()[1]))
            line = await hang_up(daemon, "not reloaded, everything is as before: ")
            assert re.search(why, daemon.lines[-2] if "1 problem in the file" in line else line)
            await check(stream)
            code, second = await socks(port)
            assert code == 0
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", free)
            far.file.write_text(good)
            assert await hang_up(daemon) == "reloaded: nothing has changed"
            for _, writer in (stream, second):
                writer.close()
            assert await daemon.stop() == 0


async def test_a_file_that_is_gone(far: Far) -> None:
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0") as daemon:
        await daemon.line("handshake with .* completed")
        far.file.unlink()
        line = await hang_up(daemon, "not reloaded")
        assert line.endswith(f"cannot read {far.file}: No such file or directory")
        assert await daemon.stop() == 0


async def test_the_udp_port_moves(far: Far) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0") as daemon:
        found = await daemon.line(r"proxy: SOCKS5 on 127\.0\.0\.1:(\d+)")
        await daemon.line("handshake with .* completed")
        _, stream = await socks(int(found[1]))
        far.file.write_text(far.file.read_text().replace("[Interface]\n", f"[Interface]\nListenPort = {port}\n"))
        assert await hang_up(daemon) == "reloaded: listen port"
        await check(stream)
        (endpoint,) = far.network.endpoints()
        assert endpoint[1] == port
        stream[1].close()
        assert await daemon.stop() == 0


async def test_another_private_key(far: Far) -> None:
    """The far side is told first; then ours follows, and the stream goes on."""
    from proxy.daemon import wgkeys

    key = wgkeys.generate()
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0") as daemon:
        found = await daemon.line(r"proxy: SOCKS5 on 127\.0\.0\.1:(\d+)")
        await daemon.line("handshake with .* completed")
        _, stream = await socks(int(found[1]))
        await check(stream)
        config = far.network.config
        theirs = f"[Interface]\nPrivateKey = {text_of(config.interface.private_key)}\nAddress = {FAR}\n"
        await far.network.reconfigure(
            parse(f"{theirs}[Peer]\nPublicKey = {text_of(wgkeys.public(key))}\nAllowedIPs = 10.66.1.2\n", "far")
        )
        far.file.write_text(far.file.read_text().replace(far.secret, text_of(key)))
        assert await hang_up(daemon) == "reloaded: private key"
        await check(stream)
        stream[1].close()
        assert await daemon.stop() == 0
    assert text_of(key) not in daemon.text
