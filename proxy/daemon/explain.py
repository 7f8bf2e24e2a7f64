"""Which way a destination goes, in words.  The decision is the dialer's own; only the words are made here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import usernet
from proxy.client import Client, Terms
from proxy.daemon.narrator import short_key
from proxy.daemon.serving import routes
from proxy.dialer import Dialer, Place
from proxy.names import parse_address
from proxy.policy import Forbidden, Policy, unmapped
from proxy.routes import DIRECT, TUNNEL, HostNet, Route
from proxy.rules import Rules
from usernet.config import Config, Network, Peer, format_network
from usernet.config.values import mask
from usernet.errors import DialError

Line = tuple[str, bool]  # and whether the destination can still be dialled


class SleepingTunnel:
    """The tunnel of a configuration, which wakes up when a name is asked for."""

    def __init__(self, config: Config, stack: contextlib.AsyncExitStack, has_key: bool) -> None:
        self._config = config
        self._stack = stack
        self._has_key = has_key

    async def resolve(self, name: str) -> Sequence[str]:
        if not self._has_key:
            raise DialError("the name is asked of the tunnel, whose generated key only the daemon has; name an address")
        network = await self._stack.enter_async_context(usernet.open_tunnel(self._config, port=0))
        return await network.resolve(name)

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[Any, Any]:
        raise NotImplementedError("nothing is dialled here")


async def explain(
    config: Config, host: str, port: int, user: str | None, *, has_key: bool = True
) -> AsyncIterator[Line]:
    """A line for each address of a destination, or one that says why there is none.

    `has_key`: the configuration's private key is the tunnel's, and not one in its place.
    """
    async with contextlib.AsyncExitStack() as stack:
        tunnel = SleepingTunnel(config, stack, has_key)
        ways = {TUNNEL: Route(TUNNEL, tunnel), **routes(config.access, tunnel, HostNet())}
        dialer = Dialer(ways, Rules(config.access.rules), Policy(), 0.0)
        who = Client(Terms(), "", 0, None)
        who.user = user
        try:
            places = await dialer.locate(who, host, port)
        except Forbidden as error:
            yield f"{host} port {port}: refused: {error.strerror}", False
            return
        except DialError as error:
            yield f"{host} port {port}: {error.strerror}", False
            return
    for place in places:
        yield _words(config, host, place)


def _words(config: Config, host: str, place: Place) -> Line:
    where = f"{host} port {place.port}" + (f" at {place.host}" if place.host != host else "")
    why = f"the rule of line {place.rule.line}: {place.rule.text}" if place.rule else "no rule names it"
    if place.route.name == DIRECT:
        return f"{where}: goes out directly, by this host's own network, because of {why}", True
    if place.route.name != TUNNEL:
        upstream = next(one for one in config.access.upstreams if one.name == place.route.name)
        by = f"the {upstream.scheme} proxy {place.route.name} at {upstream.address[0]} port {upstream.address[1]}"
        way = "reached through the tunnel" if upstream.through == TUNNEL else "reached directly"
        return f"{where}: goes by {by}, {way}, because of {why}", True
    if parse_address(place.host) is None:
        return f"{where}: goes through the tunnel; {why}", True
    found = peer_of(config, unmapped(place.host)[1])
    if found is None:
        return f"{where}: refused: no peer's AllowedIPs cover it, and {why}", False
    peer, net = found
    key = short_key(peer.public_key)
    return f"{where}: goes through peer {key} (line {peer.line}) because of {format_network(net)}; {why}", True


def peer_of(config: Config, packed: bytes) -> tuple[Peer, Network] | None:
    """Whose allowed IPs cover an address by the longest prefix; of equals the last, as WireGuard has it."""
    best: tuple[Peer, Network] | None = None
    for peer in config.peers:
        for net in peer.allowed_ips:
            covers = len(net[0]) == len(packed) and mask((packed, net[1])) == net
            if covers and (best is None or net[1] >= best[1][1]):
                best = peer, net
    return best
