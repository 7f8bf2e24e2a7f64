"""Says a page, then echoes, by WebSocket (TCP) and by QUIC (UDP): `python python_server.py PORT PAGE CHAIN KEY`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aioquic.asyncio.server import serve as serve_quic
from aioquic.quic.configuration import QuicConfiguration
from websockets.asyncio.server import ServerConnection, serve


async def main(port: int, page: str, chain: str, key: str) -> None:
    said = Path(page).read_text()
    echoes = set()

    async def chat(connection: ServerConnection) -> None:
        await connection.send(said)
        async for message in connection:
            await connection.send(message)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said.encode())
        writer.write(await reader.read())
        writer.write_eof()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(echo(reader, writer))
        echoes.add(task)
        task.add_done_callback(echoes.discard)

    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    configuration.load_cert_chain(chain, key)
    await serve_quic("::", port, configuration=configuration, stream_handler=on_stream)
    async with serve(chat, None, port, max_size=None):
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
