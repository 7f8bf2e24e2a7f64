"""An HTTP server inside the tunnel: answers each request with the size and SHA-256 of its body.

GET /statistics is answered with what its host has counted, as JSON.

`python tunnel_server.py CONFIG PORT`, until TERM; it says `serving` once it does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import signal
import sys

import usernet


async def answer(net: usernet.Network, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    if fields.get(b"expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    size = left = int(fields.get(b"content-length", b"0"))
    digest = hashlib.sha256()
    while left and (piece := await reader.read(min(left, 1 << 18))):
        digest.update(piece)
        left -= len(piece)
    if head.startswith(b"get /statistics "):
        body = json.dumps(dataclasses.asdict(net.statistics().host)).encode()
    else:
        body = f"{size - left} {digest.hexdigest()}\n".encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    writer.close()
    await writer.wait_closed()


async def serve(config: str, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with usernet.open_tunnel(config) as net:
        server = await net.start_server(lambda *streams: answer(net, *streams), None, port)
        net.request_handshakes()
        print("serving", flush=True)
        await stop.wait()
        server.close()


asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
