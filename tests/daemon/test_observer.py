"""However many ask, there is one look at a time."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.daemon.observer import OFTEN, SELDOM, WATCHED, Observer
from proxy.status.history import Counts
from proxy.status.snapshot import Status
from tests.status.support import a_status
from usernet.wireguard.events import HandshakeCompleted, HandshakeStarted

END = ("192.0.2.1", 51820)
COMPLETED = HandshakeCompleted(bytes(32), END, True)


class Looks:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.cost = 0.0
        self.error: Exception | None = None

    def look(self) -> Status:
        self.times.append(time.perf_counter())
        end = time.perf_counter() + self.cost
        while time.perf_counter() < end:
            pass
        if self.error is not None:
            raise self.error
        return a_status()

    def count(self) -> tuple[Counts, int]:
        return {}, 0


@pytest.fixture
async def looks() -> Looks:
    return Looks()


@pytest.fixture
async def observer(looks: Looks) -> Observer:
    return Observer(asyncio.get_running_loop(), looks.look, looks.count)


async def test_whoever_asks_meanwhile_shares_one(looks: Looks, observer: Observer) -> None:
    found = await asyncio.gather(*(observer.status() for _ in range(50)))
    assert len(looks.times) == 1
    assert all(one is found[0] for one in found)
    assert await observer.status() is not found[0]
    assert len(looks.times) == 2


async def test_a_dear_look_is_seldom(looks: Looks, observer: Observer) -> None:
    looks.cost = 0.01
    for _ in range(3):
        await observer.status()
    gaps = [after - before for before, after in zip(looks.times, looks.times[1:], strict=False)]
    assert min(gaps) >= 0.09, "nine tenths of the time are for what is carried"


async def test_one_that_gives_up_takes_nothing_from_others(looks: Looks, observer: Observer) -> None:
    first, second = (asyncio.ensure_future(observer.status()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).name == "wg0"


async def test_a_failure_is_told_to_whoever_asked_and_to_nobody_else(looks: Looks, observer: Observer) -> None:
    looks.error = ValueError("x")
    with pytest.raises(ValueError, match="x"):
        await observer.status()
    looks.error = None
    assert (await observer.status()).name == "wg0"


async def test_pushed_after_each_handshake(looks: Looks, observer: Observer) -> None:
    pushed: list[Status] = []
    arrived = asyncio.Event()

    def callback(status: Status) -> None:
        pushed.append(status)
        arrived.set()

    def broken(status: Status) -> None:
        raise RuntimeError

    observer.event(COMPLETED)  # nobody wants to know
    await asyncio.sleep(0.01)
    assert not looks.times
    observer.on_status(broken)
    end = observer.on_status(callback)
    for _ in range(30):
        observer.event(COMPLETED)
    observer.event(HandshakeStarted(bytes(32), END, 1))
    await arrived.wait()
    assert len(pushed) == len(looks.times) == 1
    end()
    observer.event(COMPLETED)
    await observer.status()
    assert len(pushed) == 1


async def test_samples_are_seldom_unless_somebody_looks(looks: Looks, observer: Observer) -> None:
    loop = asyncio.get_running_loop()
    observer.start()
    assert observer._timer is not None
    assert observer._timer.when() - loop.time() > SELDOM - 1
    await observer.status()
    assert observer._timer.when() - loop.time() <= OFTEN
    observer._watched_until = loop.time() - WATCHED
    observer._sample()
    assert observer._timer.when() - loop.time() > SELDOM - 1
    observer.close()
    observer.close()
