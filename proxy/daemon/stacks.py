"""Where every task of a loop stands: not only its outermost coroutine, as asyncio shows it, but what that awaits, too.

Stacks hold places in the code and no values, so nothing secret is in them.  May be asked from another thread.
"""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

DEPTH: Final = 100  # of a chain of coroutines, should it be without end
MOST: Final = 500  # tasks


def task_stacks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    """Lines, the outermost coroutine of each task first."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    for task in tasks[:MOST]:
        yield f"task {task.get_name()}:"
        yield from map(_place, _frames(task.get_coro()))
    if len(tasks) > MOST:
        yield f"and {len(tasks) - MOST} tasks more"


def _frames(awaited: Any) -> Iterator[FrameType]:
    """Of a coroutine, or whatever else can be awaited, and of what it awaits."""
    for _ in range(DEPTH):
        for kind, below in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            if hasattr(awaited, f"{kind}_frame"):
                frame, awaited = getattr(awaited, f"{kind}_frame"), getattr(awaited, below)
                break
        else:
            return  # a future: that is what it waits for
        if frame is None:  # it has ended
            return
        yield frame


def _place(frame: FrameType) -> str:
    code = frame.f_code
    line = linecache.getline(code.co_filename, frame.f_lineno).strip()
    return f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}' + (f": {line}" if line else "")
