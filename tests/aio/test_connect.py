"""Happy Eyeballs (RFC 8305)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from usernet.aio.connect import interleave, race

Attempt = Callable[[], Coroutine[Any, Any, str]]


class Track:
    """Attempts that a test decides, and what became of them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.discarded: list[str] = []
        self._futures: dict[str, asyncio.Future[str]] = {}

    def attempt(self, name: str) -> Attempt:
        async def run() -> str:
            self.started.append(name)
            future = self._futures.setdefault(name, asyncio.get_running_loop().create_future())
            try:
                return await future
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise

        return run

    def succeed(self, name: str) -> None:
        self._futures[name].set_result(name)

    def fail(self, name: str, error: Exception) -> None:
        self._futures[name].set_exception(error)

    async def until_started(self, count: int) -> None:
        while len(self.started) < count:
            await asyncio.sleep(0)

    def race(self, *names: str, delay: float = 60.0) -> asyncio.Task[str]:
        return asyncio.ensure_future(race([self.attempt(name) for name in names], delay, self.discarded.append))


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_the_first_wins_alone() -> None:
    track = Track()
    task = track.race("a", "b")
    await track.until_started(1)
    track.succeed("a")
    assert await task == "a"
    assert track.started == ["a"]


async def test_the_next_starts_when_one_fails() -> None:
    track = Track()
    task = track.race("a", "b")
    await track.until_started(1)
    track.fail("a", ConnectionRefusedError())
    await track.until_started(2)
    track.succeed("b")
    assert await task == "b"


async def test_the_next_starts_after_the_delay_and_losers_are_cancelled() -> None:
    track = Track()
    task = track.race("a", "b", "c", delay=0.001)
    while len(track.started) < 3:
        await asyncio.sleep(0.001)
    track.succeed("b")
    assert await task == "b"
    await settle()
    assert sorted(track.cancelled) == ["a", "c"]
    assert not track.discarded


async def test_one_that_got_there_too_is_discarded() -> None:
    track = Track()
    task = track.race("a", "b", delay=0.001)
    while len(track.started) < 2:
        await asyncio.sleep(0.001)
    track.succeed("a")
    track.succeed("b")
    winner = await task
    await settle()
    assert track.discarded == [{"a": "b", "b": "a"}[winner]]


async def test_the_first_error_is_told() -> None:
    track = Track()
    task = track.race("a", "b")
    await track.until_started(1)
    track.fail("a", ConnectionRefusedError("the first"))
    await track.until_started(2)
    track.fail("b", TimeoutError("the second"))
    with pytest.raises(ConnectionRefusedError, match="the first"):
        await task


async def test_cancelling_the_race_cancels_all() -> None:
    track = Track()
    task = track.race("a", "b", delay=0.001)
    while len(track.started) < 2:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert sorted(track.cancelled) == ["a", "b"]


async def test_nothing_to_try() -> None:
    with pytest.raises(ValueError, match="nothing to try"):
        await race([], 1.0, print)


def test_families_take_turns() -> None:
    four, six = [bytes([n]) * 4 for n in range(3)], [bytes([n]) * 16 for n in range(2)]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert interleave([*four, *six]) == [four[0], six[0], four[1], six[1], four[2]]
    assert interleave(four) == four
    assert interleave([]) == []
