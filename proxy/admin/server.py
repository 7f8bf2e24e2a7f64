"""The admin socket of a daemon: who listens for which command, and what is answered.

    admin = AdminServer()
    admin.register("status", status)                 # async def status(args) -> a JSON value
    admin.register("log", follow)                    # an async generator: a stream; or an async def that returns one
    admin.register("reload", reload, changes=True)   # HTTP asks for POST, and it is not cut short
    await admin.listen(path)
    ...
    await admin.close()

A handler raises CommandError or BadArguments, or any UsernetError or OSError, to say why not; whatever else it raises
is a fault of ours, which its client is told of as well.  One that only reads is cancelled when its client goes away;
one that changes something runs to its end.

A stream is pulled: its generator is asked for the next item when the last one has been taken, so a slow reader makes it
wait.  Who is fed from outside keeps a bounded queue and drops the oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from proxy.admin.binding import Bound
from proxy.admin.handlers import Handlers, encoded, stream, too_late, too_many
from proxy.admin.protocol import (
    CommandError,
    Refused,
    Request,
    Requests,
    encode_end,
    encode_event,
    encode_failure,
    encode_item,
    encode_result,
)
from proxy.admin.session import SECONDS, Listener, Session, log

Disconnected = Callable[[Session], None]


class AdminServer(Handlers):
    """One for a daemon.  It exists before it listens, and after.  `seconds`: for a request to arrive."""

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._callbacks: list[Disconnected] = []
        self._listener: Listener | None = None

    def on_disconnected(self, callback: Disconnected) -> None:
        """The event admin-disconnected: a client has gone, and everything it had asked for has ended."""
        self._callbacks.append(callback)

    @property
    def path(self) -> Path | None:
        """Where it listens."""
        return None if self._listener is None else self._listener.bound.path

    async def listen(self, where: Path | Bound) -> None:
        """Once more, and it replaces the listener.  Raises SocketError, whose text names path and reason."""
        if self.path == where:
            await self.unlisten("reloading")
        bound = where if isinstance(where, Bound) else Bound(where)
        listener = Listener(bound, self._dialogue, self._on_disconnected, self._seconds)
        await listener.start()
        await self.unlisten("reloading")
        self._listener = listener
        log.debug("admin socket: %s", bound.path)

    async def unlisten(self, reason: str = "unloaded") -> None:
        """Every client is told why and hung up on; then the path is removed.  Idempotent."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close(reason)

    async def close(self) -> None:
        """The daemon stops."""
        await self.unlisten("system-shutdown")
        await super().close()

    # The dialogue in lines

    async def _dialogue(self, session: Session) -> None:
        async with asyncio.timeout(session.seconds):
            first = await session.receive()
        if b"A" <= first[:1] <= b"Z":
            from proxy.admin.http import converse  # seldom asked for, and it brings an HTTP parser

            await converse(self, session, first)
        elif first:
            await self._lines(session, first)

    async def _lines(self, session: Session, first: bytes) -> None:
        requests = Requests()
        requests.receive_data(first)
        try:
            while (event := await _next_request(session, requests)) is not None:
                if session.is_surplus:
                    await _reply(session, encode_failure(event.id, too_many()))
                    return
                if isinstance(event, Refused):
                    await _reply(session, encode_failure(event.id, event.error))
                else:
                    await self._answer(session, event)
        except asyncio.CancelledError:
            if session.stopping is not None and not session.transport.is_closing():
                session.transport.write(encode_event(session.stopping))
            raise

    async def _answer(self, session: Session, request: Request) -> None:
        number, command = request.id, request.command
        try:
            outcome = await self.perform(command, request.args)
            if not isinstance(outcome, AsyncIterator):
                await _reply(session, encoded(command, lambda: encode_result(number, outcome)))
                return

            async def send(item: Any) -> None:
                await session.send(encoded(command, lambda: encode_item(number, item)))

            await stream(session, command, outcome, send)
        except CommandError as error:
            await _reply(session, encode_failure(number, error))
        else:
            await _reply(session, encode_end(number))

    def _on_disconnected(self, session: Session) -> None:
        for callback in self._callbacks:
            try:
                callback(session)
            except Exception:  # noqa: BLE001 - whoever watches does not stop the others
                log.exception("a callback for admin-disconnected failed")


async def _reply(session: Session, line: bytes) -> None:
    async with asyncio.timeout(session.seconds):
        await session.send(line)


async def _next_request(session: Session, requests: Requests) -> Request | Refused | None:
    """None where the client asks for nothing more."""
    try:
        async with asyncio.timeout(session.seconds):
            while (event := requests.next_event()) is None:
                data = await session.receive()
                if data:
                    requests.receive_data(data)
                    continue
                requests.receive_eof()
                return requests.next_event()
            return event
    except TimeoutError:
        session.transport.write(encode_failure(None, too_late(session)))
        raise
