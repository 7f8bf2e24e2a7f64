"""What the shell's parts share."""

from __future__ import annotations

import asyncio

from usernet.aio.runtime import Waiters


async def test_waiters_look_in_the_order_in_which_they_came() -> None:
    waiters = Waiters()
    looked: list[int] = []

    async def look(number: int) -> None:
        await waiters.wait()
        looked.append(number)

    tasks = [asyncio.ensure_future(look(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert looked == []
    waiters.wake()
    tasks[1].cancel()  # woken already, and gone before it could look
    waiters.wake()  # who has been woken is not woken twice
    await asyncio.wait(tasks)
    assert looked == [0, 2, 3]


async def test_a_waiter_that_is_cancelled_leaves_nothing() -> None:
    waiters = Waiters()
    task = asyncio.ensure_future(waiters.wait())
    await asyncio.sleep(0)
    assert len(waiters._futures) == 1
    task.cancel()
    waiters.wake()  # before it has had its turn
    await asyncio.wait([task])
    assert task.cancelled()
    assert not waiters._futures


async def test_whoever_waits_again_is_woken_again() -> None:
    waiters = Waiters()
    turns = 0

    async def look() -> None:
        nonlocal turns
        while turns < 3:
            await waiters.wait()
            turns += 1

    task = asyncio.ensure_future(look())
    for _ in range(3):
        await asyncio.sleep(0)
        waiters.wake()
    await task
    assert turns == 3
