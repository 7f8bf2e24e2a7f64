"""Every task, and all that it awaits."""

from __future__ import annotations

import asyncio

from proxy.daemon.stacks import MOST, task_stacks


async def innermost(ready: asyncio.Event) -> None:
    ready.set()
    await asyncio.Event().wait()


async def outermost(ready: asyncio.Event) -> None:
    await innermost(ready)


async def test_a_chain_of_coroutines() -> None:
    ready = asyncio.Event()
    task = asyncio.create_task(outermost(ready), name="chain")
    await ready.wait()
    lines = list(task_stacks(asyncio.get_running_loop()))
    at = lines.index("task chain:")
    assert "in outermost: await innermost(ready)" in lines[at + 1]
    assert "in innermost: await asyncio.Event().wait()" in lines[at + 2]
    assert "in wait" in lines[at + 3]
    assert any("in test_a_chain_of_coroutines" in line for line in lines)  # this one, which runs
    task.cancel()
    await asyncio.wait((task,))


async def test_many_tasks_are_counted() -> None:
    tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in range(MOST + 10)]
    lines = list(task_stacks(asyncio.get_running_loop()))
    assert sum(line.startswith("task ") for line in lines) == MOST
    assert lines[-1] == "and 11 tasks more"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
