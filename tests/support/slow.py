"""Slow clients of a proxy (slow-loris): silent ones, and ones that say a byte now and then.

    python -m tests.support.slow HOST PORT SILENT SOCKS HTTP PATIENCE

Opens so many of each, and prints one JSON object when the proxy has closed the last of them or PATIENCE seconds are
over: for each kind how many were opened, how many closed, and after how many seconds the last one was.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable

SOCKS_PAUSE, HTTP_PAUSE = 5.0, 1.0  # s between two bytes
# Never ends: a login that takes 255 bytes for the name, a field that goes on and on.
SOCKS = b"\x05\xff" + bytes(255)
HTTP = b"GET http://192.0.2.129/ HTTP/1.1\r\nHost: 192.0.2.129\r\nX-Slow: "


class Slow:
    """`words` one at a time; when it was closed, in seconds from its beginning."""

    def __init__(self, words: Iterable[int], pause: float) -> None:
        self.words = words
        self.pause = pause
        self.opened = False
        self.closed: float | None = None

    async def run(self, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        self.opened, began = True, time.monotonic()
        drip = asyncio.ensure_future(self._drip(writer))
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            self.closed = time.monotonic() - began
            drip.cancel()
            writer.close()

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        for word in self.words:
            writer.write(bytes([word]))
            await asyncio.sleep(self.pause)


async def attack(host: str, port: int, counts: Iterable[int], patience: float) -> dict[str, dict[str, float]]:
    kinds: dict[str, Callable[[], Slow]] = {
        "silent": lambda: Slow(b"", 0),
        "socks": lambda: Slow(SOCKS, SOCKS_PAUSE),
        "http": lambda: Slow(itertools.chain(HTTP, itertools.repeat(ord("x"))), HTTP_PAUSE),
    }
    clients = {kind: [make() for _ in range(count)] for (kind, make), count in zip(kinds.items(), counts, strict=True)}
    tasks = [asyncio.ensure_future(one.run(host, port)) for many in clients.values() for one in many]
    _, pending = await asyncio.wait(tasks, timeout=patience)
    for task in pending:
        task.cancel()
    seen = {}
    for kind, many in clients.items():
        ended = [one.closed for one in many if one.closed is not None]
        seen[kind] = {"opened": sum(one.opened for one in many), "closed": len(ended), "last": max(ended, default=0.0)}
    return seen


def main() -> None:
    host, port, *numbers = sys.argv[1:]
    *counts, patience = map(int, numbers)
    print(json.dumps(asyncio.run(attack(host, int(port), counts, patience))))


if __name__ == "__main__":
    main()
