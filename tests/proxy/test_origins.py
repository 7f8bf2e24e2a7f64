"""Request smuggling and header injection: what the proxy lets through is read alike by every server behind it.

Each variant of smuggling.py is told to the proxy with a plain request right behind it.  The proxy either refuses, or
says something that nginx, aiohttp, gunicorn and uvicorn (both of its parsers) understand as it does: the same requests,
in the same order, with the same method, target, fields and body, and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.mux import HTTP, sniff
from tests.proxy.belief import believed
from tests.proxy.smuggling import VARIANTS
from tests.proxy.support import Bench, LoopNet, bench
from tests.support.origins import KINDS, Seen, origins, read
from tests.support.skipping import needs

AT_ONCE = 8


def by_variant(seen: list[Seen]) -> dict[int, list[Seen]]:
    found: dict[int, list[Seen]] = defaultdict(list)
    for one in seen:
        number = re.search("[/?]v([0-9]{4})/", one.target)
        assert number is not None, one
        found[int(number[1])].append(one)
    return found


async def through(made: Bench, said: bytes, gate: asyncio.Semaphore) -> bytes:
    """All that the client hears; a request that is cut short ends in a reset."""
    async with gate:
        client = await made.client()
        heard = b""
        with contextlib.suppress(ConnectionError):
            await client.send(said)
            client.end()
            while piece := await client.reader.read(65536):
                heard += piece
        await client.close()
        return heard


class To(LoopNet):
    """Whatever the port: the origin's."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        return await super().create_connection(protocol_factory, host, self._port)


async def beliefs() -> dict[int, list[Seen]]:
    """For each variant that is not refused.  What is gets a fitting status, and the same however it is cut."""
    found: dict[int, list[Seen]] = {}
    for number, (name, said) in enumerate(VARIANTS):
        if sniff(said[0]) != HTTP:
            continue
        seen, answer = await believed([said])
        assert seen or re.match(rb"HTTP/1\.1 (400|417|431|501|505) ", answer) or not answer, name
        assert (seen, answer) == await believed([said[at : at + 7] for at in range(0, len(said), 7)]), name
        if seen:
            found[number] = seen
    return found


@pytest.mark.timeout(180)
async def test_every_origin_reads_what_the_proxy_wrote(tmp_path: Path) -> None:
    needs("nginx")
    asyncio.get_running_loop().set_debug(False)  # thousands of exchanges
    believe = await beliefs()
    heard: dict[str, list[bytes]] = {}
    with origins(tmp_path) as ports:
        for kind in KINDS:
            async with bench(net=To(ports[kind])) as made:
                gate = asyncio.Semaphore(AT_ONCE)
                heard[kind] = await asyncio.gather(*[through(made, VARIANTS[number][1], gate) for number in believe])
    wrong = []
    for kind in KINDS:
        found = by_variant(read(tmp_path / kind))
        assert not found.keys() - believe.keys(), "refused by the proxy, and yet it came through"
        whole = 0
        for (number, belief), answers in zip(believe.items(), heard[kind], strict=True):
            statuses = re.findall(rb"HTTP/1\.1 ([2-5])[0-9][0-9] ", answers)
            # An origin may refuse what it does not know, an odd method or escape, and has then understood nothing else
            taken = [one for one, status in zip(belief, statuses, strict=False) if status == b"2"]
            whole += taken == belief
            if found[number] != taken or len(statuses) < len(belief):
                wrong.append((kind, *VARIANTS[number], belief, found[number], answers))
        assert whole > 300, kind
    assert wrong == []
