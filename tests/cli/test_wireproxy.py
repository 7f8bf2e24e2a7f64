"""`usernet wireproxy` as real processes: wireproxy's arguments and files, against a far peer in this one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from proxy.demo.client import request
from tests.cli.support import Daemon, usernet
from tests.cli.test_forwards import free_port
from tests.cli.test_run import FAR, Far, far

__all__ = ["far"]  # a fixture


async def page(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_file_and_readiness(far: Far, tmp_path: Path) -> None:
    """WGConfig beside it, no AllowedIPs, a proxy that is open to all, CheckAlive."""
    text = far.file.read_text().replace(f"AllowedIPs = {FAR}\n", "")
    far.file.write_text(text.replace("DNS", f"CheckAlive = {FAR}\nCheckAliveInterval = 1\nDNS"))
    file = tmp_path / "wireproxy.conf"
    file.write_text(f"WGConfig = {far.file.name}\n[http]\nBindAddress = 0.0.0.0:0\n")
    async with Daemon.start("wireproxy", "-c", str(file), "-i", "127.0.0.1:0") as daemon:
        info = int((await daemon.line(r"info: http://127\.0\.0\.1:(\d+)"))[1])
        proxy = int((await daemon.line(r"proxy: HTTP on 0\.0\.0\.0:(\d+)"))[1])
        received = bytearray()
        await request("HTTP", ("127.0.0.1", proxy), FAR, "/", sink=received.extend)
        assert b"You came through the tunnel" in received
        while not (await page(info, "/readyz")).startswith(b"HTTP/1.1 200 "):
            await asyncio.sleep(0.05)
        assert b"allowed_ip=0.0.0.0/0\nallowed_ip=::/0\n" in await page(info, "/metrics")
        assert "without a password" in daemon.text
        assert await daemon.stop() == 0


async def test_silent_and_no_proxy_by_itself(far: Far) -> None:
    far.append("[TCPServerTunnel]\nListenPort = 8080\nTarget = 127.0.0.1:9\n")
    async with Daemon.start("wireproxy", "-s", "-c", str(far.file)) as daemon:
        # Up, once a refusal comes from inside its tunnel.
        while True:
            try:
                await far.network.open_connection("10.66.1.2", 8080)
            except ConnectionRefusedError:
                break
            except OSError:
                await asyncio.sleep(0.05)
        assert await daemon.stop() == 0
    assert daemon.text == ""


async def test_in_the_background(far: Far) -> None:
    port = free_port()
    far.append(f"[Socks5]\nBindAddress = 127.0.0.1:{port}\n")
    done = await asyncio.to_thread(usernet, "wireproxy", "-d", "-c", str(far.file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        await asyncio.sleep(0.05)
    writer.close()
    [process] = [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and str(far.file).encode() in Path(f"/proc/{entry}/cmdline").read_bytes()
    ]
    os.kill(process, signal.SIGTERM)
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            break
        writer.close()
        await asyncio.sleep(0.05)


async def test_configtest_and_the_file_it_looks_for(far: Far, tmp_path: Path) -> None:
    done = await asyncio.to_thread(usernet, "wireproxy", "-n", "-c", str(far.file))
    assert (done.returncode, done.stdout) == (0, "Config OK\n")
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    env = {"HOME": str(home)}
    if not os.path.exists("/etc/wireproxy/wireproxy.conf"):
        done = await asyncio.to_thread(usernet, "wireproxy", "-n", env=env)
        assert done.returncode == 2
        assert "a file is needed" in done.stderr
        (home / ".config" / "wireproxy.conf").write_text("[Interface]\nJc = 3\n")
        done = await asyncio.to_thread(usernet, "wireproxy", "-n", env=env)
        assert done.returncode == 1
        assert "Jc is AmneziaWG's" in done.stderr
    done = await asyncio.to_thread(usernet, "wireproxy", "--version")
    assert done.stdout.startswith("usernet ")
