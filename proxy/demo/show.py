"""How the demo speaks: a progress bar and colours on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

Advance = Callable[[int], None]  # told how many bytes more


class Show(Protocol):
    interactive: bool

    def say(self, text: str) -> None: ...

    def transfer(self, label: str, size: int) -> contextlib.AbstractContextManager[Advance]:
        """Shows `size` bytes coming along, and in the end how fast they came."""


class PlainShow:
    """Lines on standard output, for logs and pipes."""

    interactive = False

    def say(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201  # this is what the demo is for

    @contextlib.contextmanager
    def transfer(self, label: str, size: int) -> Iterator[Advance]:
        began = time.monotonic()
        yield lambda _: None
        self.say(f"{label}: {speed(size, time.monotonic() - began)}")


class RichShow:
    """For a person at a terminal."""

    interactive = True

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)  # what is to be pasted is not to be folded

    @contextlib.contextmanager
    def transfer(self, label: str, size: int) -> Iterator[Advance]:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
        )
        began = time.monotonic()
        with Progress(*columns, console=self._console, transient=True, refresh_per_second=5) as progress:
            task = progress.add_task(label, total=size)
            yield lambda more: progress.advance(task, more)
        self.say(f"{label}: {speed(size, time.monotonic() - began)}")


def choose() -> Show:
    return RichShow() if sys.stdout.isatty() else PlainShow()


def speed(size: int, seconds: float) -> str:
    """'64 MiB in 1.2 s, 55.9 MB/s'."""
    return f"{size / (1 << 20):.0f} MiB in {seconds:.1f} s, {size / 1e6 / max(seconds, 1e-9):.1f} MB/s"
