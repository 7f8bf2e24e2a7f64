"""WireGuard inside WireGuard: a second tunnel whose datagrams travel through the first one.

`python nested_client.py OUTER INNER HOST` fetches /blob from HOST through both; prints its size and digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable
from typing import Any

from usernet import Network, open_tunnel
from usernet.burst.packets import DatagramBurst, SendBurst
from usernet.config import load


class TunnelledLink(asyncio.DatagramProtocol):
    """A DatagramLink upon a datagram endpoint of another network."""

    port = 0

    def __init__(self) -> None:
        self._arrived: list[DatagramBurst] = []
        self._readable: Callable[[], None] = lambda: None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._tell)
        self._arrived.append(DatagramBurst(addr, memoryview(data), len(data), [len(data)]))

    def _tell(self) -> None:
        self._readable()

    def receive(self) -> list[DatagramBurst]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def send(self, burst: SendBurst) -> bool:
        for at in range(0, len(burst.buf), burst.segment_size):
            self._transport.sendto(bytes(burst.buf[at : at + burst.segment_size]), burst.address)
        return True

    def on_readable(self, callback: Callable[[], None]) -> None:
        self._readable = callback

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        """It never blocks: what the outer network's queue does not take is lost, as on a real path."""

    def close(self) -> None:
        self._readable = lambda: None
        self._transport.close()


async def main(outer: str, inner: str, host: str) -> None:
    async with open_tunnel(outer) as carrier:
        _, link = await carrier.create_datagram_endpoint(TunnelledLink)
        async with Network(load(inner), datagram_link=link) as net:
            reader, writer = await net.open_connection(host, 80)
            writer.write(f"GET /blob HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            body = await reader.read()
            writer.close()
    print(len(body), hashlib.sha256(body).hexdigest())


asyncio.run(main(*sys.argv[1:4]))
