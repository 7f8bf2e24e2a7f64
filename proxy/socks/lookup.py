"""RESOLVE and RESOLVE_PTR (Tor's socks-extensions, section 2): names and addresses, by whom a dial would ask.

Rules and policy hold as for a dial: what must not be reached is not looked up, and a name that only means such an
address has none to tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from proxy.client import Client
from proxy.dialer import GRACE, Dialer
from proxy.names import BadHost, parse_address, parse_host
from proxy.routes import Net, Unsupported
from usernet.errors import NameNotFound


@runtime_checkable
class ReversingNet(Net, Protocol):
    """A route's net that knows whom to ask for an address's name."""

    async def reverse(self, address: str) -> Sequence[str]: ...


async def resolve(dialer: Dialer, client: Client, host: str, port: int, *, only_ipv4: bool) -> str:
    """An address of a host, IPv4 where it has both: older clients expect ten bytes.  Raises what a dial would."""
    async with asyncio.timeout(dialer.timeout + GRACE):
        places = await dialer.locate(client, host, port)
        client.route = places[0].route.name
        addresses = [place.host for place in places if parse_address(place.host) is not None]
        if not addresses:
            raise Unsupported("names are resolved at the far end of this route")
        addresses.sort(key=lambda address: ":" in address)
        if only_ipv4 and ":" in addresses[0]:
            raise NameNotFound("the name has no IPv4 address")
        return addresses[0]


async def resolve_ptr(dialer: Dialer, client: Client, address: str, port: int) -> str:
    """The name of an address.  Raises what a dial would, NameNotFound where it has none that is fit for use."""
    async with asyncio.timeout(dialer.timeout + GRACE):
        [place] = await dialer.locate(client, address, port)
        client.route = place.route.name
        net = place.route.net
        if not isinstance(net, ReversingNet):
            raise Unsupported("this route looks up no names")
        for name in await net.reverse(place.host):
            try:
                found = parse_host(name.encode("ascii", "replace"))
            except BadHost:
                continue
            if parse_address(found) is None:
                return found
        raise NameNotFound("the address has no name")
