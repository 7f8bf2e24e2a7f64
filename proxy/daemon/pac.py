"""Proxy auto-configuration: a configuration -> the JavaScript that tells a browser what goes to the proxy.

What belongs to the tunnel: addresses that its peers' allowed IPs cover, names under its search domains and those of its
name servers, and what the [Access] rules send there, or to another proxy.  Such names are never given to the machine's
own resolver.  The logic is pac.js; here are the values that it works on.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path
from typing import NamedTuple

from proxy.http.own import Content, Visit
from proxy.mux import SOCKS5
from proxy.routes import DIRECT, REFUSE
from usernet.config import Config, format_network

MEDIA_TYPE = "application/x-ns-proxy-autoconfig"
Net = IPv4Network | IPv6Network

# Never anybody else's: this host, this link, groups
NEVER = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8")
# Ours only where a network at least as close says so: a default route does not mean the printer beside us
PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
INTERNET = (IPv4Network("0.0.0.0/0"), IPv6Network("2000::/3"))


class Reach(NamedTuple):
    """What belongs to the tunnel.  `names` are exact, `suffixes` begin with a dot and hold the name itself, too."""

    inside: tuple[str, ...]
    names: tuple[str, ...]
    suffixes: tuple[str, ...]
    plain: bool  # names without a dot: there are search domains
    everywhere: bool  # every other name, because most of the Internet does


def reach(config: Config) -> Reach:
    rules = [rule for rule in config.access.rules if rule.route not in (DIRECT, REFUSE)]
    allowed = _nets(net for peer in config.peers for net in peer.allowed_ips)
    allowed += _nets(net for rule in rules for net in rule.networks)
    # Those of the interface, and its name servers, are closer than a default route
    near = _nets(config.interface.addresses) + [ip_network(server) for server in config.interface.dns]
    inside = allowed + [net for net in near if any(_holds(one, net) for one in allowed)]
    never = [ip_network(text) for text in NEVER]
    domains = list(config.interface.dns_search)
    for server in config.access.name_servers:
        domains += server.domains
    suffixes = ["." + domain.strip(".").lower() for domain in domains]
    for rule in rules:
        suffixes += rule.suffixes
    return Reach(
        tuple(dict.fromkeys(str(net) for net in inside if not any(_holds(one, net) for one in never))),
        tuple(sorted({name for rule in rules for name in rule.names})),
        tuple(dict.fromkeys(suffixes)),
        plain=bool(config.interface.dns_search),
        everywhere=any(rule.everything for rule in rules) or any(_most(whole, allowed) for whole in INTERNET),
    )


def _nets(nets: Iterable[tuple[bytes, int]]) -> list[Net]:
    return [ip_network(format_network(net), strict=False) for net in nets]


def _holds(outer: Net, inner: Net) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _most(whole: Net, nets: list[Net]) -> bool:
    """Whether they cover more than half of it: lists of all but the private networks count, too."""
    if any(_holds(net, whole) for net in nets):
        return True
    parts = collapse_addresses([net for net in nets if _holds(whole, net)])  # type: ignore[type-var]  # of one family
    return sum(net.num_addresses for net in parts) * 2 > whole.num_addresses


def script(found: Reach, own: str, proxies: str) -> str:
    """`own`: the host that the proxy itself is on; `proxies`: what FindProxyForURL is to answer."""
    values = {**found._asdict(), "outside": [*NEVER, *PRIVATE], "own": own, "proxies": proxies}
    lines = [f"var {name} = {json.dumps(value)};" for name, value in values.items()]
    return "\n".join([*lines, "", _logic()])


@functools.cache
def _logic() -> str:
    return Path(__file__).with_name("pac.js").read_text("ascii")


def proxies_for(visit: Visit) -> str:
    """The proxy as the client came to it.  Who came by TLS is not told of ways without; SOCKS knows no login here."""
    terms = visit.terms
    ways = ["HTTPS"] if terms.certificate is not None else []
    if not visit.secure:
        ways.append("PROXY")
        if SOCKS5 in visit.terms.protocols and terms.users is None:
            ways.append("SOCKS5")
    return "; ".join(f"{way} {visit.authority}" for way in ways)


class PacPage:
    """/proxy.pac.  What belongs to the tunnel is worked out when somebody asks first: 25 µs a network are 0.5 s of a
    provider's list of 20,000, which most never ask for.  The rest of the script takes 10 µs."""

    __slots__ = ("_config", "_reach")

    def __init__(self, config: Config) -> None:
        self.learn(config)

    def learn(self, config: Config) -> None:
        self._config = config
        self._reach: Reach | None = None

    def __call__(self, visit: Visit) -> Content:
        if self._reach is None:
            self._reach = reach(self._config)
        return Content(MEDIA_TYPE, script(self._reach, visit.host, proxies_for(visit)).encode("ascii"))
