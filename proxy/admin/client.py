"""The other end of the admin socket, for commands: one connection for each request.

    Client().call("status")                          # the one daemon that runs, or an error that lists them
    for item in Client(path).stream("log"): ...
    await Client(path).call_async("ping")
    async for item in Client(path).stream_async("status", {"watch": True}): ...

They raise SocketError where no daemon answers, and CommandError with what it said.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.admin.paths import SocketError, credentials, find
from proxy.admin.protocol import (
    Args,
    CommandError,
    End,
    Event,
    Failure,
    Item,
    Replies,
    Request,
    Result,
    encode_request,
)

if TYPE_CHECKING:
    import asyncio

PIECE: Final = 1 << 16
NUMBER: Final = 1  # there is one request on a connection


class Client:
    """`path`: of the admin socket; None: of the one daemon that runs."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = find() if path is None else Path(path)

    def call(self, command: str, args: Args | None = None, *, timeout: float | None = None) -> Any:
        """The result.  TimeoutError where there is none within so many seconds of silence."""
        dialogue = _Dialogue(self.path, command, args)
        with self._connect() as sock:
            sock.settimeout(timeout)
            sock.sendall(dialogue.request)
            while not dialogue.is_over:
                dialogue.receive(sock.recv(PIECE))
        return dialogue.result()

    def stream(self, command: str, args: Args | None = None) -> Generator[Any, None, None]:
        """The items; whoever has enough closes the generator."""
        dialogue = _Dialogue(self.path, command, args)
        with self._connect() as sock:
            sock.sendall(dialogue.request)
            while True:
                yield from dialogue.items()
                if dialogue.is_over:
                    return
                dialogue.receive(sock.recv(PIECE))

    async def call_async(self, command: str, args: Args | None = None) -> Any:
        """As `call`; cancelling it hangs up."""
        dialogue = _Dialogue(self.path, command, args)
        reader, writer = await self._open()
        try:
            writer.write(dialogue.request)
            while not dialogue.is_over:
                dialogue.receive(await reader.read(PIECE))
        finally:
            writer.close()
        return dialogue.result()

    async def stream_async(self, command: str, args: Args | None = None) -> AsyncIterator[Any]:
        """As `stream`."""
        dialogue = _Dialogue(self.path, command, args)
        reader, writer = await self._open()
        try:
            writer.write(dialogue.request)
            while True:
                for item in dialogue.items():
                    yield item
                if dialogue.is_over:
                    return
                dialogue.receive(await reader.read(PIECE))
        finally:
            writer.close()

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self.path))
            _, uid = credentials(sock)
            if uid not in (os.geteuid(), 0) and os.geteuid() != 0:
                raise SocketError(f"whoever answers at {self.path} is uid {uid}, and not us")
        except OSError as error:
            sock.close()
            why = error.strerror or error
            raise SocketError(f"no daemon answers at {self.path}: {why}; is `usernet run` running?") from None
        except BaseException:
            sock.close()
            raise
        return sock

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        import asyncio

        sock = self._connect()
        sock.setblocking(False)
        return await asyncio.open_unix_connection(sock=sock)


class _Dialogue:
    """One request and what is answered."""

    def __init__(self, path: Path, command: str, args: Args | None) -> None:
        self.request = encode_request(Request(NUMBER, command, args or {}))
        self.is_over = False
        self._path = path
        self._result: Result | None = None
        self._items: list[Any] = []
        self._failure: CommandError | None = None
        self._replies = Replies()

    def receive(self, data: bytes) -> None:
        if not data:
            self._fail("gone", f"the daemon at {self._path} hung up without an answer")
        self._replies.receive_data(data)
        while not self.is_over and (reply := self._replies.next_event()) is not None:
            match reply:
                case Failure(code=code, message=message):
                    self._fail(code, message)
                case Event(name=name):
                    why = "is stopping" if name == "system-shutdown" else f"hung up: {name}"
                    self._fail(name, f"the daemon {why}")
                case Result():
                    self._result = reply
                    self.is_over = True
                case Item(value=value):
                    self._items.append(value)
                case End():
                    self.is_over = True

    def _fail(self, code: str, message: str) -> None:
        self._failure = CommandError(code, message)
        self.is_over = True

    def result(self) -> Any:
        if self._failure is not None:
            raise self._failure
        if self._result is None:
            raise CommandError("bad-reply", "the answer is a stream")
        return self._result.value

    def items(self) -> Iterator[Any]:
        """Those that have come; then CommandError, should it have failed behind them."""
        items, self._items = self._items, []
        yield from items
        if self._failure is not None:
            raise self._failure


def call(
    command: str,
    args: Args | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> Any:
    """For a command line: one request to one daemon."""
    return Client(path).call(command, args, timeout=timeout)


def stream(
    command: str, args: Args | None = None, *, path: str | os.PathLike[str] | None = None
) -> Generator[Any, None, None]:
    """The same for a stream."""
    return Client(path).stream(command, args)
