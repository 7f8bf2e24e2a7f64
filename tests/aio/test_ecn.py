"""Marks all the way: routers see only the outer header, and TCP inside hears of it (RFC 6040, RFC 3168)."""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import Any

import pytest

from tests.support.networks import RIGHT, RIGHT6, memory_pair
from usernet.tcp.settings import TcpSettings

CE, ECT_0 = 3, 2
SIZE = 2_000_000


@pytest.mark.parametrize("destination", [RIGHT, RIGHT6])
async def test_a_mark_outside_slows_tcp_inside(destination: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usernet.aio.network.TcpSettings", functools.partial(TcpSettings, ecn_request=True))
    async with memory_pair() as pair:
        assert pair.links is not None
        inject, numbers = pair.links[1].inject, itertools.count(1)
        seen = set()

        def router(datagram: bytes, tos: int = 0) -> None:
            """Every hundredth that may be is marked."""
            seen.add(tos)
            inject(datagram, CE if tos == ECT_0 and next(numbers) % 100 == 0 else tos)

        monkeypatch.setattr(pair.links[1], "inject", router)
        told: list[Any] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            told.append(len(await reader.read(-1)))
            told.append(writer.get_extra_info("tcp_info"))
            writer.close()

        async with await pair.right.start_server(serve, destination, 80):
            reader, writer = await pair.left.open_connection(destination, 80)
            writer.write(bytes(SIZE))
            writer.write_eof()
            assert await reader.read() == b""
            ours = writer.get_extra_info("tcp_info")
            writer.close()
        size, theirs = told
        assert size == SIZE
        assert {0, ECT_0} <= seen
        assert theirs.ce_marks >= SIZE // 1420 // 100
        assert 0 < ours.ecn_reductions <= theirs.ce_marks
