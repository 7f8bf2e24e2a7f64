"""What a service manager sees of a real daemon: its notices, and the sockets that it was given."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.support import Daemon
from tests.cli.test_run import FAR, Far, far_peer

READY_FOR = ("run", "--state", "mem:")
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    async with far_peer(tmp_path / "wg.conf") as found:
        yield found


class Manager:
    """The receiving end of $NOTIFY_SOCKET."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.setblocking(False)
        self.said: list[str] = []

    async def hears(self, *words: str) -> None:
        """All of these, in this order, from now on."""
        for word in words:
            while True:
                lines = (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode().splitlines()
                self.said += lines
                if any(line.startswith(word) for line in lines):
                    break

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def managed(
    far: Far, address: str, given: socket.socket | None = None, name: str = "", flags: tuple[str, ...] = ()
) -> AsyncIterator[Daemon]:
    """A daemon with $NOTIFY_SOCKET, and with a socket of this name as its descriptor 3, as systemd hands it over."""
    command = [sys.executable, "-m", "proxy.cli", *READY_FOR, str(far.file), "--socket", f"{far.file}.sock", *flags]
    if given is not None:
        command = [sys.executable, "-c", HAND_OVER, str(given.fileno()), name, *command]
    process = await asyncio.create_subprocess_exec(
        *command, pass_fds=() if given is None else (given.fileno(),),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"},
    )  # fmt: skip
    try:
        yield Daemon(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("abstract", [False, True])
async def test_notices(far: Far, tmp_path: Path, abstract: bool) -> None:
    path = f"\0usernet-{os.getpid()}-{id(far)}" if abstract else str(tmp_path / "notify")
    manager = Manager(path)
    flags = ("--socks5-server", "127.0.0.1:0")
    async with managed(far, path.replace("\0", "@"), flags=flags) as daemon:
        await manager.hears("READY=1", "STATUS=1 of 1 peers answer; clients: 0", "WATCHDOG=1", "WATCHDOG=1")
        daemon.process.send_signal(signal.SIGHUP)
        await manager.hears("RELOADING=1", "READY=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in manager.said)
        assert await daemon.stop() == 0
        await manager.hears("STOPPING=1")
    manager.close()


async def test_sockets_that_were_opened_for_us(far: Far, tmp_path: Path) -> None:
    """Who connects before we are there is served all the same."""
    manager = Manager(str(tmp_path / "notify"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with managed(far, str(tmp_path / "notify"), listening, "socks5") as daemon:
            await daemon.line(rf"proxy: SOCKS5 on 127\.0\.0\.1:{port}$")
            await manager.hears("READY=1")
            writer.write(b"\5\1\0" + b"\5\1\0\1" + socket.inet_aton(FAR) + (80).to_bytes(2, "big"))
            assert (await reader.readexactly(12))[3] == 0
            writer.close()
            assert await daemon.stop() == 0
    manager.close()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (socket.SOCK_STREAM, "ftp", "its name says nothing; write FileDescriptorName=socks5 or http"),
        (socket.SOCK_DGRAM, "socks5", "does not listen for TCP; write ListenStream=HOST:PORT"),
    ],
)
async def test_a_socket_of_no_use(far: Far, tmp_path: Path, kind: int, name: str, message: str) -> None:
    with socket.socket(socket.AF_INET, kind) as given:
        given.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            given.listen()
        async with managed(far, str(tmp_path / "nobody"), given, name) as daemon:
            assert await daemon.end() == 1
            assert message in daemon.text


async def test_a_manager_that_is_gone_is_no_reason_to_end(far: Far, tmp_path: Path) -> None:
    async with managed(far, str(tmp_path / "nobody"), flags=("--socks5-server", "127.0.0.1:0")) as daemon:
        await daemon.line("the service manager was not told READY")
        await daemon.line("handshake with .* completed")
        assert await daemon.stop() == 0
