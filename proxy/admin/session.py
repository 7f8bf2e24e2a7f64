"""One listener on a unix socket and its clients, whatever language they speak.

A dialogue (server.py, http.py, uapi_server.py) is a coroutine for each client: it awaits `receive` and `send`, and is
cancelled when the client has gone or the listener closes.  What it has in hand then frees itself, as any coroutine
does; a `finally` and an async generator's end are all that a subscription needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Final, cast

from proxy.admin.binding import Bound
from proxy.admin.paths import credentials
from usernet.aio.runtime import Tasks

CLIENTS: Final = 16
SECONDS: Final = 10.0  # for a request to arrive, and for a reply to be taken
UNREAD_MAX: Final = 64 << 10  # B; then nothing more is read until the dialogue asks
UNSENT_MAX: Final = 64 << 10  # B; then `send` waits
FAREWELL_SECONDS: Final = 0.2  # for the last line to be taken

log = logging.getLogger("usernet.admin")


class Gone(Exception):
    """The client has hung up."""


class Session(asyncio.Protocol):
    """One client."""

    transport: asyncio.Transport

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._received = bytearray()
        self._ended = False  # it sends nothing more
        self._paused = False
        self._news = asyncio.Event()  # something was received, or will not be
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None  # the dialogue
        self._stream: asyncio.Task[None] | None = None  # what ends with the client's input
        self._lost = False
        self._patience: asyncio.TimerHandle | None = None
        self.over = asyncio.Event()  # dialogue and connection have ended
        self.seconds = listener.seconds  # for a request to arrive, and for a reply to be taken
        self.stopping: str | None = None  # why the listener closes
        self.is_surplus = False  # there are too many: it is told so in its own language
        self.uid = -1
        self.pid = 0

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=UNSENT_MAX)
        self.pid, self.uid = credentials(self.transport.get_extra_info("socket"))
        if not self._listener.admit(self):
            self.transport.abort()
            return
        self._task = self._listener.tasks.start(self._run(), f"admin client {self.pid}")
        self._task.add_done_callback(self._on_end)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > UNREAD_MAX and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._news.set()
        if self._stream is not None:
            self._stream.cancel()
        return not self._has_hung_up()  # else what was asked for is still answered

    def _has_hung_up(self) -> bool:
        """Both ways, and not only its own (poll(2), POLLHUP): nobody is there any more to take an answer."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._ended = True
        self._news.set()
        self._room.set()
        if self._patience is not None:
            self._patience.cancel()
        if self._task is None:
            return
        if self._task.done():
            self._listener.forget(self)
        else:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if self._lost:
            self._listener.forget(self)
            return
        self.transport.close()  # what is unsent goes first
        self._patience = self._listener.loop.call_later(self.seconds, self.transport.abort)

    # For the dialogue

    async def receive(self) -> bytes:
        """What has come; b'' once the client has ended its side."""
        while not self._received and not self._ended:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._received)
        self._received.clear()
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        """Returns when there is room for more: a slow reader makes its writer wait, and nothing grows."""
        if self.transport.is_closing():
            raise Gone
        self.transport.write(data)
        await self._room.wait()

    async def drain(self) -> None:
        """Let a client that is still sending come to its end, for to hang up on it could lose it what was answered."""
        self.transport.write_eof()
        async with asyncio.timeout(self.seconds):
            while await self.receive():
                pass

    async def each(self, items: AsyncIterator[Any], send: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Send every item of a stream; the next one is asked for when there is room.

        It ends, and its generator is closed, with the client's input as well.
        """
        if self._ended:
            return

        async def pump() -> None:
            try:
                async for item in items:
                    await send(item)
            finally:
                if isinstance(items, AsyncGenerator):
                    await items.aclose()

        self._stream = self._listener.loop.create_task(pump(), name=f"stream to admin client {self.pid}")
        try:
            await asyncio.shield(self._stream)
        except asyncio.CancelledError:
            if not self._stream.done():  # it is the dialogue that was cancelled
                self._stream.cancel()
                await asyncio.gather(self._stream, return_exceptions=True)
                raise
        finally:
            self._stream = None

    def stop(self, reason: str) -> None:
        """The listener closes: the dialogue ends, and says why."""
        self.stopping = reason
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._listener.dialogue(self)
        except (Gone, TimeoutError):
            log.debug("admin client %d: gone, or too slow", self.pid)


class Listener:
    """Accepts on a bound socket; `disconnected` is called when a client has gone, whoever ended it."""

    def __init__(
        self,
        bound: Bound,
        dialogue: Callable[[Session], Coroutine[Any, Any, None]],
        disconnected: Callable[[Session], None] = lambda session: None,
        seconds: float = SECONDS,
    ) -> None:
        self.seconds = seconds
        self.bound = bound
        self.dialogue = dialogue
        self.loop = asyncio.get_running_loop()
        self.tasks = Tasks(self.loop)
        self._disconnected = disconnected
        self._sessions: set[Session] = set()
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        self._server = await self.loop.create_unix_server(lambda: Session(self), sock=self.bound.socket)

    def admit(self, session: Session) -> bool:
        """Whether it may speak.  A few more than there is room for may, to be told so."""
        if session.uid not in (os.geteuid(), 0):
            log.warning("%s: uid %d was refused; only our own and root may connect", self.bound.path, session.uid)
            return False
        session.is_surplus = len(self._sessions) >= CLIENTS
        if len(self._sessions) >= 2 * CLIENTS:
            return False
        self._sessions.add(session)
        return True

    def forget(self, session: Session) -> None:
        log.debug("admin-disconnected: pid %d", session.pid)
        self._sessions.discard(session)
        session.over.set()
        self._disconnected(session)

    async def close(self, reason: str) -> None:
        """Nobody new; every client is told why and hung up on; then the path is removed.  Idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        sessions = list(self._sessions)
        for session in sessions:
            session.stop(reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                for session in sessions:
                    await session.over.wait()
        for session in sessions:
            session.transport.abort()
        await self.tasks.close()
        self.bound.close()
