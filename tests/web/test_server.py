"""The server of the daemon's own pages, to a client that says exact bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from proxy.web import server as server_module
from proxy.web.server import Answer, Request, WebServer, text


async def echo(request: Request) -> Answer:
    return text(f"{request.path} {sorted(request.query.items())} {request.fields.get('x-test')}")


async def broken(request: Request) -> Answer:
    raise ValueError("secret")


class Server:
    def __init__(self, made: WebServer, port: int) -> None:
        self.made = made
        self.port = port

    async def exchange(self, words: bytes) -> bytes:
        """All that is said to it, and then nothing more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(words)
        writer.write_eof()
        heard = await reader.read()
        writer.close()
        return heard

    async def ask(self, path: str, *fields: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, bytes]:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{self.port}", *fields, "Connection: close"]
        heard = await self.exchange(("\r\n".join(lines) + "\r\n\r\n").encode())
        head, _, body = heard.partition(b"\r\n\r\n")
        return int(head[9:12]), body


@contextlib.asynccontextmanager
async def serving(hostnames: Collection[str] | None = ()) -> AsyncIterator[Server]:
    made = WebServer({"/echo": echo, "/broken": broken}, hostnames)
    try:
        ((_, port),) = await made.listen("127.0.0.1", 0)
        yield Server(made, port)
    finally:
        await made.close()


async def test_paths_and_queries() -> None:
    async with serving() as made:
        assert await made.ask("/echo?a=1&b&a=2%20x", "X-Test: y") == (200, b"/echo [('a', '2 x'), ('b', '')] y\n")
        assert await made.ask("/nothing") == (404, b"the pages are /echo /broken\n")
        assert (await made.ask("/echo?" + "&".join(map(str, range(100)))))[0] == 400


async def test_head_has_no_body_and_others_are_refused() -> None:
    async with serving() as made:
        assert await made.ask("/echo", method="HEAD") == (200, b"")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            status, _ = await made.ask("/echo", "Content-Length: 0", method=method)
            assert status == 405


async def test_what_a_browser_is_told() -> None:
    async with serving() as made:
        heard = await made.exchange(b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for field in (b"default-src 'none'", b"frame-ancestors 'none'", b"X-Content-Type-Options: nosniff",
                      b"Cross-Origin-Resource-Policy: same-origin", b"Cache-Control: no-store"):  # fmt: skip
            assert field in heard
        assert b"unsafe" not in heard
        assert b"Access-Control" not in heard


async def test_the_guard_stands_before_the_pages() -> None:
    async with serving() as made:
        assert (await made.ask("/echo", host="evil.example"))[0] == 403
        assert (await made.ask("/nothing", "Origin: http://evil.example"))[0] == 403
    async with serving(["box.example"]) as made:
        assert (await made.ask("/echo", host="box.example"))[0] == 200
    async with serving(None) as made:
        assert (await made.ask("/echo", "Origin: http://evil.example", host="any.example"))[0] == 200


async def test_a_page_that_fails_tells_no_values(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as made:
        status, body = await made.ask("/broken")
        assert status == 500
        assert b"ValueError" in body
        assert b"secret" not in body
        assert (await made.ask("/echo"))[0] == 200
    assert "the page /broken failed" in caplog.text


async def test_one_connection_for_many_requests() -> None:
    async with serving() as made:
        words = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
        heard = await made.exchange(words * 3)
        assert heard.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "words",
    [
        b"\x16\x03\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x" * 70_000,
        b"GET /echo HTTP/1.1\r\nHost: localhost\r\n",
    ],
)
async def test_what_is_no_request_gets_no_answer(words: bytes) -> None:
    async with serving() as made:
        with contextlib.suppress(ConnectionResetError):
            assert await made.exchange(words) == b""
        assert (await made.ask("/echo"))[0] == 200


async def test_slow_and_silent_clients_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.05)
    async with serving() as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"GET /echo HTTP/1.1\r\n")
        assert await reader.read() == b""
        writer.close()


async def test_a_crowd_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS", 2)
    async with serving() as made:
        held = []
        for _ in range(2):
            held.append(await asyncio.open_connection("127.0.0.1", made.port))
            held[-1][1].write(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await held[-1][0].readuntil(b"None\n")
        held.append(await asyncio.open_connection("127.0.0.1", made.port))
        with contextlib.suppress(ConnectionResetError):
            assert await held[-1][0].read() == b""
        for _, writer in held:
            writer.close()


async def test_close_sends_whoever_is_there_away() -> None:
    async with serving() as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"None\n")
        await made.made.close()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", made.port)


async def test_a_port_that_is_taken() -> None:
    async with serving() as made:
        with pytest.raises(OSError, match="cannot listen on 127"):
            await WebServer({}, ()).listen("127.0.0.1", made.port)


async def test_one_of_its_addresses_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens by then is the server's to close, and the rest is closed."""
    start, made = asyncio.start_server, WebServer({}, ())
    sockets: list[socket.socket] = []

    async def second_fails(*args: Any, sock: socket.socket, **options: Any) -> asyncio.Server:
        sockets.append(sock)
        if len(sockets) > 1:
            raise PermissionError
        return await start(*args, sock=sock, **options)

    async def two(_: str) -> list[str]:
        return ["127.0.0.1", "::1"]

    monkeypatch.setattr(server_module, "addresses_of", two)
    monkeypatch.setattr(asyncio, "start_server", second_fails)
    with pytest.raises(PermissionError):
        await made.listen("localhost", 0)
    await made.close()
    assert [sock.fileno() for sock in sockets] == [-1, -1]
