"""Downloads /blob and uploads as much while its tunnel is given a thousand other configurations.

Prints the digest of what came, what the sink says of what it was sent, and how many configurations there were.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from tests.support.lab import INNER_FAR, SINK_PORT
from usernet import Network
from usernet.config import Config, Peer, load

TIMES = 1000


def variant(base: Config, number: int) -> Config:
    """The same tunnel as far as the far peer is concerned, with something else each time: a stranger, a keepalive, MTU,
    name servers, our port now and then, a preshared key that no handshake uses."""
    (far,) = base.peers
    stranger = Peer(
        number.to_bytes(32, "big"),
        preshared_key=number.to_bytes(32, "little"),
        allowed_ips=((bytes((198, 18, number >> 8, number & 255)), 32),),
        endpoint=("192.0.2.2", 1 + number),
    )
    interface = replace(base.interface, mtu=1300 + number % 100, dns=("192.0.2.129",) if number % 2 else ())
    if number % 100 == 50:
        interface = replace(interface, listen_port=40_000 + number)
    peers = (replace(far, persistent_keepalive=1 + number % 50), stranger) if number % 3 else (far,)
    return replace(base, interface=interface, peers=peers)


async def download(net: Network) -> str:
    reader, writer = await net.open_connection(INNER_FAR, 80)
    writer.write(b"GET /blob HTTP/1.0\r\nHost: far\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    digest = hashlib.sha256()
    while piece := await reader.read(1 << 18):
        digest.update(piece)
        await asyncio.sleep(0.005)  # the pace of it, which is to outlive them all
    writer.close()
    return digest.hexdigest()


async def upload(net: Network, data: bytes) -> str:
    reader, writer = await net.open_connection(INNER_FAR, SINK_PORT)
    writer.write(b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(data))
    for at in range(0, len(data), 1 << 18):
        writer.write(data[at : at + (1 << 18)])
        await writer.drain()
        await asyncio.sleep(0.005)
    answer = await reader.read()
    writer.close()
    return answer.split()[-1].decode()


async def main(file: str, blob: str) -> None:
    base = load(file)
    async with Network(base) as net:
        both = asyncio.gather(download(net), upload(net, Path(blob).read_bytes()))
        number = 0
        while number < TIMES or not both.done():
            number += 1
            await net.reconfigure(variant(base, number))
            if number < TIMES and both.done():
                break  # too quick to have proved it: the caller looks at the number
            await asyncio.sleep(0.001)
        print(*await both, number)


asyncio.run(main(*sys.argv[1:]))
