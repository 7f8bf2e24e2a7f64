"""A download by who may not have large socket buffers, from real peers."""

from __future__ import annotations

import hashlib
import socket
from typing import Any

import pytest

from tests.support.lab import INNER_FAR, Lab, socket_in
from usernet import Network
from usernet.aio.stripes import SOCKETS
from usernet.config import load

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

USUAL = 212_992  # net.core.rmem_max; Linux doubles it
SO_RCVBUFFORCE = 33


class Unprivileged(socket.socket):
    def setsockopt(self, *args: Any) -> None:
        if args[:2] == (socket.SOL_SOCKET, SO_RCVBUFFORCE):
            raise PermissionError("Operation not permitted")
        if args[:2] == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            args = *args[:2], min(args[2], USUAL)
        super().setsockopt(*args)


async def test_a_download_with_small_buffers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = lab.blob("blob", 64 << 20)
    network = Network(load(str(lab.config())))
    with socket_in(lab.near), monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Unprivileged)
        await network.__aenter__()
    try:
        reader, writer = await network.open_connection(INNER_FAR, 80)
        writer.write(b"GET /blob HTTP/1.0\r\nHost: far\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        found = hashlib.sha256()
        while piece := await reader.read(1 << 20):
            found.update(piece)
        writer.close()
        assert found.hexdigest() == digest
        udp = network.statistics().udp
        assert udp is not None
        assert [family.receive_buffer for family in udp.families] == [SOCKETS * 2 * USUAL] * 2
    finally:
        await network.__aexit__(None, None, None)
