"""The proxy's public entry: listeners in front of a network.

    proxy = Proxy(net)
    listener = await proxy.listen("127.0.0.1", 1080)
    ...
    await proxy.close()

The way of a connection: `Listener` accepts -> mux.Sniffer (first byte) -> socks/handler or http/handler (the
dialogue) -> connect.Handler.dial -> relay.join, or http/forward for HTTP requests that are not CONNECT.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from proxy.binding import addresses_of, bind
from proxy.client import Client, Terms, is_within
from proxy.dialer import Dialer
from proxy.http.own import OwnPages
from proxy.inside import Inside, InsideListener, ListeningNet
from proxy.mux import HTTP, SOCKS4, SOCKS5, TLS, Opener, Sniffer
from proxy.policy import Policy
from proxy.proxyprotocol import Version
from proxy.routes import TUNNEL, Net, Route
from proxy.rules import Rules
from proxy.session import SWEEPS, Context, Limits, log
from proxy.socks.handler import open_socks4, open_socks5
from usernet.errors import UsernetError

FirstStage = Callable[[Client], asyncio.Protocol]  # the protocol of a fresh connection

PROTOCOLS = frozenset({SOCKS5, HTTP})
ACCEPT_BURST = 64  # then the loop gets its turn
ACCEPT_PAUSE = 0.25  # after an error such as EMFILE, which would otherwise repeat at once and for ever
# accept(2), "Error handling": these are the new connection's, which is gone with them; the next may be well.
OF_THE_CLIENT = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED", "EINTR", "ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
        "EOPNOTSUPP", "ENETUNREACH", "EPERM",
    )
    if hasattr(errno, name)
)  # fmt: skip
CLOSE_TIMEOUT = 1.0
LOG_INTERVAL = 60.0  # the same complaint again only after so long a pause


class OpenListener(UsernetError):
    """An address that others reach was to be served without authentication."""


@dataclass(frozen=True, slots=True)
class ProxyStatistics:
    """A snapshot.  `refused` counts by reason: RFC 9209 error types of failed dials, and slugs of bad clients."""

    connections: int
    associations: int  # those of them that relay UDP
    handshakes: int
    accepted: int
    socks4: int
    socks5: int
    http_connect: int
    http_forward: int
    bytes_up: int
    bytes_down: int
    accept_pauses: int
    refused: Mapping[str, int]


class Listener:
    """One bound socket.  `address` and `port` are the real ones."""

    __slots__ = (
        "_accepting",
        "_context",
        "_first_stage",
        "_quiet_until",
        "_resume",
        "_socket",
        "_tasks",
        "_terms",
        "address",
        "port",
        "protocols",
    )

    def __init__(
        self, context: Context, sock: socket.socket, first_stage: FirstStage, terms: Terms, protocols: frozenset[str]
    ) -> None:
        self._context = context
        self._terms = terms
        self._socket = sock
        self._first_stage = first_stage
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False
        self._quiet_until = 0.0  # of the clock of the loop
        self.address, self.port = sock.getsockname()[:2]
        self.protocols = protocols

    def start(self) -> None:
        """Accept (again)."""
        if not self._accepting and self._resume is None and self._socket.fileno() >= 0:
            self._accepting = True
            self._context.loop.add_reader(self._socket.fileno(), self._accept)

    def _stop(self) -> None:
        if self._accepting:
            self._accepting = False
            self._context.loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        self._stop()
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._socket.close()

    def _accept(self) -> None:
        context = self._context
        for _ in range(ACCEPT_BURST):
            if context.open >= context.limits.connections:
                self._pause(f"{context.open} clients are the limit", None)
                return
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OF_THE_CLIENT:
                    continue
                self._pause(errno.errorcode.get(error.errno or 0, "an error"), ACCEPT_PAUSE)
                return
            sock.setblocking(False)
            client = Client(self._terms, address[0], address[1], context.write)
            if not self._is_welcome(client):
                sock.close()
                continue
            context.counters.accepted += 1
            task = context.loop.create_task(self._adopt(sock, client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_welcome(self, client: Client) -> bool:
        # A load balancer itself needs no permission: whoever its header names does.
        if not is_within(client.address, self._terms.balancers) and not client.is_allowed():
            self._context.counters.refuse("source-not-allowed")
            return False
        return self._context.admit(client)

    async def _adopt(self, sock: socket.socket, client: Client) -> None:
        context = self._context
        try:
            await context.loop.connect_accepted_socket(lambda: self._stage_for(client), sock)
        except OSError as error:  # it had gone already
            log.debug("a client was lost while it was accepted: %s", error)
            sock.close()
            context.gone(client)

    def _stage_for(self, client: Client) -> asyncio.Protocol:
        if not is_within(client.address, self._terms.balancers):
            return self._first_stage(client)
        from proxy.balanced import HeaderReader

        return HeaderReader(self._context, client, self._first_stage)

    def _pause(self, why: str, seconds: float | None) -> None:
        """Stop accepting for a moment, or until there is room."""
        self._stop()
        self._context.counters.accept_pauses += 1
        now = self._context.loop.time()
        level = logging.WARNING if now >= self._quiet_until else logging.DEBUG
        self._quiet_until = now + LOG_INTERVAL
        log.log(level, "accepting pauses on %s port %d: %s", self.address, self.port, why)
        if seconds is not None:
            self._resume = self._context.loop.call_later(seconds, self._resumed)

    def _resumed(self) -> None:
        self._resume = None
        self.start()


class Proxy:
    """SOCKS5 and HTTP in front of a network.  Belongs to the event loop that runs when it is made."""

    def __init__(
        self,
        net: Net,
        *,
        routes: Mapping[str, Route] | None = None,
        rules: Rules = Rules(),  # noqa: B008  (immutable)
        dial_timeout: float = 10.0,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
        access_log: Callable[[Client, str], None] | None = None,
        pages: OwnPages | None = None,
        via: str | None = None,
    ) -> None:
        """`net` is the route "tunnel", which what no rule names takes; `routes` are those besides that rules name."""
        loop = asyncio.get_running_loop()
        self._net = net
        self._policy = Policy()
        dialer = Dialer(
            {TUNNEL: Route(TUNNEL, net, start=getattr(net, "start_connection", None)), **(routes or {})},
            rules,
            self._policy,
            dial_timeout,
        )
        self._context = Context(loop, dialer, limits)
        self._context.write = access_log
        self._context.pages = pages
        self._context.via = via.encode() if via is not None else None
        self._context.on_room = self._on_room
        self._drained: asyncio.Future[None] | None = None
        self._listeners: list[Listener | InsideListener] = []
        self._sweep_timer = loop.call_later(limits.idle_timeout / SWEEPS, self._sweep)

    async def listen(
        self,
        host: str,
        port: int,
        *,
        protocols: Iterable[str] = PROTOCOLS,
        terms: Terms = Terms(),  # noqa: B008  (frozen)
        open_to_all: bool = False,
    ) -> list[Listener]:
        """Listen on every address of `host` ("" is all of this machine's); port 0 lets the kernel choose.

        Raises OpenListener where others than this machine could come in with neither a password nor an address of
        `terms.allow_from`, unless `open_to_all`; OSError, naming the address, where it cannot be bound.
        """
        terms = dataclasses.replace(terms, protocols=frozenset(protocols))
        addresses = await addresses_of(host)
        asks = terms.users is not None or terms.allow_from
        if not asks and not all(ip_address(address).is_loopback for address in addresses):
            if not open_to_all:
                raise OpenListener(f"{host or 'every address'} port {port} is open to others and asks for no password")
            log.warning("%s port %d serves whoever reaches it, without a password", host or "every address", port)
        openers = _openers(terms)
        return self._listen(
            addresses, port, lambda client: Sniffer(self._context, openers, client), terms, frozenset(openers)
        )

    async def listen_inside(
        self,
        net: ListeningNet,
        host: str,
        port: int,
        *,
        protocols: Iterable[str] = PROTOCOLS,
        terms: Terms = Terms(),  # noqa: B008  (frozen)
        open_to_all: bool = False,
    ) -> list[InsideListener]:
        """As listen, on one of the tunnel's own addresses ("" is all of them), for its peers."""
        terms = dataclasses.replace(terms, protocols=frozenset(protocols), certificate=None)
        if not open_to_all and terms.users is None and not terms.allow_from:
            raise OpenListener(f"port {port} inside the tunnel is open to every peer and asks for no password")
        context, openers = self._context, _openers(terms)
        server = await net.create_server(
            lambda: Inside(context, terms, lambda client: Sniffer(context, openers, client)), host or None, port
        )
        made = [
            InsideListener(server, address, server.port, terms.protocols)
            for address in ([host] if host else net.addresses)
        ]
        self._policy.own.update((one.address, one.port) for one in made)
        self._listeners += made
        return made

    async def forward(
        self,
        host: str,
        port: int,
        target: tuple[str, int],
        *,
        terms: Terms = Terms(),  # noqa: B008  (frozen)
        header: Version | None = None,
    ) -> list[Listener]:
        """Connect whoever comes to `target`, a name or address in the tunnel.  `header`: say who it is before."""
        from proxy.forwards import Forward

        context, net = self._context, self._net
        return self._listen(
            await addresses_of(host), port, lambda client: Forward(context, client, net, target, header), terms
        )

    def _listen(
        self,
        addresses: Sequence[str],
        port: int,
        first_stage: FirstStage,
        terms: Terms,
        protocols: frozenset[str] = frozenset(),
    ) -> list[Listener]:
        made: list[Listener] = []
        try:
            for address in addresses:
                sock = bind(address, made[0].port if made else port)
                made.append(Listener(self._context, sock, first_stage, terms, protocols))
        except BaseException:
            for listener in made:
                listener.close()
            raise
        for listener in made:
            listener.start()
            self._policy.own.add((listener.address, listener.port))
        self._listeners += made
        return made

    def drain(self) -> None:
        """Stop listening, and let every client finish what it is at: `unfinished` tells how many still do."""
        context = self._context
        context.draining = True
        self._stop_listening()
        for session in list(context.sessions):
            session.drain()

    def unfinished(self) -> int:
        """Clients, and relays whose client has gone but whose last bytes the far end has not taken yet."""
        context = self._context
        return max(context.open - sum(context.associations.values()), len(context.sessions))  # those have two places

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            self._policy.own.discard((listener.address, listener.port))
            listener.close()
        self._listeners.clear()

    async def close(self) -> None:
        """Stop listening, end every connection, and wait until they are gone."""
        context = self._context
        context.closing = True
        self._stop_listening()
        self._sweep_timer.cancel()
        context.deadlines.close()
        for session in list(context.sessions):
            session.abort()
        if context.open and self._drained is None:
            self._drained = context.loop.create_future()
        if self._drained is not None:
            await asyncio.wait([self._drained], timeout=CLOSE_TIMEOUT)

    def statistics(self) -> ProxyStatistics:
        context, counters = self._context, self._context.counters
        associations = sum(context.associations.values())
        return ProxyStatistics(
            connections=context.open - associations,
            associations=associations,
            handshakes=len(context.handshakes),
            accepted=counters.accepted,
            socks4=counters.socks4,
            socks5=counters.socks5,
            http_connect=counters.http_connect,
            http_forward=counters.http_forward,
            bytes_up=counters.bytes_up,
            bytes_down=counters.bytes_down,
            accept_pauses=counters.accept_pauses,
            refused=dict(counters.refused),
        )

    def _on_room(self) -> None:
        for listener in self._listeners:
            listener.start()
        if self._drained is not None and not self._drained.done() and not self._context.open:
            self._drained.set_result(None)

    def _sweep(self) -> None:
        """End what has been idle for SWEEPS of these."""
        for session in list(self._context.sessions):
            session.idle += 1
            if session.idle > SWEEPS:
                self._context.counters.refuse("idle")
                session.abort()
        self._sweep_timer = self._context.loop.call_later(self._context.limits.idle_timeout / SWEEPS, self._sweep)


def _openers(terms: Terms) -> dict[str, Opener]:
    protocols = terms.protocols
    if not protocols or protocols - PROTOCOLS:
        raise ValueError(f"protocols are some of {sorted(PROTOCOLS)}")
    openers: dict[str, Opener] = {}
    if SOCKS5 in protocols:  # whoever speaks the one may speak the other
        openers |= {SOCKS5: open_socks5, SOCKS4: open_socks4}
    if HTTP in protocols:
        openers[HTTP] = _open_http
        if terms.certificate is not None:
            openers[TLS] = _open_tls
    return openers


def _open_http(context: Context, client: Client, transport: asyncio.Transport, data: bytes) -> None:
    """What speaks HTTP is imported when the first such client comes."""
    from proxy.http.handler import open_http

    open_http(context, client, transport, data)


def _open_tls(context: Context, client: Client, transport: asyncio.Transport, data: bytes) -> None:
    """Inside TLS there is one protocol, whose first byte may be as long in coming as that of any."""
    from proxy.tls import Handshake

    Handshake(context, client, lambda: Sniffer(context, {HTTP: _open_http}, client), transport).data_received(data)
