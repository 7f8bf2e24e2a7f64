"""Many clients at once, slow-loris ones, and a good client among them; by the thousand in tests/bench/crowd.py."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.session import Limits
from tests.proxy.support import Bench, Client, bench, echo, serving, until
from tests.proxy.test_socks_handler import HELLO, request

EACH = 30
CROWD = 200
SHORT = Limits(sniff_timeout=1.5, handshake_timeout=1.5, head_timeout=1.5, linger_timeout=0.2)
HTTP = b"GET http://192.0.2.1/ HTTP/1.1\r\nHost: 192.0.2.1\r\nX: "


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def ask(made: Bench, port: int) -> None:
    """A good client: three round trips, each answered."""
    client = await made.client()
    await client.send(HELLO[:3])
    await client.exactly(2)
    await client.send(HELLO[3:] + request("127.0.0.1", port))
    await client.exactly(10)
    await client.send(b"x")
    await client.expect(b"x")
    client.end()
    assert await client.rest() == b""
    await client.close()


@asynccontextmanager
async def nothing_stays(made: Bench) -> AsyncIterator[None]:
    """What was there before is there again, and no more: descriptors, tasks, sessions, deadlines."""
    before = descriptors(), len(asyncio.all_tasks())
    yield
    context = made.proxy._context
    await until(lambda: not context.open and not context.sessions)
    await until(lambda: (descriptors(), len(asyncio.all_tasks())) == before)
    assert not context.handshakes
    assert not any(context.deadlines._queues.values())


async def drip(client: Client, words: bytes) -> None:
    """A byte at a time, for as long as the proxy takes them."""
    try:
        for word in words:
            await client.send(bytes([word]))
            await asyncio.sleep(0.25)
    except ConnectionError:
        pass


async def test_slow_clients_are_gone_by_their_deadline() -> None:
    """Silent ones, and ones that never finish what they say; a good client does not notice."""
    async with serving(echo) as port, bench(limits=SHORT) as made:
        await ask(made, port)
        async with nothing_stays(made):
            loop = asyncio.get_running_loop()
            clients = [await made.client() for _ in range(3 * EACH)]
            socks, http = clients[EACH : 2 * EACH], clients[2 * EACH :]
            dripping = [loop.create_task(drip(one, b"\x05\xff" + bytes(255))) for one in socks]
            dripping += [loop.create_task(drip(one, HTTP + b"x" * 1000)) for one in http]
            began = loop.time()
            heard = asyncio.gather(*[one.exchange(b"") for one in clients])
            good = 0
            while not heard.done():
                await ask(made, port)
                good += 1
            # Each deadline begins with the first byte at the latest, and no byte moves it.
            assert loop.time() - began < 2 * 1.5 + 2
            assert good > 1
            answers = await heard
            assert answers[: 2 * EACH] == [b""] * 2 * EACH
            assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers[2 * EACH :])
            for task in dripping:
                task.cancel()
            await asyncio.wait(dripping)
            for one in clients:
                await one.close()
        refused = made.proxy.statistics().refused
        assert (refused["sniff-timeout"], refused["handshake-timeout"], refused["http-408"]) == (EACH, EACH, EACH)


async def test_slow_clients_push_out_each_other_first() -> None:
    """Where more of them come than may be in their dialogue, the oldest go; a good client is younger than they."""
    limits = Limits(handshakes=EACH)
    async with serving(echo) as port, bench(limits=limits) as made, nothing_stays(made):
        clients = []
        for _ in range(5):
            clients += [await made.client() for _ in range(EACH)]
            await ask(made, port)
            assert made.proxy.statistics().handshakes <= EACH
        pushed = made.proxy.statistics().refused["handshake-limit"]
        assert 4 * EACH <= pushed <= 4 * EACH + 5
        assert [await one.rest() for one in clients[:EACH]] == [b""] * EACH
        for one in clients:
            await one.close()


async def test_a_crowd_comes_and_goes() -> None:
    """All held at once, each of which works to its end."""
    async with serving(echo) as port, bench() as made:
        await ask(made, port)
        async with nothing_stays(made):
            clients = []
            for _ in range(CROWD):
                client = await made.client()
                await client.send(HELLO + request("127.0.0.1", port))
                clients.append(client)
            for number, client in enumerate(clients):
                await client.exactly(12)
                await client.send(b"%d" % number)
            await ask(made, port)
            assert made.proxy.statistics().connections >= CROWD
            for number, client in enumerate(clients):
                await client.expect(b"%d" % number)
                client.end()
            for client in clients:
                assert await client.rest() == b""
                await client.close()
            made.net.transports.clear()
            del client, clients
            gc.collect()
            made._clients.clear()
