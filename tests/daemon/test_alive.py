"""CheckAlive, and the pages that tell of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from proxy.daemon.alive import Alive
from proxy.daemon.app import for_as_long
from proxy.daemon.info import inform, metrics, pages_of
from tests.proxy.support import until
from tests.support.networks import RIGHT, memory_pair


class Pings:
    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.count = 0

    async def ping(self, host: str, *, timeout: float) -> float:
        self.count += 1
        if host in self.dead:
            raise TimeoutError
        return 0.01


async def test_silence_and_return(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "usernet")
    net = Pings()
    alive = Alive(net, ["10.0.0.1", "10.0.0.2"], 0.01)
    net.dead.add("10.0.0.2")
    assert not alive.is_ready()
    async with for_as_long(alive.run()):
        await until(lambda: net.count > 6)
        assert alive.pongs["10.0.0.1"] >= time.time() - 5
        assert alive.pongs["10.0.0.2"] == 0
        assert not alive.is_ready()
        net.dead.clear()
        await until(lambda: alive.pongs["10.0.0.2"] > 0)
        assert alive.is_ready()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "CheckAlive: 10.0.0.2 does not answer: no echo came back",
        "CheckAlive: 10.0.0.2 answers again",
    ]


async def test_an_answer_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = Alive(Pings(), ["10.0.0.1"], 5)
    alive.pongs["10.0.0.1"] = 1000
    for now, ready in ((1006.9, True), (1007.1, False)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert alive.is_ready() is ready


async def test_without_addresses_it_is_ready_and_may_be_given_some() -> None:
    alive = Alive(Pings(), [], 5)
    assert alive.is_ready()
    async with for_as_long(alive.run()):
        await asyncio.sleep(0)
        alive.ask(["10.0.0.1"], 0.01)
        assert not alive.is_ready()
        await until(alive.is_ready)
        alive.ask([], 5)
        assert alive.pongs == {}


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_the_pages() -> None:
    async with memory_pair() as pair:
        config: Any = pair.left.config
        alive = Alive(pair.left, [RIGHT], 5)
        async with inform("127.0.0.1", 0, pages_of(pair.left, alive)) as (_, port):
            head = b" HTTP/1.1\r\nHost: x\r\n\r\n"
            answer = await ask(port, b"GET /readyz" + head)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert answer.endswith(b'{"%s":0}\n' % RIGHT.encode())
            async with for_as_long(alive.run()):
                await until(lambda: alive.pongs[RIGHT] > 0)
            answer = await ask(port, b"GET /readyz?x=1" + head)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b'{"%s":%d}\n' % (RIGHT.encode(), alive.pongs[RIGHT]))
            found = dict(metrics(pair.left))
            assert found["private_key"] == "REDACTED"
            assert int(str(found["rx_bytes"])) > 0
            assert found["public_key"] == config.peers[0].public_key.hex()
            assert abs(int(str(found["last_handshake_time_sec"])) - time.time()) < 60
            answer = await ask(port, b"GET /metrics" + head)
            assert b"private_key=REDACTED\n" in answer
            assert config.interface.private_key.hex().encode() not in answer
            assert (await ask(port, b"GET /" + head)).startswith(b"HTTP/1.1 404 ")
            assert (await ask(port, b"HEAD /readyz" + head)).endswith(b"\r\n\r\n")
            for bad in (b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x" * 40_000 + b"\r\n\r\n"):
                assert await ask(port, bad) == b""
