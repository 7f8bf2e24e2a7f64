"""Downloads /blob slowly over a tunnel whose keys live two seconds; prints its digest and the number of handshakes."""

from __future__ import annotations

import asyncio
import hashlib
import sys

from tests.support.lab import INNER_FAR
from usernet import Network
from usernet.config import load
from usernet.wireguard.events import HandshakeCompleted
from usernet.wireguard.timers import Timing


async def main() -> None:
    handshakes = 0

    def count(event: object) -> None:
        nonlocal handshakes
        handshakes += isinstance(event, HandshakeCompleted)

    async with Network(load(sys.argv[1]), timing=Timing(rekey_after_time=2.0, rekey_timeout=0.5)) as net:
        net.on_event(count)
        reader, writer = await net.open_connection(INNER_FAR, 80)
        writer.write(b"GET /blob HTTP/1.0\r\nHost: far\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        digest = hashlib.sha256()
        while piece := await reader.read(1 << 20):
            digest.update(piece)
            await asyncio.sleep(0.05)  # the pace of the transfer, which is to outlive several keys
        writer.close()
    print(digest.hexdigest(), handshakes)


asyncio.run(main())
