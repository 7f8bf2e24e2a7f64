"""wireproxy's --info: /readyz, by its CheckAlive, and /metrics, which is the text of WireGuard's `get=1`.

Read https://www.wireguard.com/xplatform/.  Keys that are secret read REDACTED.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator

import h11

from proxy.admin.uapi import describe, encode
from proxy.daemon.alive import Alive
from usernet.aio.engine import Engine

SECONDS = 10.0  # for a whole request and its answer
HEAD_MAX = 16 << 10

Page = tuple[int, str]


@contextlib.asynccontextmanager
async def inform(host: str, port: int, pages: Callable[[str], Page]) -> AsyncIterator[tuple[str, int]]:
    """Serve these pages for as long as the block lasts; yields where.  OSError where it cannot be."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, h11.RemoteProtocolError):  # TimeoutError is the first, too
            async with asyncio.timeout(SECONDS):
                await _answer(reader, writer, pages)
        writer.close()

    server = await asyncio.start_server(one, host or None, port)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pages: Callable[[str], Page]) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(HEAD_MAX))
    if not isinstance(event, h11.Request):
        return
    status, text = pages(event.target.partition(b"?")[0].decode("ascii", "replace"))
    body = text.encode()
    fields = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    for answer in (
        h11.Response(status_code=status, headers=fields),
        h11.Data(body if event.method != b"HEAD" else b""),
        h11.EndOfMessage(),
    ):
        writer.write(connection.send(answer) or b"")
    await writer.drain()


def pages_of(net: Engine, alive: Alive) -> Callable[[str], Page]:
    """By path."""

    def page(path: str) -> Page:
        if path == "/readyz":
            return 200 if alive.is_ready() else 503, json.dumps(alive.pongs, separators=(",", ":")) + "\n"
        if path == "/metrics":
            return 200, encode(metrics(net)).decode()
        return 404, "the pages are /readyz and /metrics\n"

    return page


def metrics(net: Engine) -> Iterator[tuple[str, object]]:
    """The keys of `get=1` that have a meaning here, in its order."""
    return describe(net.config, net.listen_port, net.statistics().tunnel.peers, secrets=False)
