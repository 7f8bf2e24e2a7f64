"""A TUN with its addresses, routes, rules and name servers, and the way back: all that was set is taken away.

The interface itself goes with its descriptor, and with it its addresses and routes.  What would stay are rules, name
servers and a table of nftables: `close` removes them, and `cleanup` does after a crash.  Rules and routes carry a
protocol number of our own (as those of routing daemons do), so that nobody else's are touched.

A persistent interface, made beforehand (`ip tuntap add`), stays.  What it has of what is wanted is not set again, so
that its owner needs no privileges where root has set all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from usernet.aio.runtime import log
from usernet.config import Config, format_network
from usernet.config.lines import shown
from usernet.tun.device import is_persistent, open_tun
from usernet.tun.firewall import Firewall, remove_table
from usernet.tun.link import TunLink
from usernet.tun.names import NameServers, forget_names
from usernet.tun.wanted import MAIN_TABLE, Wanted, own_table, priorities, wanted
from usernet.wire.ip import format_address

PROTOCOL: Final = 117  # of rules and routes: who made them
_INVERT: Final = 2  # FIB_RULE_INVERT
_NODAD: Final = 2  # IFA_F_NODAD: nobody else is on this link
_IFF_UP: Final = 1


class Interface:
    """`network.Inside`.  `hooks`: whether the file's commands may be run."""

    def __init__(self, name: str, link: TunLink, config: Config, *, stays: bool, hooks: bool) -> None:
        self.name = name
        self.link = link
        self._stays = stays
        self._found = self._now = Wanted((), 0, frozenset(), frozenset(), own_table(name), 0, (), ())
        self._config = config
        self._hooks = hooks
        self._name_servers = NameServers(name)
        self._firewall = Firewall(name)
        self._closed = False

    @property
    def mark(self) -> int:
        """What outer packets must carry, so that they do not come back in; 0 is nothing."""
        return self._now.mark

    @classmethod
    async def open(cls, config: Config, fd: int, name: str, mtu: int, *, hooks: bool = False) -> Interface:
        """`fd` is device.open_tun's, owned from here on.  Raises OSError; then nothing is left of it."""
        link = TunLink(asyncio.get_running_loop(), fd)
        interface = cls(name, link, config, stays=is_persistent(fd), hooks=hooks)
        try:
            await asyncio.to_thread(interface._set_up, config, mtu)
        except BaseException:
            await interface.close()
            raise
        return interface

    def _set_up(self, config: Config, mtu: int) -> None:
        self._run(config.interface.pre_up)
        with contextlib.suppress(OSError):  # no IPv6 here; else the kernel would make up an address of the link
            Path(f"/proc/sys/net/ipv6/conf/{self.name}/addr_gen_mode").write_text("1")
        after = wanted(config, self.name, mtu)
        if self._stays:
            self._found = self._now = _present(self.name, after)
        self._become(after)
        self._run(config.interface.post_up)

    async def change(self, config: Config, mtu: int) -> None:
        """Raises OSError; then it is as before."""
        before = self._now
        after = wanted(config, self.name, mtu)
        if after.mark != before.mark:
            raise OSError(errno.EOPNOTSUPP, "a default route, or FwMark, comes or goes: start usernet anew")
        try:
            await asyncio.to_thread(self._become, after)
        except BaseException:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._become, before)
            raise
        self._config = config

    def _become(self, after: Wanted) -> None:
        before = self._now
        self._now = after  # whatever of it comes about is to be taken back
        with _netlink() as netlink:
            index = netlink.link_lookup(ifname=self.name)[0]
            if after.mtu != before.mtu:
                netlink.link("set", index=index, mtu=after.mtu)
            for address in after.addresses:
                if address not in before.addresses:
                    _say(netlink.addr, "add", index=index, **_address(address))
            if not before.mtu:
                netlink.link("set", index=index, state="up")
            for family in after.ruled - before.ruled:
                for rule in _rules(self.name, family, after.table):
                    _say(netlink.rule, "add", **rule)
            for net, table in before.routes - after.routes:
                _say(netlink.route, "del", oif=index, **_route(net, table))
            for net, table in after.routes - before.routes:
                _say(netlink.route, "add", oif=index, **_route(net, table))
            for family in before.ruled - after.ruled:
                for rule in _rules(self.name, family, before.table):
                    _say(netlink.rule, "del", **rule)
            for address in before.addresses:
                if address not in after.addresses:
                    _say(netlink.addr, "del", index=index, **_address(address))
        self._firewall.become(after)
        if (after.dns, after.dns_search) != (before.dns, before.dns_search):
            self._name_servers.set(after.dns, after.dns_search)

    # The file's commands

    def _run(self, commands: Sequence[str]) -> None:
        """As wg-quick does: in bash (or sh, where there is none), %i being the interface.  OSError where one fails."""
        shell = shutil.which("bash") or "/bin/sh"
        for command in commands if self._hooks else ():
            text = command.replace("%i", self.name)
            log.info("%s: running %s", self.name, shown(command))
            done = subprocess.run([shell, "-c", text], stdin=subprocess.DEVNULL)
            if done.returncode:
                raise OSError(errno.ECANCELED, f"{shown(command)} ended with status {done.returncode}")

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            own = self._config.interface
            await asyncio.to_thread(self._take_back, own.pre_down)
            self.link.close()
            await asyncio.to_thread(self._try, own.post_down)

    def _take_back(self, pre_down: Sequence[str]) -> None:
        self._try(pre_down)
        self._name_servers.forget()
        self._firewall.close()
        if self._stays:
            with contextlib.suppress(OSError):
                self._become(replace(self._found, mtu=self._now.mtu))
        elif self._now.ruled:
            with contextlib.suppress(OSError), _netlink() as netlink:
                for family in self._now.ruled:
                    for rule in _rules(self.name, family, self._now.table):
                        with contextlib.suppress(OSError):
                            _say(netlink.rule, "del", **rule)

    def _try(self, commands: Sequence[str]) -> None:
        for command in commands:
            try:
                self._run([command])
            except OSError as error:
                log.warning("%s: %s", self.name, error.strerror)


def cleanup(name: str) -> list[str]:
    """Take away what a crash has left of the interface; what was, in words.  Raises OSError."""
    removed = []
    with _netlink() as netlink:
        if index := netlink.link_lookup(ifname=name):
            try:
                os.close(open_tun(name)[0])
            except OSError as error:
                raise OSError(error.errno, f"{name} is there: whoever has it must end first") from None
            for family in (socket.AF_INET, socket.AF_INET6):
                for route in netlink.get_routes(family=family, oif=index[0]):
                    if route["proto"] == PROTOCOL:
                        net = f"{_destination(route)}/{route['dst_len']}"
                        _say(netlink.route, "del", oif=index[0], family=family, dst=net, table=route.get("table"))
                        removed.append(f"the route {net}")
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            for rule in netlink.get_rules(family=family):
                priority = rule.get("priority")
                if rule.get("protocol") == PROTOCOL and priority in priorities(name):
                    _say(netlink.rule, "del", family=family, priority=priority, table=rule.get("table"))
                    removed.append(f"the IPv{version} rule {priority}")
    if remove_table(name):
        removed.append(f"the nftables table usernet-{name}")
    forget_names(name)
    return removed


def _present(name: str, after: Wanted) -> Wanted:
    """What of it a persistent interface has already; an MTU of 0 is for one that is down.  Raises OSError."""
    with _netlink() as netlink:
        index = netlink.link_lookup(ifname=name)[0]
        link = netlink.get_links(index)[0]
        addresses = {(each.get("address"), each["prefixlen"]) for each in netlink.get_addr(index=index)}
        routes = {
            (_destination(route), route["dst_len"], route.get("table"))
            for family in (socket.AF_INET, socket.AF_INET6)
            for route in netlink.get_routes(family=family, oif=index)
        }
    return replace(
        after,
        addresses=tuple(each for each in after.addresses if (format_address(each[0]), each[1]) in addresses),
        mtu=link.get("mtu") if link["flags"] & _IFF_UP else 0,
        routes=frozenset(
            (net, table) for net, table in after.routes if (format_address(net[0]), net[1], table) in routes
        ),
        ruled=frozenset(),
        dns=(),
        dns_search=(),
    )


def _address(address: tuple[bytes, int]) -> dict[str, Any]:
    packed, length = address
    flags = {"flags": _NODAD} if len(packed) == 16 else {}
    return {"address": format_address(packed), "prefixlen": length, **flags}


def _route(net: tuple[bytes, int], table: int) -> dict[str, Any]:
    return {"dst": format_network(net), "table": table, "proto": PROTOCOL, "family": _family(len(net[0]))}


def _destination(route: Any) -> str:
    """The kernel leaves it out of a default route."""
    return route.get("dst") or ("::" if route["family"] == socket.AF_INET6 else "0.0.0.0")


def _family(size: int) -> int:
    return socket.AF_INET if size == 4 else socket.AF_INET6


def _rules(name: str, size: int, table: int) -> Iterator[dict[str, Any]]:
    """The main table first, but for its default routes; then ours, but for our own outer packets."""
    first, second = priorities(name)
    base = {"family": _family(size), "FRA_PROTOCOL": PROTOCOL}
    yield {**base, "priority": first, "table": MAIN_TABLE, "FRA_SUPPRESS_PREFIXLEN": 0}
    yield {**base, "priority": second, "table": table, "fwmark": table, "flags": _INVERT}


@contextlib.contextmanager
def _netlink() -> Iterator[Any]:
    """Its errors are OSErrors."""
    from pyroute2 import IPRoute, NetlinkError  # a fifth of a second, for who needs it

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from None


def _say(verb: Callable[..., Any], action: str, **arguments: Any) -> None:
    """One request, whose error names what it was about."""
    from pyroute2 import NetlinkError

    try:
        verb(action, **arguments)
    except NetlinkError as error:
        what = arguments.get("dst") or arguments.get("address") or f"the rule for table {arguments.get('table')}"
        raise OSError(error.code, f"cannot {action} {what}: {os.strerror(error.code)}") from None
