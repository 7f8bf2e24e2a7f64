"""A write into the store of the path given that ends, as by SIGKILL, once it has taken a number of its steps.

`python stopping.py PATH STEPS`: the steps taken are said on standard output.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from proxy.state import file
from proxy.state.file import FileStore

left = 0


def step(name: str) -> None:
    global left
    os.write(1, f"{name}\n".encode())
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)


class Halting(io.FileIO):
    """Writes in two halves, which are two steps."""

    def write(self, data: Any) -> int:
        view = memoryview(data)
        for part in (view[: len(view) // 2], view[len(view) // 2 :]):
            super().write(part)
            step("write")
        return len(view)

    def close(self) -> None:
        if not self.closed:
            super().close()
            step("close")


def counted(module: Any, *names: str) -> Any:
    """The module with these functions as steps."""

    def wrapped(name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            result = getattr(module, name)(*arguments, **named)
            step(name)
            return result

        return call

    every = {name: getattr(module, name) for name in dir(module)}
    return types.SimpleNamespace(**{**every, **{name: wrapped(name) for name in names}})


def main(path: Path, steps: int) -> None:
    global left
    store = FileStore(path)
    left = steps
    vars(file).update(
        os=counted(os, "open", "fsync", "rename", "close"),
        tempfile=counted(tempfile, "mkstemp"),
        open=lambda handle, mode: io.TextIOWrapper(io.BufferedWriter(Halting(handle, mode))),
    )
    store.write("a", b"new")


main(Path(sys.argv[1]), int(sys.argv[2]))
