"""A way out that is slower than we are: the socket is full, and neither the loop nor the second core loses anything."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.burst import make_kernel
from tests.support.lab import missing, run, socket_in
from tests.support.networks import RIGHT, udp_pair
from tests.support.skipping import skip
from usernet.aio.sealer import Sealer
from usernet.aio.udp import UdpLink
from usernet.burst.packets import SendBurst

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SIZE = 16 << 20


@pytest.fixture
def slow() -> Iterator[str]:
    """A namespace of its own whose loopback takes 200 Mbit/s; what waits there still fills its socket's buffer."""
    if reason := missing():
        skip(reason)
    name = f"slow{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        inside = ("ip", "netns", "exec", name)
        run(*inside, "ip", "link", "set", "lo", "up")
        tbf = ("rate", "200mbit", "burst", "70k", "limit", "32m")
        run(*inside, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", *tbf)
        yield name
    finally:
        run("ip", "netns", "del", name)


@pytest.mark.sources
async def test_what_the_second_core_could_not_send(monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    make_kernel("native")
    from usernet.burst._native import Worker

    if not Worker.has_core():
        skip("needs two cores")
    came_back: list[SendBurst] = []
    collect = Sealer.collect

    def noted(sealer: Sealer) -> list[SendBurst]:
        unsent = collect(sealer)
        came_back.extend(unsent)
        return unsent

    monkeypatch.setattr(Sealer, "collect", noted)
    assert await is_filled_by_an_upload(slow)
    assert came_back  # full it was


async def test_an_upload_over_a_full_socket(slow: str) -> None:
    make_kernel("native")
    assert await is_filled_by_an_upload(slow)


async def is_filled_by_an_upload(namespace: str) -> bool:
    """Whether the loop found its socket full meanwhile.  All of it has arrived, and nothing was dropped."""
    received: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole, size = hashlib.sha256(), 0
        while data := await reader.read(1 << 18):
            whole.update(data)
            size += len(data)
        received.set_result((size, whole.digest()))
        writer.close()

    pair = udp_pair()
    with socket_in(namespace):
        both = await pair.__aenter__()
    try:
        link = both.left._datagram_link
        assert isinstance(link, UdpLink)
        for entry in link._sockets:
            entry.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 106_496)  # doubled: the usual one
        server = await both.right.start_server(digest, None, 0)
        _, writer = await both.left.open_connection(RIGHT, server.port)
        whole = hashlib.sha256()
        full = False
        for _ in range(SIZE >> 16):
            block = os.urandom(1 << 16)
            whole.update(block)
            writer.write(block)
            await writer.drain()
            full = full or any(entry.blocked for entry in link._sockets)
        writer.write_eof()
        async with asyncio.timeout(30):
            assert await received == (SIZE, whole.digest())
        assert link.statistics().drops == ()
        return full
    finally:
        await pair.__aexit__(None, None, None)
