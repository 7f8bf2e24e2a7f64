"""`usernet ping FILE ADDR` as a real process, against a far peer in this one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.cli.support import Daemon
from tests.cli.test_run import FAR, far_peer


async def test_an_answer(tmp_path: Path) -> None:
    async with far_peer(tmp_path / "wg.conf") as far, Daemon.start("ping", str(far.file), FAR, "-c", "1") as ping:
        assert await ping.end() == 0
    assert ping.lines[0].startswith(f"answer from {FAR}: number 1, ")
    assert ping.lines[1:] == ["1 sent, 1 answered"]


@pytest.mark.parametrize("by_daemon", [False, True])
async def test_where_nothing_can_be_sent_it_says_why_and_ends(tmp_path: Path, by_daemon: bool) -> None:
    async with far_peer(tmp_path / "wg.conf") as far, contextlib.AsyncExitStack() as stack:
        whom = [str(far.file)]
        if by_daemon:
            whom = ["--socket", str(tmp_path / "a.sock")]
            flags = ("--socks5-server", "127.0.0.1:0", *whom)
            daemon = await stack.enter_async_context(Daemon.start("run", str(far.file), *flags))
            await daemon.line("completed in")
        async with Daemon.start("ping", *whom, "192.0.2.1", "-c", "1000") as ping:
            assert await ping.end() == 1
    assert ping.lines == ["Error: no peer's allowed IPs cover 192.0.2.1"]


async def test_an_endpoint_that_does_not_resolve(tmp_path: Path) -> None:
    """Said once, and it does not hold up a stop."""
    async with far_peer(tmp_path / "wg.conf") as far:
        far.file.write_text(far.file.read_text().replace("Endpoint = 127.0.0.1", "Endpoint = nowhere.invalid"))
        flags = ("--socks5-server", "127.0.0.1:0")
        async with Daemon.start("run", str(far.file), *flags) as daemon:
            await daemon.line(r"nowhere\.invalid of peer \S+ does not resolve")
            assert await daemon.stop() == 0
    assert daemon.text.count("does not resolve") == 1
