"""HTTP on the admin socket, for tools: `curl --unix-socket /run/usernet/wg0.sock http://localhost/status`.

A command is a path: GET for one that reads, its arguments in the query; POST for one that changes something, its
arguments a JSON object of at most 64 KiB.  The answer is the JSON value, or text as it is; a stream is JSON by lines,
in chunks.  One request for a connection.

A browser cannot open a unix socket, but whoever passes one on to a TCP port lets it in.  So any Origin or Referer is
refused, which every script's request carries, and any Host but localhost, which a name made to point here is not (DNS
rebinding, CVE-2022-41924).

Read RFC 9112 for the framing, which is h11's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import h11

from proxy.admin.handlers import Handlers, encoded, stream, too_late, too_many
from proxy.admin.protocol import (
    LINE_MAX,
    Args,
    CommandError,
    as_json,
    encode,
    encode_event,
    parse_command,
    parse_object,
)
from proxy.admin.session import Session

HEAD_MAX: Final = 16 << 10
STATUS: Final = {
    "bad-request": 400, "bad-arguments": 400, "forbidden": 403, "unknown-command": 404, "bad-method": 405,
    "timeout": 408, "too-long": 413, "failed": 500, "busy": 503, "system-shutdown": 503,
}  # fmt: skip
JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
TEXT: Final = "text/plain; charset=utf-8"


class BadMethod(CommandError):
    def __init__(self, command: str, method: str) -> None:
        super().__init__("bad-method", f"{command} is asked for with {method}")
        self.method = method


async def converse(handlers: Handlers, session: Session, first: bytes) -> None:
    """One request and its answer."""
    exchange = _Exchange(session)
    try:
        try:
            request, body = await exchange.receive(first)
            await _answer(handlers, exchange, request, body)
        except CommandError as error:
            await exchange.fail(error)
            if error.code == "too-long":
                await session.drain()
    except asyncio.CancelledError:
        if session.stopping is not None and not session.transport.is_closing():
            exchange.farewell(session.stopping)
        raise


async def _answer(handlers: Handlers, exchange: _Exchange, request: h11.Request, body: bytes) -> None:
    _judge(request)
    if exchange.session.is_surplus:
        raise too_many()
    path, _, query = request.target.decode("ascii").partition("?")
    command = _command(path)
    method = "POST" if handlers.find(command).changes else "GET"
    if request.method.decode("ascii") != method:
        raise BadMethod(command, method)
    outcome = await handlers.perform(command, _body(body) if method == "POST" else _query(query))
    if not isinstance(outcome, AsyncIterator):
        text = isinstance(outcome, str)
        data = outcome.encode() if text else encoded(command, lambda: encode(outcome))
        await exchange.reply(200, TEXT if text else JSON, data)
        return
    await exchange.begin(200, [("Content-Type", LINES)])

    async def send(item: Any) -> None:
        await exchange.send(h11.Data(encoded(command, lambda: encode(item))))

    await stream(exchange.session, command, outcome, send)
    await exchange.send(h11.EndOfMessage())


def _judge(request: h11.Request) -> None:
    """Raises CommandError where a browser may have made it."""
    fields = dict(request.headers)
    for name in (b"origin", b"referer"):
        if name in fields:
            raise CommandError("forbidden", f"a request with {name.decode().title()} is a browser's, and refused")
    if fields.get(b"host", b"localhost").lower() != b"localhost":
        raise CommandError("forbidden", "the host is not localhost; ask for http://localhost/status, say")


def _command(path: str) -> str:
    try:
        return parse_command(unquote(path[1:], errors="strict") if path.startswith("/") else None)
    except (CommandError, UnicodeDecodeError):
        raise CommandError("unknown-command", "the path is not a command's; such as /status or /debug/rebind") from None


def _query(query: str) -> Args:
    """`?peers&count=3&host=a`: a name alone is true, what reads as a number or true or false is that, the rest text."""
    args: Args = {}
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=64):
        if name in args:
            raise CommandError("bad-arguments", f"{name[:32]!r} is there twice")
        args[name] = _value(value)
    return args


def _value(text: str) -> Any:
    if not text:
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float) else text


def _body(body: bytes) -> Args:
    return parse_object(body) if body.strip() else {}


class _Exchange:
    """h11, and the session that it speaks by."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)

    async def receive(self, first: bytes) -> tuple[h11.Request, bytes]:
        """A whole request.  Raises CommandError."""
        connection = self._connection
        connection.receive_data(first)
        body = bytearray()
        request: h11.Request | None = None
        try:
            async with asyncio.timeout(self.session.seconds):
                while True:
                    event = connection.next_event()
                    if event is h11.NEED_DATA:
                        await self._more()
                    elif isinstance(event, h11.Request):
                        request = event
                    elif isinstance(event, h11.Data):
                        body += event.data
                        if len(body) > LINE_MAX:
                            raise CommandError("too-long", f"a body may have {LINE_MAX} bytes")
                    elif isinstance(event, h11.EndOfMessage) and request is not None:
                        return request, bytes(body)
                    else:
                        raise CommandError("bad-request", "the request is not whole")
        except TimeoutError:
            raise too_late(self.session) from None
        except h11.RemoteProtocolError as error:
            raise CommandError("too-long" if error.error_status_hint == 431 else "bad-request", str(error)) from None

    async def _more(self) -> None:
        if self._connection.they_are_waiting_for_100_continue:
            await self.send(h11.InformationalResponse(status_code=100, headers=[]))
        self._connection.receive_data(await self.session.receive())

    async def send(self, event: h11.Event) -> None:
        await self.session.send(self._connection.send(event) or b"")

    async def begin(self, status: int, fields: list[tuple[str, str]]) -> None:
        await self.send(self._head(status, fields))

    async def reply(self, status: int, kind: str, data: bytes, extra: list[tuple[str, str]] | None = None) -> None:
        async with asyncio.timeout(self.session.seconds):
            length = ("Content-Length", str(len(data)))
            await self.begin(status, [("Content-Type", kind), length, *(extra or [])])
            await self.send(h11.Data(data))
            await self.send(h11.EndOfMessage())

    async def fail(self, error: CommandError) -> None:
        """The answer; or where one has begun its last line, and no end, so that nobody takes it for a whole one."""
        data = encode({"error": as_json(error)})
        if self._connection.our_state in (h11.SEND_RESPONSE, h11.IDLE):
            extra = [("Allow", error.method)] if isinstance(error, BadMethod) else []
            await self.reply(STATUS.get(error.code, 500), JSON, data, extra)
        elif self._connection.our_state is h11.SEND_BODY:
            await self.send(h11.Data(data))

    def farewell(self, reason: str) -> None:
        """The daemon stops: an answer that has begun ends, any other is that."""
        connection, write = self._connection, self.session.transport.write
        data = encode_event(reason)
        if connection.our_state in (h11.SEND_RESPONSE, h11.IDLE):
            fields = [("Content-Type", JSON), ("Content-Length", str(len(data)))]
            write(connection.send(self._head(STATUS["system-shutdown"], fields)) or b"")
        if connection.our_state is h11.SEND_BODY:
            write((connection.send(h11.Data(data)) or b"") + (connection.send(h11.EndOfMessage()) or b""))

    @staticmethod
    def _head(status: int, fields: list[tuple[str, str]]) -> h11.Response:
        safe = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"), ("Connection", "close")]
        return h11.Response(status_code=status, headers=[*fields, *safe])
