"""The client of commands, blocking and not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.admin import client
from proxy.admin.client import Client
from proxy.admin.paths import SocketError
from proxy.admin.protocol import CommandError
from tests.admin.conftest import Admin, serving, until


async def test_blocking(admin: Admin) -> None:
    def calls() -> None:
        assert client.call("ping", path=admin.path) == "pong"
        assert client.call("echo", {"a": 1}, path=admin.path) == {"a": 1}
        assert list(client.stream("count", {"to": 3}, path=admin.path)) == [0, 1, 2]
        stream = client.stream("count", path=admin.path)
        assert next(stream) == 0
        assert isinstance(stream, Iterator)
        stream.close()
        with pytest.raises(CommandError, match="is nosuch enabled") as caught:
            client.call("nosuch", path=admin.path)
        assert caught.value.code == "unknown-command"
        with pytest.raises(CommandError, match="the answer is a stream"):
            client.call("count", {"to": 1}, path=admin.path)
        items = client.stream("count", {"to": 1, "fail": True}, path=admin.path)
        assert next(items) == 0
        with pytest.raises(CommandError, match="count: no more"):
            next(items)
        with pytest.raises(TimeoutError):
            client.call("wait", path=admin.path, timeout=0.05)

    await asyncio.to_thread(calls)
    await until(lambda: admin.ended.count("count") == 4 and "wait" in admin.ended)


async def test_async(admin: Admin) -> None:
    caller = Client(admin.path)
    assert await caller.call_async("echo", {"b": None}) == {"b": None}
    assert [item async for item in caller.stream_async("count", {"to": 2})] == [0, 1]
    items = caller.stream_async("count")
    assert isinstance(items, AsyncIterator)
    async with contextlib.aclosing(items) as stream:  # type: ignore[type-var]
        async for item in stream:
            assert item == 0
            break
    await until(lambda: admin.ended.count("count") == 2)
    waiting = asyncio.ensure_future(caller.call_async("wait"))
    await admin.began.wait()
    waiting.cancel()
    await until(lambda: "wait" in admin.ended)


async def test_the_daemon_stops(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with serving(path) as admin:
        waiting = asyncio.ensure_future(Client(path).call_async("wait"))
        await admin.began.wait()
    with pytest.raises(CommandError, match="the daemon is stopping") as caught:
        await waiting
    assert caught.value.code == "system-shutdown"


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match=r"no daemon answers at .*a\.sock: No such file"):
        client.call("ping", path=tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "b.sock"))
    with pytest.raises(SocketError, match="Connection refused; is `usernet run` running"):
        client.call("ping", path=tmp_path / "b.sock")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_somebody_else_answers(tmp_path: Path, answer: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(other, tmp_path / "a.sock")
    with pytest.raises(CommandError, match=r"no daemon of ours|not JSON|hung up without an answer"):
        await Client(tmp_path / "a.sock").call_async("ping")
    server.close()


async def test_an_answer_of_another_user(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.admin.client.credentials", lambda sock: (1, 4711))
    monkeypatch.setattr("os.geteuid", lambda: 4712)
    with pytest.raises(SocketError, match="is uid 4711, and not us"):
        await Client(admin.path).call_async("ping")
