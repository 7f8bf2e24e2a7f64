"""The real command, as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator


def usernet(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, **(env or {})},
    )


class Daemon:
    """A `usernet` that keeps running, and the lines it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, *arguments: str, python: tuple[str, ...] = ()) -> AsyncIterator[Daemon]:
        """Standard output and error are one; killed at the end unless it has ended.

        A `run` has an admin socket that no other test has, unless the arguments name one.
        """
        if arguments[0] == "run" and "--state" not in arguments and "--statedir" not in arguments:
            arguments = (*arguments, "--state", "mem:")
        if arguments[0] == "run" and "--socket" not in arguments:
            with tempfile.TemporaryDirectory() as directory:
                async with cls.start(*arguments, "--socket", f"{directory}/a.sock", python=python) as daemon:
                    yield daemon
            return
        process = await asyncio.create_subprocess_exec(
            sys.executable, *python, "-m", "proxy.cli", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def line(self, pattern: str) -> re.Match[str]:
        """The first line, said or to come, in which the pattern is found."""
        return await self.line_after(0, pattern)

    async def line_after(self, seen: int, pattern: str) -> re.Match[str]:
        """The same, but not among the first `seen` ones."""
        for line in self.lines[seen:]:
            if found := re.search(pattern, line):
                return found
        assert self.process.stdout is not None
        while raw := await self.process.stdout.readline():
            self.lines.append(raw.decode().rstrip("\n"))
            if found := re.search(pattern, self.lines[-1]):
                return found
        raise AssertionError(f"it ended without {pattern!r}:\n{self.text}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it; its exit status."""
        self.process.send_signal(number)
        return await self.end()

    async def end(self) -> int:
        """Read to its end; its exit status."""
        assert self.process.stdout is not None
        while raw := await self.process.stdout.readline():
            self.lines.append(raw.decode().rstrip("\n"))
        return await self.process.wait()
