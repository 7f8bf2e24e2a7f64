"""What a dialogue does between the request and the relay: dial, hold what the client says meanwhile, answer, join.

SOCKS and HTTP CONNECT handlers build on it; they say what an answer looks like.  Nothing is said before the dial's
result.
"""

from __future__ import annotations

import abc
import asyncio
from functools import partial

from proxy.auth import Users
from proxy.client import Client
from proxy.dialer import hand_over
from proxy.relay import join
from proxy.replies import Reply, reply_for
from proxy.routes import Begun
from proxy.session import Context, log, say_farewell
from usernet.aio.relay import reset


class Handler(asyncio.Protocol, abc.ABC):
    """A client's connection during its dialogue.  `held`: bytes not yet used; `ended`: its EOF has come; `full`: so is
    the write buffer towards it."""

    __slots__ = ("_paused", "_task", "client", "context", "ended", "full", "held", "idle", "transport")

    def __init__(self, context: Context, client: Client, transport: asyncio.Transport) -> None:
        self.context = context
        self.client = client
        self.transport = transport
        self.held = bytearray()
        self.ended = False
        self.full = False
        self.idle = 0
        self._task: Begun | None = None
        self._paused = False
        context.sessions.add(self)
        context.begin_handshake(self)
        transport.set_protocol(self)

    # -- what a subclass says --

    @abc.abstractmethod
    def accepted(self, tunnel: asyncio.Transport) -> None:
        """The dial has succeeded."""

    @abc.abstractmethod
    def rejected(self, reply: Reply) -> None:
        """The dial has failed."""

    async def connect(self, host: str, port: int) -> asyncio.Transport:
        """A connected, paused transport."""
        return await self.context.dialer.dial(self.client, host, port)

    def decided(self, right: bool) -> None:
        """What came of `login`."""
        raise NotImplementedError

    # -- asyncio.Protocol --

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def eof_received(self) -> bool:
        self.ended = True
        if self._task is None:
            self.transport.close()  # half a request
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.finish_handshake()
        task, self._task = self._task, None  # what cancels it refers to us by its traceback: no cycle
        if task is not None:
            task.cancel()
        self.client.end("client-gone")
        self.context.left(self, self.client)

    # -- Session, Expiring --

    def drain(self) -> None:
        """The dialogue goes on to its request, or its deadline."""

    def abort(self) -> None:
        self.transport.abort()

    def expired(self) -> None:
        self.context.counters.refuse("handshake-timeout")
        self.transport.close()

    # -- tools --

    def finish_handshake(self) -> None:
        """The dialogue is over: no deadline any more."""
        self.context.deadlines.stop(self)
        self.context.handshakes.pop(self, None)

    def hold(self, data: bytes) -> None:
        """Keep what came too early.  The client is read on, so that its end is noticed, up to a limit."""
        self.held += data
        if len(self.held) > self.context.limits.held_bytes:
            self.wait()

    def wait(self) -> None:
        """Read no more for now."""
        if not self._paused and not self.ended:
            self._paused = True
            self.transport.pause_reading()

    def read_on(self) -> None:
        """What was held has been used, as far as it goes."""
        if self._paused and not self.ended:
            self._paused = False
            self.transport.resume_reading()

    def login(self, username: bytes, password: bytes) -> None:
        """Check these, and call `decided`: at once, or later where that takes its time."""
        users = self.client.terms.users
        user = users.check(username, password) if users is not None else None
        if user is None and users is not None and users.is_slow:
            self.wait()
            self._task = self.context.loop.create_task(self._verify(users, username, password))
            return
        self._settle(user, username)

    def _settle(self, user: str | None, username: bytes) -> None:
        self.client.user = user
        if user is None and username:  # an HTTP client comes without at first
            self.context.complain("%s: wrong user name or password", self.client.address)
        self.decided(user is not None)

    async def _verify(self, users: Users, username: bytes, password: bytes) -> None:
        try:
            user = await users.verify(username, password)
        except Exception:  # noqa: BLE001  (logged: out of memory, say; then nobody is let in, and nobody waits)
            log.exception("a password could not be checked")
            user = None
        self._task = None
        self.read_on()
        self._settle(user, username)

    def dial(self, host: str, port: int) -> None:
        """By calls where that will do: a task, its future and its timeout cost 20 µs."""
        used, failed = partial(self.dialled, host, port), partial(self.failed, host=host, port=port)
        try:
            self._task = self.context.dialer.start(self.client, host, port, used, failed)
        except OSError as error:
            failed(error)
            return
        if self._task is None:
            self._task = self.context.loop.create_task(self._dial(host, port))

    async def _dial(self, host: str, port: int) -> None:
        try:
            tunnel = await self.connect(host, port)
        except Exception as error:  # noqa: BLE001  (whatever it was, the client gets an answer)
            self.failed(error, host, port)
            return
        self.dialled(host, port, tunnel)

    def dialled(self, host: str, port: int, tunnel: asyncio.Transport) -> None:
        """There is a connection."""
        self._task = None
        self.context.counters.dialled += 1
        holder = tunnel.get_protocol()
        try:
            self.accepted(tunnel)
            hand_over(holder, tunnel)
        except ConnectionResetError as error:
            self.failed(error, host, port)
        except Exception:  # noqa: BLE001  (logged; both sides end)
            log.exception("a dialled connection could not be used")
            tunnel.abort()
            self.transport.abort()

    def failed(self, error: BaseException, host: str, port: int) -> None:
        """There is none, and this is why."""
        self._task = None
        reply = reply_for(error)
        self.context.counters.refuse(reply.token)
        self.client.end(reply.token)
        if isinstance(error, OSError):
            log.info("%s port %d: %s", host, port, reply.reason)
        else:
            log.error("a dial failed unexpectedly", exc_info=error)
        self.rejected(reply)

    def start_relay(
        self, tunnel: asyncio.Transport, answer: bytes, *, downward: bytes = b"", tunnel_full: bool = False
    ) -> None:
        """Answer, and become a relay.  Raises ConnectionResetError, with nothing said, where the tunnel has lost it."""
        if tunnel.is_closing():
            raise ConnectionResetError
        if self.transport.is_closing():
            reset(tunnel)
            return
        self.finish_handshake()
        self.context.sessions.discard(self)
        held, self.held = bytes(self.held), bytearray()
        self.transport.write(answer + downward)
        join(
            self.context,
            self.client,
            self.transport,
            tunnel,
            upward=held,
            client_ended=self.ended,
            client_full=self.full,
            tunnel_full=tunnel_full,
        )

    def farewell(self, words: bytes) -> None:
        """Refuse, and end."""
        self.finish_handshake()
        if self.ended:
            self.transport.write(words)
            self.transport.close()
        else:
            say_farewell(self.context, self, self.client, self.transport, words)
