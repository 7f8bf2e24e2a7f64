"""A TUN with its addresses, routes, rules and name servers, and the way back: all that was set is taken away.

The interface itself goes with its descriptor, and with it its addresses and routes.  What would stay are rules and name
servers: `close` removes them, and `cleanup` does after a crash.  Rules carry a protocol number of our own (as those of
routing daemons do), so that nobody else's are touched.
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
from pathlib import Path
from typing import Any, Final

from usernet.aio.runtime import log
from usernet.config import Config, format_network
from usernet.config.lines import shown
from usernet.tun.device import open_tun
from usernet.tun.link import TunLink
from usernet.tun.wanted import MAIN_TABLE, Wanted, own_table, priorities, wanted
from usernet.wire.ip import format_address

PROTOCOL: Final = 117  # of rules and routes: who made them
_INVERT: Final = 2  # FIB_RULE_INVERT
_NODAD: Final = 2  # IFA_F_NODAD: nobody else is on this link
_COMMAND_SECONDS: Final = 10.0
_RESOLVED: Final = "/run/systemd/resolve"


class Interface:
    """`network.Inside`.  `hooks`: whether the file's commands may be run."""

    def __init__(self, name: str, link: TunLink, now: Wanted, config: Config, hooks: bool) -> None:
        self.name = name
        self.link = link
        self._now = now
        self._config = config
        self._hooks = hooks
        self._dns: list[str] = []  # the command that takes name servers away
        self._closed = False

    @property
    def mark(self) -> int:
        """What outer packets must carry, so that they do not come back in; 0 is nothing."""
        return self._now.mark

    @classmethod
    async def open(cls, config: Config, name: str, mtu: int, *, hooks: bool = False) -> Interface:
        """Raises OSError; then nothing is left of it."""
        fd, name = open_tun(name)
        nothing = Wanted((), 0, frozenset(), frozenset(), own_table(name), 0, (), ())
        interface = cls(name, TunLink(asyncio.get_running_loop(), fd), nothing, config, hooks)
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
        self._become(wanted(config, self.name, mtu))
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
        if (after.dns, after.dns_search) != (before.dns, before.dns_search):
            self._set_names(after.dns, after.dns_search)

    # Name servers

    def _set_names(self, servers: Sequence[str], search: Sequence[str]) -> None:
        self._forget_names()
        if not servers:
            return
        if os.path.isdir(_RESOLVED) and shutil.which("resolvectl"):
            self._dns = ["resolvectl", "revert", self.name]
            _command(["resolvectl", "dns", self.name, *servers])
            _command(["resolvectl", "domain", self.name, "~.", *search])
        elif shutil.which("resolvconf"):
            self._dns = ["resolvconf", "-d", self.name, "-f"]
            lines = [
                *(f"nameserver {server}" for server in servers),
                *([f"search {' '.join(search)}"] if search else []),
            ]
            _command(["resolvconf", "-a", self.name, "-m", "0", "-x"], "\n".join(lines) + "\n")
        else:
            log.warning(
                "DNS =: neither resolvectl nor resolvconf is here, so this machine goes on asking whom it asked; our "
                "own proxies ask through the tunnel"
            )

    def _forget_names(self) -> None:
        command, self._dns = self._dns, []
        if command:
            with contextlib.suppress(OSError):
                _command(command)

    # The file's commands

    def _run(self, commands: Sequence[str]) -> None:
        """As wg-quick does: in a shell, %i being the interface.  OSError where one fails."""
        for command in commands if self._hooks else ():
            text = command.replace("%i", self.name)
            log.info("%s: running %s", self.name, shown(command))
            done = subprocess.run(["/bin/sh", "-c", text], stdin=subprocess.DEVNULL)
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
        self._forget_names()
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
        if netlink.link_lookup(ifname=name):
            raise OSError(errno.EBUSY, f"{name} is there: whoever has it must end first")
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            for rule in netlink.get_rules(family=family):
                priority = rule.get("priority")
                if rule.get("protocol") == PROTOCOL and priority in priorities(name):
                    _say(netlink.rule, "del", family=family, priority=priority, table=rule.get("table"))
                    removed.append(f"the IPv{version} rule {priority}")
    if shutil.which("resolvconf"):
        _command(["resolvconf", "-d", name, "-f"])
    return removed


def _address(address: tuple[bytes, int]) -> dict[str, Any]:
    packed, length = address
    flags = {"flags": _NODAD} if len(packed) == 16 else {}
    return {"address": format_address(packed), "prefixlen": length, **flags}


def _route(net: tuple[bytes, int], table: int) -> dict[str, Any]:
    return {"dst": format_network(net), "table": table, "proto": PROTOCOL, "family": _family(len(net[0]))}


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


def _command(command: list[str], text: str = "") -> None:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"{command[0]} takes too long") from None
    if done.returncode:
        raise OSError(errno.EIO, f"{' '.join(command)}: {done.stderr.strip() or f'status {done.returncode}'}")
