"""CheckAlive, and the pages that tell of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.daemon.alive import Alive
from proxy.daemon.process import for_as_long
from tests.proxy.support import until


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
