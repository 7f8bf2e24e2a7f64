"""A sampling profile of this very process: a thread that looks where the others are, a hundred times a second."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from types import FrameType, TracebackType
from typing import Final

INTERVAL: Final = 0.01  # s
DEPTH: Final = 100


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
                    self._counts[";".join([names.get(ident, "thread"), *_path(frame)])] += 1

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
