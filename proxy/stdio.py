"""Standard input and output joined to a connection: what ssh's ProxyCommand and wireproxy's [STDIOTunnel] are.

Both may be pipes, files, terminals or sockets, and are shared with whoever started us, so they stay blocking: a thread
for each reads and writes.  Backpressure is that a piece is awaited before the next one is asked for.  Nothing but the
far end's bytes goes to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from usernet.errors import UsernetError

PIECE = 256 << 10

T = TypeVar("T")
_Call = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class OutputGone(UsernetError):
    """Nobody reads our standard output any more."""


class Blocking:
    """A thread for calls that block.  It never keeps the process from ending, as an executor's would."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((future, function, arguments))
        return await future

    def close(self) -> None:
        """Let the thread go, once what it does has ended."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, arguments = call
            result: Any = None
            error = None
            try:
                result = function(*arguments)
            except OSError as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: OSError | None) -> None:
    if future.done():  # given up
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stdin: int = 0, stdout: int = 1) -> None:
    """Until both directions have ended, or the far one has where a person types.

    The end of standard input becomes a write-EOF, and the far end's EOF the end of standard output.  Raises the
    ConnectionError that broke it, and OutputGone.
    """
    up = asyncio.ensure_future(_upward(stdin, writer))
    output = Blocking()
    try:
        while data := await reader.read(PIECE):
            try:
                await output.call(_write, stdout, data)
            except OSError as error:
                writer.transport.abort()  # the far end is not to go on: an end of ours only would let it
                raise OutputGone(f"cannot write to standard output: {error.strerror}") from None
        if not os.isatty(stdin):
            # Whoever gave us pipes sees this end, and closes the other, or has more to say.
            await output.call(_end, stdout)
            await up
    finally:
        up.cancel()
        output.close()
        writer.close()


async def _upward(stdin: int, writer: asyncio.StreamWriter) -> None:
    """Ends with what ends the connection, too, of which the other direction learns by itself."""
    source = Blocking()
    with contextlib.suppress(OSError):  # a terminal that is gone is an end as well
        while data := await source.call(os.read, stdin, PIECE):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
    source.close()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _end(descriptor: int) -> None:
    """Close it, and keep its number from being another file's."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
