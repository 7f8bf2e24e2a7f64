"""A protocol of the BIRD routing daemon that is enabled while the tunnel is there.

The control protocol, as birdc speaks it (BIRD's doc/reply_codes and client/client.c): a line of ours is a command; each
line of a reply begins with four digits and a space, or `-` where more lines come, or with a space alone where the code
is that of the line before.  0xxx is well, 8xxx and 9xxx are errors.  The greeting is 0001.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from proxy.daemon.process import log

PROTOCOL: Final = "usernet"  # its name in bird.conf
WITHIN: Final = 5.0  # s for a reply
STOP_WITHIN: Final = 1.0  # s for the last one
PAUSES: Final = (1.0, 2.0, 5.0, 15.0)  # s between attempts to connect
GREETING: Final = 1
ERRORS: Final = 8000  # and above
MAX_LINES: Final = 64  # of a reply; those that are of interest have two


class BirdError(Exception):
    """What BIRD, or the way to it, has against it."""


class Bird:
    """`run` keeps a connection, and BIRD's protocol as it was last wanted; `close` disables it."""

    def __init__(self, path: str | os.PathLike[str], protocol: str = PROTOCOL) -> None:
        self._path = os.fspath(path)
        self._protocol = protocol
        self._up = False
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._failed = ""  # why, as it has been said already

    def want(self, up: bool) -> None:
        """Enabled, or disabled, as soon as may be."""
        if up != self._up:
            self._up = up
            self._changed.set()

    async def run(self) -> None:
        """For ever.  Whenever BIRD is there (again) it is told how it stands."""
        attempt = 0
        while True:
            try:
                reader, writer = await self._connect()
                while True:
                    self._changed.clear()
                    await self._tell(reader, writer, self._up)
                    attempt = 0
                    await self._until_changed(reader)
            except (OSError, BirdError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                self._lost(error)
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1

    async def close(self) -> None:
        """After `run` was cancelled."""
        try:
            async with asyncio.timeout(STOP_WITHIN):
                # Anew: the last connection may be in the middle of a reply.
                self._hang_up()
                await self._tell(*await self._connect(), False)
        except (OSError, BirdError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.warning("BIRD: %s may still be enabled: %s", self._protocol, _why(error))
        finally:
            self._hang_up()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(WITHIN):
            reader, self._writer = await asyncio.open_unix_connection(self._path)
            code, text = await _reply(reader)
        if code != GREETING:
            raise BirdError(f"it greets with {text!r}, which BIRD does not")
        return reader, self._writer

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        verb = "enable" if up else "disable"
        writer.write(f'{verb} "{self._protocol}"\n'.encode())
        async with asyncio.timeout(WITHIN):
            await writer.drain()
            code, text = await _reply(reader)
        if code >= ERRORS:
            raise BirdError(f"`{verb} {self._protocol}`: {text}")
        self._failed = ""
        log.info("BIRD: protocol %s %s", self._protocol, "enabled" if up else "disabled")

    async def _until_changed(self, reader: asyncio.StreamReader) -> None:
        """Or until BIRD goes.  Raises BirdError."""
        changed, gone = (asyncio.ensure_future(work) for work in (self._changed.wait(), reader.read(1)))
        try:
            await asyncio.wait((changed, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise BirdError("it has closed the connection" if not gone.result() else "it speaks unasked")
        finally:
            for task in (changed, gone):
                task.cancel()
            await asyncio.wait((changed, gone))

    def _lost(self, error: Exception) -> None:
        self._hang_up()
        why = _why(error)
        if why != self._failed:
            self._failed = why
            log.warning("BIRD at %s: %s; trying again", self._path, why)

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def _reply(reader: asyncio.StreamReader) -> tuple[int, str]:
    """The highest code of a reply, which is that of an error if there is one, and what its line says."""
    worst, said = 0, ""
    for _ in range(MAX_LINES):
        line = (await reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip("\n")
        if line.startswith((" ", "+")):  # more of the line before; asynchronous
            continue
        digits, more, text = line[:4], line[4:5], line[5:].strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) == 4 and more in (" ", "-")):
            raise BirdError(f"it answers {line[:80]!r}, which BIRD does not")
        if int(digits) >= worst:
            worst, said = int(digits), text
        if more == " ":
            return worst, said
    raise BirdError("its reply has no end")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, asyncio.IncompleteReadError):
        return "it has closed the connection"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
