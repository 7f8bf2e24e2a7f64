"""What this very process is at, and what it is made of.

The profile samples: a thread looks where the others are, a hundred times a second.  Stacks and types hold places in the
code, and no values.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from types import FrameType, TracebackType
from typing import Final

INTERVAL: Final = 0.01  # s
DEPTH: Final = 100
MOST: Final = 10_000  # different stacks; what is seen beyond them is one line
LONGEST: Final = 60.0  # s, over HTTP
TOP: Final = 100


class Profile:
    """Samples for as long as the block lasts."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="profile", daemon=True)

    def __enter__(self) -> Profile:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        own = threading.get_ident()
        while not self._stop.wait(INTERVAL):
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                if ident != own:
                    stack = ";".join([names.get(ident, "thread"), *_path(frame)])
                    self._counts[stack if stack in self._counts or len(self._counts) < MOST else "others"] += 1

    def collapsed(self) -> str:
        """A line a stack, outermost function first, and how often it was seen; the most frequent first."""
        return "".join(f"{stack} {count}\n" for stack, count in self._counts.most_common())


def _path(frame: FrameType | None) -> list[str]:
    path: list[str] = []
    while frame is not None and len(path) < DEPTH:
        code = frame.f_code
        module = frame.f_globals.get("__name__", "?")
        path.append(f"{module}.{code.co_qualname}")
        frame = frame.f_back
    return path[::-1]


def heap() -> str:
    """By the lines that allocated it where tracemalloc runs, else objects by type.  Takes its time: for a thread."""
    tracemalloc = sys.modules.get("tracemalloc")
    if tracemalloc is not None and tracemalloc.is_tracing():
        now, peak = tracemalloc.get_traced_memory()
        largest = tracemalloc.take_snapshot().statistics("lineno")[:TOP]
        return "\n".join([f"traced: {now} bytes now, {peak} at the most", *map(str, largest)])
    kinds = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    return "\n".join(
        (
            f"blocks of memory in use: {sys.getallocatedblocks()}",
            "objects made since the start that the collector knows, by type; PYTHONTRACEMALLOC=1 in the environment"
            " tells sizes and places",
            *(f"{count:9} {kind}" for kind, count in kinds.most_common(TOP)),
        )
    )
