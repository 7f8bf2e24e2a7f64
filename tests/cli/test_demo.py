"""`usernet demo` as a real process: all of it, both on and off a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import socket
import sys
from collections.abc import Iterator

import pytest

from proxy.daemon.listeners import Listen
from proxy.demo import content, script
from proxy.demo.client import DemoError, request
from proxy.demo.show import Advance, PlainShow
from tests.cli.support import Daemon, usernet

ANY_PORT = [Listen("127.0.0.1", 0, socks5=True, http=True)]


def test_once() -> None:
    done = usernet("demo", "--once", "--listen", "127.0.0.1:0")
    assert done.returncode == 0, done.stdout + done.stderr
    for pattern in (
        r"proxy: SOCKS5 and HTTP on 127\.0\.0\.1:\d+",
        r"handshake with \S+ at 127\.0\.0\.1:\d+ completed in \d+ ms",
        r"through SOCKS5: http://hello\.test/ and its pictures, 3 requests",
        r"through HTTP: http://hello\.test/ and its pictures, 3 requests",
        r"down: 64 MiB in [\d.]+ s, [\d.]+ MB/s",
        r"up: 64 MiB in [\d.]+ s, [\d.]+ MB/s",
        r"everything worked",
    ):
        assert re.search(pattern, done.stdout), (pattern, done.stdout)
    assert done.stderr == ""
    assert "Ctrl-C" not in done.stdout


def test_a_port_in_use_is_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = usernet("demo", "--once", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_the_default_port_gives_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert script.free_port("127.0.0.1", port) == 0
    assert script.free_port("127.0.0.1", port) == port


async def test_a_changed_byte_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "digest", lambda size: "0" * 64)
    with pytest.raises(DemoError, match="down: what arrived is not what was sent"):
        await script.run(ANY_PORT, PlainShow(), stay=False, bulk=1 << 16)


class Stopping(PlainShow):
    """Somebody presses Ctrl-C while it moves bytes."""

    @contextlib.contextmanager
    def transfer(self, label: str, size: int) -> Iterator[Advance]:
        os.kill(os.getpid(), 2)
        yield lambda _: None


async def test_stopped_before_its_end() -> None:
    with pytest.raises(DemoError, match="stopped before everything was tried"):
        await script.run(ANY_PORT, Stopping(), stay=False, bulk=1 << 30)


async def test_on_a_terminal_it_stays_until_ctrl_c() -> None:
    primary, secondary = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", "demo", "--listen", "127.0.0.1:0",
        stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )  # fmt: skip
    os.close(secondary)
    screen = bytearray()
    try:
        while b"Ctrl-C ends the demo" not in screen:
            screen += await asyncio.to_thread(os.read, primary, 65536)
        text = screen.decode()
        found = re.search(r"curl -x socks5h://127\.0\.0\.1:(\d+) http://hello\.test/", text)
        assert found is not None, text
        assert "━" in text  # the bar
        page = bytearray()
        await request("HTTP", ("127.0.0.1", int(found[1])), "hello.test", "/", sink=page.extend)
        assert b"You came through the tunnel" in page
        process.send_signal(2)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(primary)


async def test_a_signal_ends_it_early() -> None:
    async with Daemon.start("demo", "--once", "--listen", "127.0.0.1:0") as daemon:
        await daemon.line("handshake with")
        assert await daemon.stop() == 1
    assert "Traceback" not in daemon.text
