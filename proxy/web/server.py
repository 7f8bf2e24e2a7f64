"""One small HTTP server, for pages about the daemon itself: a table of paths, each with who answers it.

The stages of a request: h11 (RFC 9112) -> `guard.refusal`, where strangers' web sites are kept out -> the table.
Only GET and HEAD are answered.  A connection stays for the next request, since a page in a browser asks every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

import h11

from proxy.binding import addresses_of, bind
from proxy.web.guard import refusal

log = logging.getLogger("usernet")

CONNECTIONS: Final = 64  # at once: people and probes, no crowds
HEAD_SECONDS: Final = 10.0  # for a whole request
ANSWER_SECONDS: Final = 10.0  # for a client to take an answer
IDLE_SECONDS: Final = 60.0  # between two requests
NO_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # a machine without IPv6
HEAD_MAX: Final = 16 << 10
TEXT: Final = "text/plain; charset=utf-8"
SAFE: Final = [
    # Nothing from elsewhere, nothing inline, and in nobody's frame
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
     "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    query: Mapping[str, str]
    fields: Mapping[str, str]  # by name in lower case; of several equal ones the last


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    media_type: str = TEXT
    status: int = 200
    fields: list[tuple[str, str]] = field(default_factory=list)


Page = Callable[[Request], Awaitable[Answer]]


def text(words: str, status: int = 200) -> Answer:
    return Answer(words.encode() + b"\n", TEXT, status)


class WebServer:
    """`hostnames`: what it may be called besides its addresses; None: any name, for probes.  See guard.py."""

    def __init__(self, pages: Mapping[str, Page], hostnames: Collection[str] | None) -> None:
        self._pages = dict(pages)
        self._hostnames = hostnames
        self._servers: list[asyncio.Server] = []
        self._visits: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """On every address of `host`, "" and "::" are all of this machine's; where.  OSError where it cannot be."""
        sockets: list[socket.socket] = []
        everywhere = host in ("", "::")  # as Go's programs take it, whose addresses containers are given
        try:
            for address in await addresses_of("" if everywhere else host):
                try:
                    sockets.append(bind(address, sockets[0].getsockname()[1] if sockets else port))
                except OSError as error:
                    if not (everywhere and sockets and error.errno in NO_FAMILY):
                        raise
            names = [sock.getsockname()[:2] for sock in sockets]
            while sockets:
                self._servers.append(await asyncio.start_server(self._visited, sock=sockets[0], limit=HEAD_MAX))
                del sockets[0]
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return names

    async def close(self) -> None:
        """And whoever is there is sent away."""
        for server in self._servers:
            server.close()
        for visit in self._visits:
            visit.cancel()
        if self._visits:
            await asyncio.wait(self._visits)

    def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._visits) >= CONNECTIONS:
            writer.transport.abort()
            return
        visit = asyncio.get_running_loop().create_task(self._converse(reader, writer), name="web")
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        seconds = HEAD_SECONDS
        try:
            # TimeoutError and ConnectionError are OSErrors
            with contextlib.suppress(OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
                while (request := await self._request(connection, reader, seconds)) is not None:
                    answer = await self._answer(request, writer.get_extra_info("sockname")[0])
                    await self._say(connection, writer, request, answer)
                    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
                    seconds = IDLE_SECONDS
        finally:
            writer.close()

    async def _request(
        self, connection: h11.Connection, reader: asyncio.StreamReader, seconds: float
    ) -> h11.Request | None:
        """A whole one, whose body is passed over; None at the end of the connection."""
        request = None
        size = 0
        async with asyncio.timeout(seconds):
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    data = await reader.read(HEAD_MAX)
                    size += len(data)
                    if size > 4 * HEAD_MAX:
                        return None
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.EndOfMessage):
                    return request
                elif not isinstance(event, h11.Data):
                    return None

    async def _answer(self, request: h11.Request, local: str) -> Answer:
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        if self._hostnames is not None and (why := refusal(fields, local, self._hostnames)):
            return text(why, 403)
        if request.method not in (b"GET", b"HEAD"):
            return Answer(b"only GET and HEAD\n", TEXT, 405, [("Allow", "GET, HEAD")])
        path, _, query = request.target.decode("latin-1").partition("?")
        page = self._pages.get(path)
        if page is None:
            return text("the pages are " + " ".join(self._pages), 404)
        try:
            asked = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=64))
        except ValueError:
            return text("the query has too many fields", 400)
        try:
            return await page(Request(path, asked, dict(fields)))
        except Exception as error:  # the others go on
            log.exception("the page %s failed", path)
            return text(f"this page failed: {type(error).__name__}; the log says more", 500)

    async def _say(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, answer: Answer
    ) -> None:
        length = ("Content-Length", str(len(answer.body)))
        head = h11.Response(
            status_code=answer.status, headers=[("Content-Type", answer.media_type), length, *answer.fields, *SAFE]
        )
        writer.write(connection.send(head) or b"")
        if request.method != b"HEAD":
            writer.write(connection.send(h11.Data(answer.body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        async with asyncio.timeout(ANSWER_SECONDS):
            await writer.drain()
