"""A crowd's ends are spread over turns of the loop, in order, and none is lost."""

from __future__ import annotations

import asyncio
import os

import pytest

from proxy.pacing import PER_TURN, Pace
from tests.proxy.support import bench, serving
from tests.proxy.test_socks_handler import HELLO, request


async def test_so_many_in_a_turn() -> None:
    pace, ended = Pace(asyncio.get_running_loop()), list[int]()
    for number in range(3 * PER_TURN):
        pace.run(lambda number=number: ended.append(number))  # type: ignore[misc]
    seen = [len(ended)]
    while len(ended) < 3 * PER_TURN:
        await asyncio.sleep(0)
        seen.append(len(ended))
    assert seen == [PER_TURN, 2 * PER_TURN, 3 * PER_TURN]
    assert ended == list(range(3 * PER_TURN))
    for _ in range(3):
        await asyncio.sleep(0)
    pace.run(lambda: ended.append(-1))
    assert ended[-1] == -1  # at once again


@pytest.mark.sources
async def test_an_end_that_waits_for_its_turn_is_an_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is gone for good before it is passed on: what it sent arrives, with its end."""
    heard = asyncio.get_running_loop().create_future()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read())

    data = os.urandom(1 << 20)
    async with serving(server) as port, bench() as made:
        client = await made.client()
        await client.send(HELLO + request("127.0.0.1", port))
        await client.exactly(12)
        [side] = made.proxy._context.sessions
        monkeypatch.setattr(Pace, "run", lambda pace, end: None)  # its turn never comes
        await client.send(data)
        client.end()
        while not side._ending:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        assert not heard.done()
        side.transport.abort()  # type: ignore[attr-defined]
        assert await heard == data
