"""What the kernel has of what is wanted, by rtnetlink.

It is set step by step, and each step that has come about is noted: whatever fails, what is to be taken back is known.
Rules and routes carry a protocol number of our own (as those of routing daemons do), so that nobody else's are touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Final, NamedTuple

from usernet.config import Network, format_network
from usernet.tun.wanted import MAIN_TABLE, Wanted, priorities
from usernet.wire.ip import format_address

PROTOCOL: Final = 117  # of rules and routes: who made them
_INVERT: Final = 2  # FIB_RULE_INVERT
_NODAD: Final = 2  # IFA_F_NODAD: nobody else is on this link
_IFF_UP: Final = 1
_GONE: Final = frozenset({errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV})  # what is to be deleted

Route = tuple[Network, int]  # and the table that it stands in


class Rule(NamedTuple):
    """One of the two that a default route needs: the main table first, but for its default routes; then ours, but for
    our own outer packets."""

    size: int  # of addresses: 4, 16
    table: int
    is_ours: bool


class Applied:
    """What has been set of one interface."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mtu = 0  # not known
        self._is_up = False
        self._addresses: list[Network] = []
        self._routes: set[Route] = set()
        self._rules: set[Rule] = set()
        self._stays: tuple[tuple[Network, ...], frozenset[Route]] | None = None

    def find(self, after: Wanted) -> None:
        """Of a persistent interface: what it has of this already is not set again, and stays.  Raises OSError."""
        with netlink_socket() as netlink:
            index = _index(netlink, self._name)
            link = netlink.get_links(index)[0]
            addresses = {(each.get("address"), each["prefixlen"]) for each in netlink.get_addr(index=index)}
            routes = {
                (destination(route), route["dst_len"], route.get("table"))
                for family in (socket.AF_INET, socket.AF_INET6)
                for route in netlink.get_routes(family=family, oif=index)
            }
        self._mtu, self._is_up = link.get("mtu"), bool(link["flags"] & _IFF_UP)
        self._addresses = [each for each in after.addresses if (format_address(each[0]), each[1]) in addresses]
        self._routes = {
            (net, table) for net, table in after.routes if (format_address(net[0]), net[1], table) in routes
        }
        self._stays = tuple(self._addresses), frozenset(self._routes)

    def become(self, after: Wanted, failed: Callable[[OSError], None] | None = None) -> None:
        """Raises OSError at the first step that fails; with `failed`, tell it, and go on."""
        rules = {Rule(size, after.table, is_ours) for size in after.ruled for is_ours in (False, True)}
        self._become(after.addresses, after.routes, rules, failed or _raise, after.mtu)

    def take_back(self, failed: Callable[[OSError], None]) -> None:
        """What would stay: an interface that does not is gone with its descriptor, and has its addresses and routes
        with it.  What cannot be taken back is told."""
        if self._stays is not None:
            addresses, routes = self._stays
            try:
                self._become(addresses, routes, frozenset(), failed)
            except OSError as error:
                if error.errno not in _GONE:
                    failed(error)
        if self._rules:
            try:
                with netlink_socket() as netlink:
                    self._remove_rules(netlink, self._rules, failed)
            except OSError as error:
                failed(error)

    def _become(
        self,
        addresses: tuple[Network, ...],
        routes: AbstractSet[Route],
        rules: AbstractSet[Rule],
        failed: Callable[[OSError], None],
        mtu: int = 0,
    ) -> None:
        """Without an `mtu` the interface itself is left as it is."""
        with netlink_socket() as netlink:
            index = _index(netlink, self._name)
            did = partial(_did, failed)
            if mtu not in (0, self._mtu) and did(netlink.link, "set", f"the MTU to {mtu}", index=index, mtu=mtu):
                self._mtu = mtu
            for address in addresses:
                if address not in self._addresses and did(
                    netlink.addr, "add", format_address(address[0]), index=index, **_address(address)
                ):
                    self._addresses.append(address)
            if mtu and not self._is_up:
                self._is_up = did(netlink.link, "set", "the interface up", index=index, state="up")
            for rule in sorted(rules - self._rules):
                if did(netlink.rule, "add", _in_words(rule), **_rule(self._name, rule)):
                    self._rules.add(rule)
            for route in self._routes - routes:
                if did(netlink.route, "del", format_network(route[0]), oif=index, **_route(*route)):
                    self._routes.discard(route)
            for route in routes - self._routes:
                if did(netlink.route, "add", format_network(route[0]), oif=index, **_route(*route)):
                    self._routes.add(route)
            self._remove_rules(netlink, self._rules - rules, failed)
            for address in [each for each in self._addresses if each not in addresses]:
                if did(netlink.addr, "del", format_address(address[0]), index=index, **_address(address)):
                    self._addresses.remove(address)

    def _remove_rules(self, netlink: Any, rules: Iterable[Rule], failed: Callable[[OSError], None]) -> None:
        for rule in sorted(rules):
            if _did(failed, netlink.rule, "del", _in_words(rule), **_rule(self._name, rule)):
                self._rules.discard(rule)


@contextlib.contextmanager
def netlink_socket() -> Iterator[Any]:
    """Its errors are OSErrors."""
    from pyroute2 import IPRoute, NetlinkError  # a fifth of a second, for who needs it

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from None


def destination(route: Any) -> str:
    """The kernel leaves it out of a default route."""
    return route.get("dst") or ("::" if route["family"] == socket.AF_INET6 else "0.0.0.0")


def _index(netlink: Any, name: str) -> int:
    found: list[int] = netlink.link_lookup(ifname=name)
    if not found:
        raise OSError(errno.ENODEV, f"the interface {name} is gone")
    return found[0]


def _did(failed: Callable[[OSError], None], verb: Callable[..., Any], action: str, what: str, **arguments: Any) -> bool:
    """One request, and whether what it asks for is so."""
    from pyroute2 import NetlinkError

    try:
        verb(action, **arguments)
    except NetlinkError as error:
        if action == "del" and error.code in _GONE:
            return True
        failed(OSError(error.code, f"cannot {action} {what}: {os.strerror(error.code)}"))
        return False
    return True


def _raise(error: OSError) -> None:
    raise error from None


def _address(address: Network) -> dict[str, Any]:
    packed, length = address
    flags = {"flags": _NODAD} if len(packed) == 16 else {}
    return {"address": format_address(packed), "prefixlen": length, **flags}


def _route(net: Network, table: int) -> dict[str, Any]:
    return {"dst": format_network(net), "table": table, "proto": PROTOCOL, "family": _family(len(net[0]))}


def _rule(name: str, rule: Rule) -> dict[str, Any]:
    first, second = priorities(name)
    base = {"family": _family(rule.size), "FRA_PROTOCOL": PROTOCOL}
    if rule.is_ours:
        return {**base, "priority": second, "table": rule.table, "fwmark": rule.table, "flags": _INVERT}
    return {**base, "priority": first, "table": MAIN_TABLE, "FRA_SUPPRESS_PREFIXLEN": 0}


def _in_words(rule: Rule) -> str:
    return f"the rule for table {rule.table if rule.is_ours else MAIN_TABLE}"


def _family(size: int) -> int:
    return socket.AF_INET if size == 4 else socket.AF_INET6
