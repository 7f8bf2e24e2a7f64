"""`usernet top` in terminals of several sizes: what one sees, and that one gets out of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cli.terminal import Terminal
from tests.cli.test_commands import Running, running, through
from tests.cli.test_run import FAR

__all__ = ["running"]  # a fixture


@contextlib.asynccontextmanager
async def terminal(columns: int, lines: int) -> AsyncIterator[Terminal]:
    opened = Terminal(columns, lines)
    try:
        async with asyncio.timeout(40):
            yield opened
    finally:
        opened.close()


async def test_eighty_by_twenty_four(running: Running) -> None:
    async with through(running.port, FAR, 80), terminal(80, 24) as screen:
        before = screen.mode()
        process = await screen.run("top", "--socket", str(running.socket))
        await screen.shows(r"^1 stream, 1 peer; q quits$")
        lines = screen.text.splitlines()
        assert re.fullmatch(r"The tunnel works\. The latest handshake was \d+ s ago\.", lines[0])
        assert re.fullmatch(r"wg7  10\.66\.1\.2  up \d+ s  in [\d.]+ \w+/s  out [\d.]+ \w+/s", lines[1])
        assert lines[2].split() == ["peer", "endpoint", "handshake", "in", "out"]
        assert re.match(r"\S{8}\s+127\.0\.0\.1:\d+\s+\d+ s ", lines[3])
        assert lines[4].split() == ["client", "destination", "up", "down", "in", "out"]
        assert re.match(r"127\.0\.0\.1:\d+\s+10\.66\.1\.1:80 ", lines[5])
        screen.press(b"x")  # which is no key of its
        screen.press(b"q")
        assert await process.wait() == 0
        assert screen.mode() == before


async def test_a_narrow_one_and_ctrl_c(running: Running) -> None:
    async with terminal(40, 12) as screen:
        before = screen.mode()
        process = await screen.run("top", "--socket", str(running.socket))
        await screen.shows(r"^0 streams, 1 peer; q quits$")
        assert re.search(r"^peer +handshake +in +out$", screen.text, re.MULTILINE)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        assert screen.mode() == before


@pytest.mark.parametrize("by_key", [True, False])
async def test_a_script_began_it_with_interrupts_ignored(running: Running, by_key: bool) -> None:
    """Such as a shell does whose command ends in `&`, in front of a terminal of its own."""
    async with terminal(80, 24) as screen:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = await screen.run("top", "--socket", str(running.socket))
        finally:
            signal.signal(signal.SIGINT, before)
        await screen.shows("q quits")
        if by_key:
            screen.press(b"q")
        else:
            process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_it_ends_with_the_daemon(running: Running) -> None:
    async with terminal(80, 24) as screen:
        process = await screen.run("top", "--socket", str(running.socket))
        await screen.shows("q quits")
        running.daemon.process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert "usernet: the daemon is stopping" in screen.text
        assert await running.daemon.end() == 0


async def test_without_a_terminal_it_is_one_look(running: Running) -> None:
    assert (await running.said("top")).startswith("The tunnel works. ")


@pytest.mark.parametrize(("width", "height"), [(20, 24), (59, 10), (80, 24), (99, 40), (200, 24)])
def test_it_fits(width: int, height: int) -> None:
    from rich.console import Console

    from proxy.cli.top import view

    peer: dict[str, Any] = {
        "public_key": "A" * 44, "endpoint": None, "latest_handshake": None, "rx_bytes": 1, "tx_bytes": 2,
        "rx_rate": 3.0, "tx_rate": 4.0, "allowed_ips": [],
    }  # fmt: skip
    stream = {
        "client": "192.0.2.1:5", "destination": "x" * 200, "route": "tunnel", "began": 0.0, "up_bytes": 1,
        "down_bytes": 1 << 40, "up_rate": 0.0, "down_rate": 0.0,
    }  # fmt: skip
    busy = {**stream, "destination": "busy", "down_rate": 9.0}
    status = {
        "verdict": {"state": "down", "title": "No", "detail": "why"}, "name": "n", "addresses": ["10.0.0.1"], "at": 9.0,
        "started": 1.0, "rx_rate": 1.0, "tx_rate": 1.0, "clients": 1, "peers": [peer] * 30,
        "streams": [*[stream] * 49, busy],
        "streams_total": 50, "health": [{"text": "t", "remedy": "r"}],
    }  # fmt: skip
    with open(os.devnull, "w") as nowhere:
        console = Console(width=width, height=height, record=True, file=nowhere)
        console.print(view(status, width, height))
        lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    assert len(lines) == height or width < 60
    if width >= 60:
        assert re.search(r" of 50 streams, \d of 30 peers; q quits", lines[-1])
    if height > 10 and width >= 60:
        head = next(number for number, line in enumerate(lines) if "destination" in line)
        assert " busy " in lines[head + 1]
