"""HAProxy before and behind a forward: it says who its clients are, and it is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import Daemon
from tests.cli.test_forwards import PORT, free_port, port_of
from tests.cli.test_run import FAR, Far, far
from tests.support.skipping import skip

__all__ = ["far"]  # a fixture

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

SETTINGS = (
    "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n"
)


@contextlib.asynccontextmanager
async def haproxy(tmp_path: Path, settings: str, port: int) -> AsyncIterator[None]:
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not os.path.exists(program):
        skip("haproxy is not installed")
    file = tmp_path / "haproxy.cfg"
    file.write_text(SETTINGS + settings)
    process = await asyncio.create_subprocess_exec(program, "-db", "-q", "-f", str(file))
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_both(far: Far, tmp_path: Path, version: str) -> None:
    """Client -> HAProxy says it -> our forward -> says it through the tunnel -> HAProxy there -> a server."""
    front, back, origin = free_port(), free_port(), free_port()
    sends = "send-proxy" if version == "v1" else "send-proxy-v2"

    async def dial(factory: Any, inbound: Any) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", back)

    async with await far.network.create_forwarder(dial, None, PORT):
        far.append(
            f"[TCPClientTunnel]\nBindAddress = 127.0.0.1:0\nTarget = {FAR}:{PORT}\n"
            f"ProxyProtocol = {version}\nProxyProtocolFrom = 127.0.0.1\n"
        )
        async with Daemon.start("run", str(far.file)) as daemon:
            ours = await port_of(daemon, "TCP")
            settings = (
                f"listen front\n  bind 127.0.0.1:{front}\n  server ours 127.0.0.1:{ours} {sends}\n"
                f"listen back\n  bind 127.0.0.1:{back} accept-proxy\n  server origin 127.0.0.1:{origin} send-proxy\n"
            )
            heard: asyncio.Queue[bytes] = asyncio.Queue()

            async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                head = await reader.readline()
                if head:
                    heard.put_nowait(head)
                    writer.write(await reader.read())
                writer.close()

            async with await asyncio.start_server(say, "127.0.0.1", origin), haproxy(tmp_path, settings, front):
                # From another address of this machine than HAProxy's own.
                reader, writer = await asyncio.open_connection("127.0.0.1", front, local_addr=("127.0.0.77", 0))
                own = writer.get_extra_info("sockname")
                writer.write(b"hello")
                writer.write_eof()
                assert await reader.read() == b"hello"
                heads = [await heard.get() for _ in range(heard.qsize())]
                assert any(head.startswith(b"PROXY TCP4 127.0.0.77 127.0.0.1 %d " % own[1]) for head in heads)
                writer.close()
            assert await daemon.stop() == 0
