"""A proxy with all its listeners, in front of a network, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple

from proxy.accesslog import AccessLog
from proxy.auth import Users
from proxy.certificate import Certificate
from proxy.client import Terms
from proxy.daemon.listeners import Listen, ListenError
from proxy.daemon.narrator import format_endpoint
from proxy.daemon.process import descriptor_limit, log
from proxy.http.own import OwnPages
from proxy.inside import InsideListener
from proxy.listener import Listener
from proxy.mux import HTTP, SOCKS5, TLS
from proxy.routes import DIRECT, TUNNEL, HostNet, Net, Route
from proxy.rules import Rules
from proxy.server import OpenListener, Proxy, check_open, check_open_inside
from proxy.session import IDLE_TIMEOUT, Limits
from proxy.upstreams import upstream_routes
from usernet.config import Access, Network, format_network

KEPT_DESCRIPTORS = 64  # of the limit, for everything that is not a client
NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
# What to do about an error of listening.
REMEDIES = {
    errno.EADDRINUSE: "end what listens there, or choose another port",
    errno.EADDRNOTAVAIL: "name an address of this machine, such as 127.0.0.1",
    errno.EACCES: "choose a port from 1024 up, which needs no privileges",
}
FEW_HANDSHAKES = 64  # in flight, which nobody is pushed out for
FEW_CLIENTS = 256  # fewer at once are worth a word: a browser alone opens dozens
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Caps:
    """What a person sets of proxy.session.Limits.  None: as many clients as there are descriptors for."""

    clients: int | None = None
    clients_per_address: int | None = None
    idle_timeout: float = IDLE_TIMEOUT

    def limits(self, descriptors: int) -> Limits:
        clients = client_limit(descriptors)
        if self.clients is not None:
            if self.clients > clients:
                log.warning(
                    "%d clients at once are more than %d open files allow: %d", self.clients, descriptors, clients
                )
            clients = min(clients, self.clients)
        # Half of many: whoever says nothing, or takes his time, leaves the other half to the rest.
        return Limits(
            connections=clients,
            connections_per_client=self.clients_per_address,
            handshakes=max(clients // 2, min(clients, FEW_HANDSHAKES)),
            idle_timeout=self.idle_timeout,
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """A listener with the address it has got."""

    listen: Listen
    address: str
    port: int
    tls: bool = False  # HTTP is spoken inside TLS as well

    @property
    def client_address(self) -> tuple[str, int]:
        """Where a client on this machine finds it."""
        return ANY.get(self.address, self.address), self.port

    def __str__(self) -> str:
        inside = " (also inside TLS)" if self.tls else ""
        where = "inside the tunnel, on" if self.listen.inside else "on"
        return f"{self.listen.protocols}{inside} {where} {format_endpoint((self.address, self.port))}"


class _Opened(NamedTuple):
    listen: Listen
    listeners: Sequence[Listener | InsideListener]


class Serving:
    """A proxy, and the listeners that it has at present.  They change in two steps: see `prepare`."""

    def __init__(
        self,
        net: Net,
        *,
        dial_timeout: float = 10.0,
        allow_anyone: bool = False,
        access_log: AccessLog | None = None,
        via: str | None = None,
        certificate: Certificate | None = None,
        pages: OwnPages | None = None,
        caps: Caps | None = None,
        interface: str = "",
        mark: int = 0,
    ) -> None:
        """`interface`: the kernel's, where it has the tunnel; `mark`: what direct connections keep out of that by."""
        self._net: Any = net
        self._interface = interface
        self.host = HostNet(mark)
        self._allow_anyone = allow_anyone
        self._certificate = certificate
        self._open: dict[tuple[object, ...], _Opened] = {}
        self.proxy = Proxy(
            net,
            dial_timeout=dial_timeout,
            limits=(caps or Caps()).limits(descriptor_limit()),
            access_log=access_log,
            pages=pages,
            via=via,
        )

    @property
    def bound(self) -> list[Bound]:
        """In the order in which they were asked for."""
        return [
            Bound(opened.listen, one.address, one.port, tls=TLS in one.protocols)
            for opened in self._open.values()
            for one in opened.listeners
        ]

    async def prepare(
        self, listeners: Sequence[Listen], access: Access, undo: contextlib.ExitStack
    ) -> Callable[[], None]:
        """Open what is new, for now with `undo`; what is returned makes the rest so, and cannot fail.

        Who is connected stays: an address that is gone takes nobody new, one that stays asks by the new terms.
        ListenError where one cannot be.
        """
        ways = routes(access, self._net, self.host)
        users = Users((user.name, user.secret) for user in access.users) if access.users else None
        base = Terms(users, networks(access.allow_from), self._certificate)
        after: dict[tuple[object, ...], _Opened] = {}
        altered: list[tuple[_Opened, Terms]] = []
        for listen in listeners:
            key = _place(listen, after)
            terms = _terms(listen, base)
            before = self._open.get(key)
            if before is None:
                opened = await self._listen(listen, terms)
                undo.callback(self.proxy.stop, opened)
                after[key] = _Opened(listen, opened)
            else:
                self._check(before, terms)
                after[key] = before._replace(listen=listen)
                altered.append((after[key], terms))

        def commit() -> None:
            self.proxy.obey(Rules(access.rules), ways)
            for opened, terms in altered:
                self.proxy.serve(opened.listeners, _protocols(opened.listen), terms)
            for key, opened in self._open.items():
                if key not in after:
                    self.proxy.stop(opened.listeners)
            self._open = after

        return commit

    def _check(self, opened: _Opened, terms: Terms) -> None:
        """Whether the terms may be those of what is open.  ListenError."""
        listen = opened.listen
        try:
            if listen.inside:
                check_open_inside(listen.port, terms, self._allow_anyone)
            else:
                addresses = [one.address for one in opened.listeners]
                check_open(listen.host, listen.port, addresses, terms, self._allow_anyone)
        except OpenListener as error:
            raise _too_open(error) from None

    async def _listen(self, listen: Listen, terms: Terms) -> Sequence[Listener | InsideListener]:
        where, protocols, anyone = (listen.host, listen.port), _protocols(listen), self._allow_anyone
        proxy = self.proxy
        try:
            if listen.inside and self._interface:
                return await proxy.listen(
                    *where, protocols=protocols, terms=terms, open_to_all=anyone, interface=self._interface
                )
            if listen.inside:
                return await proxy.listen_inside(
                    self._net, *where, protocols=protocols, terms=terms, open_to_all=anyone
                )
            if listen.sock is not None:
                return proxy.adopt(listen.sock, protocols=protocols, terms=terms, open_to_all=anyone)
            return await proxy.listen(*where, protocols=protocols, terms=terms, open_to_all=anyone)
        except OpenListener as error:
            raise _too_open(error) from None
        except OSError as error:
            if listen.optional and error.errno in NO_SUCH_ADDRESS:
                log.debug("%s", error.strerror)
                return []
            raise refusal(error, listen.host) from None


@contextlib.asynccontextmanager
async def serve(
    net: Net,
    listeners: Sequence[Listen],
    access: Access = Access(),  # noqa: B008  (frozen)
    **options: Any,
) -> AsyncIterator[list[Bound]]:
    """Listen on all of them for as long as the block lasts.  `options` are those of Serving.  ListenError."""
    serving = Serving(net, **options)
    try:
        with contextlib.ExitStack() as undo:
            (await serving.prepare(listeners, access, undo))()
            undo.pop_all()
        yield serving.bound
    finally:
        await serving.proxy.close()


def _place(listen: Listen, taken: Collection[tuple[object, ...]]) -> tuple[object, ...]:
    """What makes a listener the same as before: its address, and of several on port 0 which one."""
    number = 0
    while (key := (listen.host, listen.port, listen.inside, number)) in taken:
        number += 1
    return key


def _protocols(listen: Listen) -> list[str]:
    return [name for name, wanted in ((SOCKS5, listen.socks5), (HTTP, listen.http)) if wanted]


def _terms(listen: Listen, base: Terms) -> Terms:
    if listen.username is not None and listen.password is not None:  # a section's own login is instead of [Access]'s
        base = replace(base, users=Users([(listen.username, listen.password)]))
    if listen.certificate is not None:
        base = replace(base, certificate=Certificate(*listen.certificate))
    return replace(base, balancers=networks(listen.balancers))


def _too_open(error: OpenListener) -> ListenError:
    return ListenError(
        f"{error}; listen on 127.0.0.1, set Username and Password in the file's [Socks5] and [http], "
        "or add --allow-anyone"
    )


def client_limit(descriptors: int) -> int:
    """How many clients at once; half of what there is where that is little."""
    clients = max(descriptors - KEPT_DESCRIPTORS, descriptors // 2)
    if clients < FEW_CLIENTS:
        log.warning(
            "only %d files may be open: at most %d clients at once; `ulimit -n` raises it", descriptors, clients
        )
    return clients


def routes(access: Access, tunnel: Net, host: HostNet) -> dict[str, Route]:
    """Those that the rules may name, besides the tunnel."""
    nets = {TUNNEL: tunnel, DIRECT: host}
    return {DIRECT: Route(DIRECT, nets[DIRECT]), **upstream_routes(access.upstreams, nets)}


def refusal(error: OSError, host: str) -> ListenError:
    """An error of listening, with what to do about it."""
    if isinstance(error, socket.gaierror):
        return ListenError(f"cannot listen on {host}: {error.strerror}; {REMEDIES[errno.EADDRNOTAVAIL]}")
    said = error.strerror or f"cannot listen on {host}: {error}"
    remedy = REMEDIES.get(error.errno or 0)
    return ListenError(f"{said}; {remedy}" if remedy else said)


def networks(found: Sequence[Network]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(format_network(net)) for net in found)
