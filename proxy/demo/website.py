"""The far side's web server: a small HTTP/1.1 server (RFC 9112, by h11) over any StreamReader and StreamWriter.

GET /            the page, and its pictures
GET /down[?B]    B bytes, 64 MiB by default
PUT, POST /up    takes a body, answers with its length and SHA-256
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from importlib.resources import files

import h11

from proxy.demo import content

DOWN_BYTES = 64 << 20
MAX_DOWN_BYTES = 1 << 40
READ_BYTES = 256 << 10
IDLE = 30.0  # s

PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/way.svg": ("way.svg", "image/svg+xml"),
    "/picture.png": ("picture.png", "image/png"),
}

Body = Iterable[bytes]


class Website:
    """`serve` is the callback for `start_server`; `requests` counts what was asked."""

    def __init__(self) -> None:
        folder = files("proxy.demo")
        self._pages = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in PAGES.items()}
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as many requests as its client likes."""
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError):
            pass  # the client's affair
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        while http.our_state is not h11.MUST_CLOSE:
            request = await _next_event(http, reader)
            if not isinstance(request, h11.Request):
                return
            self.requests += 1
            if http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                writer.write(http.send(go_on) or b"")
            status, kind, length, body = await self._answer(request, _body(http, reader))
            await _send(http, writer, request.method, status, kind, length, body)
            if http.our_state is h11.DONE and http.their_state is h11.DONE:
                http.start_next_cycle()

    async def _answer(self, request: h11.Request, body: AsyncIterator[bytes]) -> tuple[int, str, int, Body]:
        path, _, query = request.target.decode("ascii", "replace").partition("?")
        if path == "/up" and request.method in (b"PUT", b"POST"):
            found, length = hashlib.sha256(), 0
            async for piece in body:
                found.update(piece)
                length += len(piece)
            return _text(200, f"{length} {found.hexdigest()}\n")
        async for _ in body:
            pass
        if request.method not in (b"GET", b"HEAD"):
            return _text(405, "only GET here; PUT or POST to /up\n")
        if path == "/down":
            size = int(query) if query.isascii() and query.isdecimal() and len(query) < 20 else DOWN_BYTES
            size = min(size, MAX_DOWN_BYTES)
            return 200, "application/octet-stream", size, content.pieces(size)
        if path in self._pages:
            page, kind = self._pages[path]
            return 200, kind, len(page), (page,)
        return _text(404, "there is no such page; try /\n")


def _text(status: int, text: str) -> tuple[int, str, int, Body]:
    data = text.encode()
    return status, "text/plain; charset=utf-8", len(data), (data,)


async def _next_event(http: h11.Connection, reader: asyncio.StreamReader) -> object:
    """An h11 event, or h11.PAUSED."""
    while True:
        event = http.next_event()
        if event is not h11.NEED_DATA:
            return event
        async with asyncio.timeout(IDLE):
            http.receive_data(await reader.read(READ_BYTES))


async def _body(http: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while isinstance(event := await _next_event(http, reader), h11.Data):
        yield event.data


async def _send(
    http: h11.Connection, writer: asyncio.StreamWriter, method: bytes, status: int, kind: str, length: int, body: Body
) -> None:
    fields = [("Content-Type", kind), ("Content-Length", str(length)), ("Server", "usernet-demo")]
    writer.write(
        http.send(h11.Response(status_code=status, headers=fields, reason=HTTPStatus(status).phrase.encode())) or b""
    )
    if method != b"HEAD":
        for piece in body:
            writer.write(http.send(h11.Data(data=piece)) or b"")
            await writer.drain()
    writer.write(http.send(h11.EndOfMessage()) or b"")
    await writer.drain()
