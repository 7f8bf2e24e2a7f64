"""A server with handlers of every kind, on a socket of its own; on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.admin.protocol import BadArguments, Replies, Reply, Request, encode_request
from proxy.admin.server import AdminServer
from usernet.errors import UsernetError


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Admin(AdminServer):
    """What its handlers did, for tests to see."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.given = 0  # items of /count
        self.ended: list[str] = []  # of what was cancelled or closed
        self.disconnected = asyncio.Event()
        self.began = asyncio.Event()
        self.release = asyncio.Event()
        self.on_disconnected(lambda session: self.disconnected.set())
        self.register("ping", self._ping)
        self.register("echo", self._echo)
        self.register("bad", self._bad)
        self.register("wait", self._wait)
        self.register("change", self._change, changes=True)
        self.register("count", self._count)
        self.register("late", self._late)

    async def _ping(self, args: dict[str, Any]) -> str:
        return "pong"

    async def _echo(self, args: dict[str, Any]) -> Any:
        return args

    async def _bad(self, args: dict[str, Any]) -> Any:
        match args.get("how"):
            case "arguments":
                raise BadArguments("how is one of these")
            case "user":
                raise UsernetError("there is no such peer")
            case "os":
                raise PermissionError(13, "Permission denied", "/some/file")
            case "json":
                return {1, 2}
            case _:
                raise KeyError("oops")

    async def _wait(self, args: dict[str, Any]) -> str:
        self.began.set()
        try:
            await self.release.wait()
        finally:
            self.ended.append("wait")
        return "waited"

    async def _change(self, args: dict[str, Any]) -> str:
        self.began.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.ended.append("change, cut")
            raise
        self.ended.append("change")
        return "changed"

    async def _count(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        """`size`: each item has so many bytes; `to`: how many there are, else it waits for ever after each."""
        try:
            for number in range(args.get("to", 1 << 30)):
                self.given += 1
                yield "x" * args["size"] if "size" in args else number
                if "to" not in args and "size" not in args:
                    await asyncio.Event().wait()
            if args.get("fail"):
                raise UsernetError("no more")
        finally:
            self.ended.append("count")

    async def _late(self, args: dict[str, Any]) -> Any:
        """Decides then that it is a stream."""
        return self._count(args) if args else "no stream"


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    async with serving(tmp_path / "a.sock") as server:
        yield server


@contextlib.asynccontextmanager
async def serving(path: Path, seconds: float = 20) -> AsyncIterator[Admin]:
    server = Admin(seconds)
    await server.listen(path)
    try:
        yield server
    finally:
        await server.close()


class Caller:
    """A client that does as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._replies = Replies()

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, path: Path | None) -> AsyncIterator[Caller]:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    def ask(self, command: str, args: dict[str, Any] | None = None, number: int = 1) -> None:
        self.writer.write(encode_request(Request(number, command, args or {})))

    async def reply(self) -> Reply:
        while (reply := self._replies.next_event()) is None:
            data = await self.reader.read(1 << 16)
            if not data:
                raise EOFError
            self._replies.receive_data(data)
        return reply


async def until(condition: Any) -> None:
    """Let the loop turn until it holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)
