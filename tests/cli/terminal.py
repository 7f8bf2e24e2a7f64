"""A terminal of some size, a command in it, and what a person sees there."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

import pyte


class Terminal:
    """Needs a running event loop."""

    def __init__(self, columns: int, lines: int) -> None:
        self._lead, self._follow = pty.openpty()
        fcntl.ioctl(self._follow, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        os.set_blocking(self._lead, False)
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._drawn = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._lead, self._read)

    async def run(self, *arguments: str) -> asyncio.subprocess.Process:
        """`usernet` with these arguments."""
        size = {"COLUMNS", "LINES"}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy.cli", *arguments,
            stdin=self._follow, stdout=self._follow, stderr=self._follow, start_new_session=True,
            env={**{name: value for name, value in os.environ.items() if name not in size}, "TERM": "xterm"},
        )  # fmt: skip

    def _read(self) -> None:
        self._stream.feed(os.read(self._lead, 1 << 16))
        self._drawn.set()

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    async def shows(self, pattern: str) -> re.Match[str]:
        """Wait until it does."""
        return await self._until(lambda: re.search(pattern, self.text, re.MULTILINE))

    async def _until(self, look: Callable[[], re.Match[str] | None]) -> re.Match[str]:
        while (found := look()) is None:
            self._drawn.clear()
            await self._drawn.wait()
        return found

    def press(self, keys: bytes) -> None:
        os.write(self._lead, keys)

    def mode(self) -> list[Any]:
        """How it treats keys."""
        return termios.tcgetattr(self._follow)

    def close(self) -> None:
        self._loop.remove_reader(self._lead)
        os.close(self._lead)
        os.close(self._follow)
