"""A proxy served inside the tunnel, by a real process, to a peer in this one."""

from __future__ import annotations

import asyncio

from tests.cli.support import Daemon
from tests.cli.test_run import FAR, NEAR, Far, far
from tests.proxy.support import echo
from tests.proxy.test_socks_handler import request

__all__ = ["far"]  # a fixture

SECTION = "[Socks5]\nBindAddress = :1080\nInside = true\n"


async def test_a_peer_is_served_and_gets_into_the_tunnel_only(far: Far) -> None:
    far.append(SECTION + "Username = me\nPassword = word\n")
    local = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with local, Daemon.start("run", str(far.file)) as daemon:
        await daemon.line("handshake with .* completed")
        await daemon.line(rf"proxy: SOCKS5 inside the tunnel, on {NEAR}:1080")
        outside = local.sockets[0].getsockname()[1]
        # 192.0.2.9 is of no peer: without a rule nothing leaves by this machine's own network.
        for host, port, reply in ((FAR, 80, 0), ("127.0.0.1", outside, 2), ("192.0.2.9", 80, 3), (NEAR, 1080, 2)):
            reader, writer = await far.network.open_connection(NEAR, 1080)
            writer.write(b"\x05\x01\x02\x01\x02me\x04word" + request(host, port))
            assert await reader.readexactly(4) == b"\x05\x02\x01\x00"
            assert (await reader.readexactly(10))[1] == reply
            if not reply:
                writer.write(f"GET / HTTP/1.0\r\nHost: {FAR}\r\n\r\n".encode())
                assert b"You came through the tunnel" in await reader.read()
            writer.close()
        assert await daemon.stop() == 0


async def test_not_without_a_password(far: Far) -> None:
    far.append(SECTION)
    async with Daemon.start("run", str(far.file)) as daemon:
        assert await daemon.end() == 1
    assert "port 1080 inside the tunnel is open to every peer and asks for no password" in daemon.lines[-1]
