"""What the connections of one proxy share, and the end they have in common.

`Context` is handed to every protocol object: limits, counters, deadlines, the dialer, the set of live sessions, the
one read buffer.  A client's transport passes from protocol to protocol (sniffer, dialogue, relay); each enters the
set of sessions when it takes over, and whoever has it when the connection is lost leaves it and gives the
connection's place back. `Farewell` is the last of them for a client that was refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from proxy.client import Client
from proxy.deadlines import Deadlines
from proxy.dialer import Dialer
from proxy.http.own import OwnPages
from proxy.pacing import Pace
from usernet.aio.relay import end_writing

log = logging.getLogger("usernet.proxy")

SCRATCH = 256 << 10
SWEEPS = 8  # per idle_timeout
QUIET = 60.0  # s between two warnings of one kind that clients bring about: nobody fills the log
IDLE_TIMEOUT = 7440.0  # s: RFC 5382 REQ-5 asks for 2 h 4 min at least


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts that bound what clients can hold."""

    connections: int = 8192  # in all; the caller derives it from RLIMIT_NOFILE
    connections_per_client: int | None = None  # per IPv4 address, or IPv6 network (`counted_as`)
    handshakes: int = 4096  # connections that have not finished their dialogue; the oldest makes room
    sniff_timeout: float = 15.0  # until the first byte
    handshake_timeout: float = 15.0  # from then until the whole SOCKS request
    head_timeout: float = 10.0  # from a head's first byte to its last
    keepalive_timeout: float = 75.0  # an HTTP client between two requests
    idle_timeout: float = IDLE_TIMEOUT  # nothing either way
    idle_origins: int = 4  # connections to origins that an HTTP client's connection keeps besides the one in use
    origin_timeout: float = 60.0  # such a connection without a request
    bind_timeout: float = 120.0  # for the peer of a SOCKS BIND to connect
    linger_timeout: float = 2.0  # for a refusal to arrive
    associations: int = 4096  # of SOCKS5 clients for UDP, in all; each counts as a connection, too
    associations_per_client: int = 1024  # per client address: programs that capture a whole host open one per socket
    mapping_timeout: float = 300.0  # a UDP destination that the client does not send to: RFC 4787 REQ-5
    held_bytes: int = 65536  # from a client whose dial is under way, after which it is not read


@dataclass(slots=True)
class Counters:
    accepted: int = 0
    socks4: int = 0
    socks5: int = 0
    http_connect: int = 0
    http_forward: int = 0
    dialled: int = 0  # connections that came about
    bytes_up: int = 0
    bytes_down: int = 0
    accept_pauses: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # by a short constant reason

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


class Session(Protocol):
    client: Client
    idle: int  # sweeps since the last byte

    def drain(self) -> None:
        """The proxy is to stop: end now if nothing was asked for yet, else after what is at hand."""

    def abort(self) -> None:
        """End now, both sides."""


class Context:
    __slots__ = (
        "_quiet_until", "_scratch", "associations", "clients", "closing", "counters", "deadlines", "dialer", "draining",
        "handshakes", "limits", "loop", "on_room", "open", "pace", "pages", "sessions", "via", "write",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer, limits: Limits) -> None:
        self.loop = loop
        self.dialer = dialer
        self.limits = limits
        self.counters = Counters()
        self.deadlines = Deadlines(loop)
        self.sessions: set[Session] = set()
        self.pace = Pace(loop)
        self.handshakes: dict[Session, None] = {}  # in order of arrival
        self.clients: dict[str, int] = {}  # connections by `counted_as`, where they are limited
        self.associations: dict[str, int] = {}  # by `counted_as`
        self.open = 0
        self.closing = False  # whoever still arrives is sent away
        self.draining = False  # each client's request is its last
        self.on_room: Callable[[], None] | None = None  # somebody left: accepting may go on
        self.write: Callable[[Client, str], None] | None = None  # the access log
        self.pages: OwnPages | None = None  # what HTTP clients may ask of the proxy itself
        self.via: bytes | None = None  # the name to say in Via fields, where they are wanted
        self._scratch: memoryview | None = None
        self._quiet_until: dict[str, float] = {}  # by the template of a complaint

    def complain(self, template: str, *args: object) -> None:
        """Tell whoever runs the proxy of a client that goes about it the wrong way: now and then, or always with -v."""
        now = self.loop.time()
        if now < self._quiet_until.get(template, now):
            log.info(template, *args)
        else:
            self._quiet_until[template] = now + QUIET
            log.warning(template, *args)

    def not_allowed(self, client: Client) -> None:
        """A client's address may not come in."""
        self.counters.refuse("source-not-allowed")
        self.complain("%s is not let in: AllowFrom does not have it", client.address)

    @property
    def scratch(self) -> memoryview:
        """The loop's one read buffer: a read ends before the next begins, so a held connection owns none."""
        if self._scratch is None:
            self._scratch = memoryview(bytearray(SCRATCH))
        return self._scratch

    def begin_handshake(self, member: Session) -> None:
        """One more dialogue in flight; where there are too many, the oldest makes room, at once and without a word."""
        if len(self.handshakes) >= self.limits.handshakes:
            oldest = next(iter(self.handshakes))
            del self.handshakes[oldest]
            self.counters.refuse("handshake-limit")
            oldest.abort()
        self.handshakes[member] = None

    def admit(self, client: Client) -> bool:
        """Give a client a place, unless its address has too many."""
        limit = self.limits.connections_per_client
        if limit is not None:
            where = counted_as(client.address)
            count = self.clients.get(where, 0)
            if count >= limit:
                self.counters.refuse("client-limit")
                return False
            self.clients[where] = count + 1
        self.open += 1
        return True

    def reassign(self, client: Client, address: str, port: int) -> bool:
        """Who has a place is really somebody else.  False where that address has too many; the place stays theirs."""
        limit, where = self.limits.connections_per_client, counted_as(address)
        if limit is not None:
            self._discount(client.address)
            self.clients[where] = self.clients.get(where, 0) + 1
        client.address, client.port = address, port
        return limit is None or self.clients[where] <= limit

    def left(self, session: Session, client: Client) -> None:
        """A client's connection is lost."""
        self.sessions.discard(session)
        self.gone(client)

    def gone(self, client: Client) -> None:
        """A client's place is free."""
        self.open -= 1
        if self.clients:
            self._discount(client.address)
        if self.on_room is not None:
            self.on_room()

    def _discount(self, address: str) -> None:
        where = counted_as(address)
        count = self.clients.get(where, 0) - 1
        if count > 0:
            self.clients[where] = count
        else:
            self.clients.pop(where, None)


def counted_as(address: str) -> str:
    """Whom a client's address stands for when connections are counted.

    A host chooses among the 2^64 addresses of its /64, and temporary ones are the default (RFC 8981), so that is what
    is counted.  Not so with link-local addresses: there the whole link is one /64.
    """
    if ":" not in address:
        return address
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address) or parsed.is_link_local:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()


class Farewell(asyncio.Protocol):
    """The last words are written; they must arrive.

    A socket closed with unread bytes answers with a reset, which can overtake what it was about to say.  So: say that
    we are done, swallow what still comes, and go when the client has gone, or a moment later.
    """

    __slots__ = ("_context", "_left", "_transport", "client", "idle")

    def __init__(self, context: Context, client: Client, transport: asyncio.Transport) -> None:
        self._context = context
        self.client = client
        self._transport = transport
        self._left = 16 << 20
        self.idle = 0
        context.sessions.add(self)

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def expired(self) -> None:
        if self._transport.get_write_buffer_size():  # a slow reader: only idle_timeout ends it
            self._context.deadlines.start(self, self._context.limits.linger_timeout)
        else:
            self._transport.abort()

    def drain(self) -> None:
        """It is about to end."""

    def abort(self) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.deadlines.stop(self)
        self._context.left(self, self.client)


def say_farewell(
    context: Context, session: Session, client: Client, transport: asyncio.Transport, words: bytes
) -> None:
    """End a client's connection with these last bytes; `session` has it so far."""
    context.sessions.discard(session)
    farewell = Farewell(context, client, transport)
    transport.set_protocol(farewell)
    if transport.is_closing():
        return
    transport.write(words)
    end_writing(transport)
    context.deadlines.start(farewell, context.limits.linger_timeout)
    transport.resume_reading()
