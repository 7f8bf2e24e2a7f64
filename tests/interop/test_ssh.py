"""OpenSSH through `usernet nc` as its ProxyCommand: a real client and a real server, and a tunnel in between."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import Daemon
from tests.cli.test_run import FAR, Far, far, port_of
from tests.support.skipping import skip

__all__ = ["far"]  # a fixture

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SSHD = "/usr/sbin/sshd"


async def run(*command: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out, err


@pytest.fixture
async def server(far: Far, tmp_path: Path) -> AsyncIterator[list[str]]:
    """An sshd at port 22 of the far end; the options with which ssh gets in."""
    if not os.path.exists(SSHD) or shutil.which("ssh") is None:
        skip("openssh-server is not installed")
    tmp_path.chmod(0o700)
    os.makedirs("/run/sshd", exist_ok=True)
    for name in ("host", "user"):
        await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    settings = tmp_path / "sshd_config"
    settings.write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PermitRootLogin yes\n"
    )

    async def dial(factory: Any, inbound: Any) -> tuple[Any, Any]:
        """Each connection has an sshd of its own, in inetd's manner."""
        ours, theirs = socket.socketpair()
        process = await asyncio.create_subprocess_exec(
            SSHD,
            "-i",
            "-f",
            str(settings),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=asyncio.subprocess.DEVNULL,
        )
        theirs.close()
        servers.append(process)
        return await asyncio.get_running_loop().create_connection(factory, sock=ours)

    servers: list[asyncio.subprocess.Process] = []
    async with await far.network.create_forwarder(dial, None, 22):
        yield [
            "-F", "none", "-i", str(tmp_path / "user"), "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={tmp_path}/known", "-l", "root",
        ]  # fmt: skip
    for process in servers:
        await process.wait()


def proxy_command(*arguments: str) -> list[str]:
    return ["-o", f"ProxyCommand={sys.executable} -m proxy.cli nc {' '.join(arguments)} %h %p"]


async def test_a_command_and_many_bytes(far: Far, server: list[str]) -> None:
    data = os.urandom(8 << 20)
    status, out, err = await run("ssh", *server, *proxy_command(str(far.file)), FAR, "sha256sum; exit 3", stdin=data)
    assert (status, out.split()[:1]) == (3, [hashlib.sha256(data).hexdigest().encode()]), err


async def test_through_a_running_proxy(far: Far, server: list[str]) -> None:
    async with Daemon.start("run", str(far.file), "--socks5-server", "127.0.0.1:0") as daemon:
        env = {"ALL_PROXY": f"socks5h://127.0.0.1:{await port_of(daemon, 'SOCKS5')}"}
        status, out, err = await run("ssh", *server, *proxy_command(), FAR, "head -c 5000000 /dev/zero", env=env)
        assert (status, out) == (0, bytes(5_000_000)), err


async def test_what_is_said_when_nothing_answers(far: Far, server: list[str]) -> None:
    status, out, err = await run("ssh", *server, *proxy_command(str(far.file)), "192.0.2.1", "true")
    assert (status, out) == (255, b"")
    assert b"cannot connect to 192.0.2.1 port 22: no peer's allowed IPs cover 192.0.2.1" in err
