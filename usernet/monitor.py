"""Watches how this machine reaches the network, and tells what an outer socket has to know.

On Linux the kernel tells of every change of addresses, links, routes and rules (rtnetlink(7)); elsewhere, and where a
sandbox forbids such a socket, the ways to the peers are looked at every ten seconds.  Changes come in bursts: a burst
is looked at when it has been quiet for a moment, a second after its beginning at the latest, and never twice within
one second.

A change is major when packets may leave by another way than before: the default route or the source address towards
some peer is another one, an address is gone, or the machine has slept.  Anything else is minor.

    monitor = Monitor(loop, lambda change: network.rebind() if change.major else network.path_changed(),
                      network.endpoints)
    monitor.start()

The parser gives what bytes say and raises WireError; `Debounce` and `SleepWatch` know no clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from usernet.aio.runtime import boottime, log
from usernet.burst.packets import Address
from usernet.errors import WireError

QUIET_SECONDS: Final = 0.1
DEBOUNCE_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 15.0
SLEEP_SECONDS: Final = 22.5  # a longer gap between two checks is a sleep
POLL_SECONDS: Final = 10.0  # instead of CHECK_SECONDS, where nobody tells
MAX_PROBED: Final = 16  # destinations whose source address is watched; a server's thousands share few ways

NEVER: Final = math.inf

# linux/rtnetlink.h
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18  # RTMGRP_LINK, IPV4_ and IPV6_ IFADDR, ROUTE, RULE
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE, _NEWRULE, _DELRULE = 16, 17, 20, 21, 24, 25, 32, 33
_BODY: Final = {_NEWLINK: 16, _DELLINK: 16, _NEWADDR: 8, _DELADDR: 8, _NEWROUTE: 12, _DELROUTE: 12}
_SCOPE_UNIVERSE: Final = 0
_RTN_UNICAST: Final = 1
_RTM_F_CLONED: Final = 0x200  # a cache entry
# What a default route is: OIF, GATEWAY, PRIORITY, PREFSRC, MULTIPATH, TABLE, VIA.  The rest are ages and counters.
_IDENTITY: Final = frozenset({4, 5, 6, 7, 9, 15, 18})
_NLMSG: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_MESSAGE_BYTES: Final = 1 << 16


class Notice(NamedTuple):
    """One message of the kernel's.  `route` tells a default route from others; it is empty for everything else."""

    what: str
    major: bool = False
    route: tuple[object, ...] = ()


def parse_notices(data: bytes) -> list[Notice]:
    """What a datagram of rtnetlink's says; messages of other kinds are passed over.  WireError if it is cut."""
    notices: list[Notice] = []
    at = 0
    while at < len(data):
        if len(data) - at < _NLMSG.size:
            raise WireError("netlink-truncated")
        length, kind, _, _, _ = _NLMSG.unpack_from(data, at)
        if not _NLMSG.size <= length <= len(data) - at:
            raise WireError("netlink-truncated")
        notice = _notice(kind, data[at + _NLMSG.size : at + length])
        if notice is not None:
            notices.append(notice)
        at += _aligned(length)
    return notices


def _notice(kind: int, body: bytes) -> Notice | None:
    fixed = _BODY.get(kind, 0)
    if len(body) < fixed:
        raise WireError("netlink-truncated")
    if kind in (_NEWLINK, _DELLINK):
        return Notice("link")
    if kind in (_NEWRULE, _DELRULE):
        return Notice("rule")
    if kind == _NEWADDR:
        return Notice("address")
    if kind == _DELADDR:
        is_ours = body[3] == _SCOPE_UNIVERSE
        return Notice("address gone", major=is_ours)
    if kind in (_NEWROUTE, _DELROUTE):
        family, prefix, _, tos, table, _, _, route_type, flags = struct.unpack_from("=8BI", body)
        if prefix or route_type != _RTN_UNICAST or flags & _RTM_F_CLONED:
            return Notice("route")
        identity = (family, tos, table, *((k, v) for k, v in _attributes(body[fixed:]) if k in _IDENTITY))
        return Notice("default route gone" if kind == _DELROUTE else "default route", major=True, route=identity)
    return None


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while len(data) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise WireError("netlink-truncated")
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


class Debounce:
    """When a burst of changes is to be looked at.  The first after a quiet time waits for QUIET_SECONDS only."""

    __slots__ = ("_acted", "_first", "_last")

    def __init__(self) -> None:
        self._first = self._last = NEVER
        self._acted = -NEVER

    def changed(self, now: float) -> None:
        if self._first == NEVER:
            self._first = now
        self._last = now

    def acted(self, now: float) -> None:
        self._first = self._last = NEVER
        self._acted = now

    @property
    def due(self) -> float:
        """NEVER when nothing has changed."""
        return max(min(self._last + QUIET_SECONDS, self._first + DEBOUNCE_SECONDS), self._acted + DEBOUNCE_SECONDS)


class SleepWatch:
    """Timers stand still in a suspend and CLOCK_BOOTTIME does not: a check that comes much too late was slept through.

    A process that was stopped for as long has missed as much, and counts.
    """

    __slots__ = ("_checked",)

    def __init__(self, now: float) -> None:
        self._checked = now

    def has_slept(self, now: float) -> bool:
        """Since the last call."""
        gap, self._checked = now - self._checked, now
        return gap > SLEEP_SECONDS


@dataclass(frozen=True, slots=True)
class Change:
    """`reasons` are why it is major, or what a minor one was about."""

    major: bool
    reasons: tuple[str, ...]


def source_of(address: Address, mark: int = 0) -> str | None:
    """The address that a packet to there would leave from now; None if none would.  Nothing is sent.

    `mark`: what the packet would carry.
    """
    family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if mark:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None


class Monitor:
    """Calls `on_change` from the loop.  `destinations`: where packets go at present."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_change: Callable[[Change], None],
        destinations: Callable[[], Iterable[Address]],
        *,
        source: Callable[[Address], str | None] = source_of,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._loop = loop
        self._on_change = on_change
        self._destinations = destinations
        self._source = source
        self._clock = clock
        self._socket: socket.socket | None = None
        self._debounce = Debounce()
        self._reasons: dict[str, bool] = {}  # of the burst, and whether they are major
        self._routes: set[tuple[object, ...]] = set()  # default routes that were told of, and not of their end
        self._sources: dict[Address, str | None] = {}
        self._due: asyncio.TimerHandle | None = None
        self._check: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._socket = _open_netlink()
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._is_readable)
        self._sleep = SleepWatch(self._clock())
        self._sources = self._look_around()
        self._arm_check()

    def close(self) -> None:
        """Idempotent."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for handle in (self._due, self._check):
            if handle is not None:
                handle.cancel()
        self._due = self._check = None

    def _is_readable(self) -> None:
        while self._socket is not None:
            try:
                notices = parse_notices(self._socket.recv(_MESSAGE_BYTES))
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, WireError):  # ENOBUFS: more than its buffer holds; what it was nobody knows
                notices = [Notice("missed messages", major=True)]
            self.take(notices)

    def take(self, notices: Iterable[Notice]) -> None:
        """What the kernel says."""
        for what, major, route in notices:
            if route and what == "default route":
                major = route not in self._routes  # else it was only refreshed, as by router advertisements
                self._routes.add(route)
            elif route:
                self._routes.discard(route)
            self._reasons[what] = self._reasons.get(what, False) or major
            self._debounce.changed(self._clock())
        self._arm_due()

    def _arm_due(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._debounce.due != NEVER:
            self._due = self._loop.call_later(max(0.0, self._debounce.due - self._clock()), self._look)

    def _arm_check(self) -> None:
        interval = POLL_SECONDS if self._socket is None else CHECK_SECONDS
        self._check = self._loop.call_later(interval, self._on_check)

    def _on_check(self) -> None:
        self._arm_check()
        self._look()

    def _look(self) -> None:
        """At everything there is to know, whatever made us look."""
        now = self._clock()
        reasons, self._reasons = self._reasons, {}
        if self._sleep.has_slept(now):
            reasons["woke from sleep"] = True
        before, self._sources = self._sources, self._look_around()
        if any(before[to] != source for to, source in self._sources.items() if to in before):
            reasons["source address"] = True
        if not reasons:
            return
        self._debounce.acted(now)
        self._arm_due()
        major = tuple(what for what, is_major in reasons.items() if is_major)
        try:
            self._on_change(Change(bool(major), major or tuple(reasons)))
        except Exception:  # noqa: BLE001 - whoever listens does not end the watch
            log.exception("a callback for changes of the network failed")

    def _look_around(self) -> dict[Address, str | None]:
        found: dict[Address, str | None] = {}
        for address in self._destinations():
            if address not in found:
                found[address] = self._source(address)
            if len(found) == MAX_PROBED:
                break
        return found


def _open_netlink() -> socket.socket | None:
    """None where there is no such thing, or we may not have it."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    try:
        sock = socket.socket(family, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((0, _GROUPS))
    except OSError:
        sock.close()
        return None
    return sock
