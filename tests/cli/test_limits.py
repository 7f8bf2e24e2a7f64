"""What bounds the clients of a real process: its flags, and the file's AllowFrom."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cli.support import Daemon, usernet
from tests.cli.test_run import Far, far_peer, port_of

GREETING, WELCOME = b"\x05\x01\x00", b"\x05\x00"
SOCKS = ("--socks5-server", "127.0.0.1:0")


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_peer(tmp_path / "wg.conf") as found:
        yield found


@contextlib.contextmanager
def client(port: int, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as sock:
        sock.setblocking(False)
        yield sock


async def ask(sock: socket.socket) -> bytes:
    """The answer to a greeting; nothing where it is refused."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        await loop.sock_sendall(sock, GREETING)
        return await asyncio.wait_for(loop.sock_recv(sock, 2), 10)
    return b""


async def test_clients_per_address(far: Far) -> None:
    async with Daemon.start("run", str(far.file), *SOCKS, "--max-clients-per-address", "2") as daemon:
        port = await port_of(daemon, "SOCKS5")
        with client(port) as first, client(port) as second, client(port, "127.0.0.2") as other:
            assert [await ask(one) for one in (first, second, other)] == [WELCOME] * 3
            with client(port) as third:
                assert await ask(third) == b""
        assert await daemon.stop() == 0


async def test_clients_in_all(far: Far) -> None:
    """One too many waits until there is room, and one line says why."""
    async with Daemon.start("run", str(far.file), *SOCKS, "--max-clients", "2", "-v") as daemon:
        port = await port_of(daemon, "SOCKS5")
        with client(port) as first, client(port) as second:
            assert await ask(first) == await ask(second) == WELCOME
            with client(port) as third:
                answer = asyncio.ensure_future(ask(third))
                await daemon.line(rf"accepting pauses on 127\.0\.0\.1 port {port}: 2 clients are the limit")
                assert not answer.done()
                first.close()
                assert await answer == WELCOME
        assert await daemon.stop() == 0


async def test_more_clients_than_files(far: Far) -> None:
    async with Daemon.start("run", str(far.file), *SOCKS, "--max-clients", "100000000") as daemon:
        await port_of(daemon, "SOCKS5")
        assert await daemon.stop() == 0
    assert re.search(r"100000000 clients at once are more than \d+ open files allow: \d+", daemon.text)


async def test_idle_connections(far: Far) -> None:
    async with Daemon.start("run", str(far.file), *SOCKS, "--idle-timeout", "1") as daemon:
        with client(await port_of(daemon, "SOCKS5")) as sock:
            assert await ask(sock) == WELCOME
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, b"\x05\x01\x00\x01\x0a\x42\x01\x01\x00\x50")
            assert (await loop.sock_recv(sock, 100))[1] == 0
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(loop.sock_recv(sock, 1), 10)
        assert await daemon.stop() == 0


async def test_allowed_addresses(far: Far) -> None:
    """Others are closed without having said a word, and told of once."""
    far.append("[Access]\nAllowFrom = 127.0.0.2, 127.0.0.64/26\n")
    async with Daemon.start("run", str(far.file), *SOCKS) as daemon:
        port = await port_of(daemon, "SOCKS5")
        for source in ("127.0.0.2", "127.0.0.64", "127.0.0.127"):
            with client(port, source) as sock:
                assert await ask(sock) == WELCOME
        for source in ("127.0.0.1", "127.0.0.63", "127.0.0.128"):
            with client(port, source) as sock:
                assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1), 5) == b""
        assert await daemon.stop() == 0
    assert daemon.text.count("is not let in") == 1
    assert "127.0.0.1 is not let in: AllowFrom does not have it" in daemon.text


@pytest.mark.parametrize(
    "flags",
    [
        ("--max-clients", "0"),
        ("--max-clients-per-address", "0"),
        ("--idle-timeout", "0"),
        ("--idle-timeout", "nan"),
        ("--drain", "-1"),
        ("--drain", "inf"),
    ],
)
def test_flags_that_make_no_sense(flags: tuple[str, str]) -> None:
    done = usernet("run", "nowhere.conf", *flags)
    assert done.returncode == 2
    assert flags[0] in done.stderr
