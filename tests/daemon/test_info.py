"""wireproxy's pages: what CheckAlive has heard, and WireGuard's own words."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from proxy.daemon.alive import Alive
from proxy.daemon.info import info_pages, metrics
from proxy.daemon.process import for_as_long
from proxy.web.server import WebServer
from tests.proxy.support import until
from tests.support.networks import RIGHT, memory_pair


async def ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_the_pages() -> None:
    async with memory_pair() as pair:
        config: Any = pair.left.config
        alive = Alive(pair.left, [RIGHT], 5)
        server = WebServer(info_pages(pair.left, alive), None)
        ((_, port),) = await server.listen("127.0.0.1", 0)
        answer = await ask(port, "/readyz")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b'{"%s":0}\n' % RIGHT.encode())
        async with for_as_long(alive.run()):
            await until(lambda: alive.pongs[RIGHT] > 0)
        answer = await ask(port, "/readyz?x=1")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b'{"%s":%d}\n' % (RIGHT.encode(), alive.pongs[RIGHT]))
        found = dict(metrics(pair.left))
        assert found["private_key"] == "REDACTED"
        assert int(str(found["rx_bytes"])) > 0
        assert found["public_key"] == config.peers[0].public_key.hex()
        assert abs(int(str(found["last_handshake_time_sec"])) - time.time()) < 60
        answer = await ask(port, "/metrics")
        assert b"private_key=REDACTED\n" in answer
        assert config.interface.private_key.hex().encode() not in answer
        assert (await ask(port, "/")).startswith(b"HTTP/1.1 404 ")
        await server.close()
