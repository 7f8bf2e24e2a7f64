"""The proxy's public entry: listeners in front of a network.

    proxy = Proxy(net)
    listener = await proxy.listen("127.0.0.1", 1080)
    ...
    await proxy.close()

The way of a connection: `Listener` accepts (listener.py) -> mux.Sniffer (first byte) -> socks/handler or http/handler
(the dialogue) -> connect.Handler.dial -> relay.join, or http/forward for HTTP requests that are not CONNECT.  Behind a
load balancer balanced.HeaderReader comes first; clients of a forward go to forwards.Forward at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from proxy.binding import addresses_of, bind
from proxy.client import Client, Terms
from proxy.dialer import Dialer
from proxy.http.own import OwnPages
from proxy.inside import Door, Inside, InsideListener, ListeningNet
from proxy.listener import FirstStage, Listener
from proxy.memory import Relief
from proxy.mux import HTTP, SOCKS4, SOCKS5, TLS, Opener, Sniffer
from proxy.policy import Policy
from proxy.proxyprotocol import Version
from proxy.routes import TUNNEL, Net, Route
from proxy.rules import Rules
from proxy.session import SWEEPS, Context, Limits, log
from proxy.socks.handler import open_socks4, open_socks5
from usernet.errors import UsernetError

PROTOCOLS = frozenset({SOCKS5, HTTP})
CLOSE_TIMEOUT = 1.0


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
    dialled: int
    bytes_up: int
    bytes_down: int
    accept_pauses: int
    refused: Mapping[str, int]


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
        dialer = Dialer(self._ways(routes or {}), rules, self._policy, dial_timeout)
        self._context = Context(loop, dialer, limits)
        self._context.write = access_log
        self._context.pages = pages
        self._context.via = via.encode() if via is not None else None
        self._context.on_room = self._on_room
        self._relief = Relief(loop)
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
        interface: str = "",
    ) -> list[Listener]:
        """Listen on every address of `host` ("" is all of this machine's); port 0 lets the kernel choose.

        `interface`: for what comes by that one alone.

        Raises OpenListener where others than this machine could come in with neither a password nor an address of
        `terms.allow_from`, unless `open_to_all`; OSError, naming the address, where it cannot be bound.
        """
        terms = dataclasses.replace(terms, protocols=frozenset(protocols))
        addresses = await addresses_of(host)
        check_open(host, port, addresses, terms, open_to_all)
        return self._listen(addresses, port, *self._served(terms), interface)

    def adopt(
        self,
        sock: socket.socket,
        *,
        protocols: Iterable[str] = PROTOCOLS,
        terms: Terms = Terms(),  # noqa: B008  (frozen)
        open_to_all: bool = False,
    ) -> list[Listener]:
        """As listen, on a socket that listens already; it is ours from now on."""
        terms = dataclasses.replace(terms, protocols=frozenset(protocols))
        address, port = sock.getsockname()[:2]
        check_open(address, port, [address], terms, open_to_all)
        return self._start([Listener(self._context, sock, *self._served(terms))])

    def _served(self, terms: Terms) -> tuple[FirstStage, Terms, frozenset[str]]:
        context, openers = self._context, _openers(terms)
        return lambda client: Sniffer(context, openers, client), terms, frozenset(openers)

    def _ways(self, others: Mapping[str, Route]) -> dict[str, Route]:
        return {TUNNEL: Route(TUNNEL, self._net, start=getattr(self._net, "start_connection", None)), **others}

    def obey(self, rules: Rules, routes: Mapping[str, Route]) -> None:
        """Other rules, and the routes that they name, for whoever asks from now on."""
        self._context.dialer.obey(self._ways(routes), rules)

    def serve(self, listeners: Iterable[Listener | InsideListener], protocols: Iterable[str], terms: Terms) -> None:
        """Other protocols and terms for whoever comes to these from now on.  See `check_open`."""
        served = self._served(dataclasses.replace(terms, protocols=frozenset(protocols)))
        for listener in listeners:
            listener.serve(*served)

    def stop(self, listeners: Iterable[Listener | InsideListener]) -> None:
        """Listen there no longer; who has come stays."""
        for listener in listeners:
            self._policy.own.discard((listener.address, listener.port))
            listener.close()
            self._listeners.remove(listener)

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
        check_open_inside(port, terms, open_to_all)
        first_stage, terms, protocols = self._served(terms)
        context, door = self._context, Door(first_stage, terms)
        server = await net.create_server(lambda: Inside(context, door), host or None, port)
        made = [
            InsideListener(server, door, address, server.port, frozenset(protocols))
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
        interface: str = "",
    ) -> list[Listener]:
        """Connect whoever comes to `target`, a name or address in the tunnel.  `header`: say who it is before."""
        return self._listen(
            await addresses_of(host), port, self._forwarding(target, header), terms, frozenset(), interface
        )

    def _forwarding(self, target: tuple[str, int], header: Version | None) -> FirstStage:
        from proxy.forwards import Forward

        context, net = self._context, self._net
        return lambda client: Forward(context, client, net, target, header)

    def reforward(
        self, listeners: Iterable[Listener], target: tuple[str, int], terms: Terms, header: Version | None
    ) -> None:
        """Another target for whoever comes to these from now on."""
        for listener in listeners:
            listener.serve(self._forwarding(target, header), terms, frozenset())

    def _listen(
        self,
        addresses: Sequence[str],
        port: int,
        first_stage: FirstStage,
        terms: Terms,
        protocols: frozenset[str],
        interface: str,
    ) -> list[Listener]:
        made: list[Listener] = []
        try:
            for address in addresses:
                sock = bind(address, made[0].port if made else port, interface)
                made.append(Listener(self._context, sock, first_stage, terms, protocols))
        except BaseException:
            for listener in made:
                listener.close()
            raise
        return self._start(made)

    def _start(self, made: list[Listener]) -> list[Listener]:
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

    def break_connections(self) -> int:
        """Reset whatever is relayed or under way; how many that were."""
        sessions = list(self._context.sessions)
        for session in sessions:
            session.abort()
        return len(sessions)

    def unfinished(self) -> int:
        """Clients, and relays whose client has gone but whose last bytes the far end has not taken yet."""
        context = self._context
        return max(context.open - sum(context.associations.values()), len(context.sessions))  # those have two places

    def _stop_listening(self) -> None:
        self.stop(list(self._listeners))

    async def close(self) -> None:
        """Stop listening, end every connection, and wait until they are gone."""
        context = self._context
        context.closing = True
        self._stop_listening()
        self._sweep_timer.cancel()
        self._relief.close()
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
            dialled=counters.dialled,
            bytes_up=counters.bytes_up,
            bytes_down=counters.bytes_down,
            accept_pauses=counters.accept_pauses,
            refused=dict(counters.refused),
        )

    def clients(self) -> list[Client]:
        """Those that have asked for something and have not been refused it."""
        # Inside TLS there are two sessions for one client
        return list({id(one.client): one.client for one in self._context.sessions if one.client.method}.values())

    @property
    def open(self) -> int:
        """Places that clients have."""
        return self._context.open

    def paused(self) -> list[tuple[str, int]]:
        """Listeners that accept nobody just now: there are too many clients, or no descriptor is left."""
        return [(one.address, one.port) for one in self._listeners if isinstance(one, Listener) and one.is_paused]

    def _on_room(self) -> None:
        self._relief.ended(self._context.open)
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


def check_open(host: str, port: int, addresses: Sequence[str], terms: Terms, open_to_all: bool) -> None:
    """Raise OpenListener where others than this machine come in unasked, unless that is wanted."""
    asks = terms.users is not None or terms.allow_from
    if asks or all(ip_address(address).is_loopback for address in addresses):
        return
    if not open_to_all:
        raise OpenListener(f"{host or 'every address'} port {port} is open to others and asks for no password")
    log.warning("%s port %d serves whoever reaches it, without a password", host or "every address", port)


def check_open_inside(port: int, terms: Terms, open_to_all: bool) -> None:
    """The same for a port inside the tunnel."""
    if not open_to_all and terms.users is None and not terms.allow_from:
        raise OpenListener(f"port {port} inside the tunnel is open to every peer and asks for no password")


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
