"""What the kernel is to have for a configuration: addresses, routes, rules.  Read wg-quick(8), and its linux.bash.

A default route does not replace the machine's own.  It stands in a table of its own, which everything asks but our own
outer packets (they carry a mark), and only where the main table has nothing better than a default route to say.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from usernet.config import Config, Network

MAIN_TABLE: Final = 254
_TABLES: Final = 0x75_00_00_00  # ours, where nobody says another: u, and a number that follows from the name


@dataclass(frozen=True, slots=True)
class Wanted:
    addresses: tuple[Network, ...]
    mtu: int
    routes: frozenset[tuple[Network, int]]  # and the table they stand in
    ruled: frozenset[int]  # sizes of address (4, 16) whose default route needs rules
    table: int  # of those
    mark: int  # of our outer packets; 0: none
    dns: tuple[str, ...]
    dns_search: tuple[str, ...]


def own_table(name: str) -> int:
    """The table for default routes of this interface, which is also the mark of outer packets."""
    return _TABLES | _number(name)


def priorities(name: str) -> tuple[int, int]:
    """Of its two rules: before the main table's 32766, the same at each start, and those of no other interface."""
    first = 6_000 + _number(name) % 13_000 * 2
    return first, first + 1


def _number(name: str) -> int:
    return zlib.crc32(name.encode()) & 0xFF_FFFF


def wanted(config: Config, name: str, mtu: int) -> Wanted:
    interface = config.interface
    allowed = {net for peer in config.peers for net in peer.allowed_ips}
    table = interface.fwmark or own_table(name)
    routes: set[tuple[Network, int]] = set()
    ruled: set[int] = set()
    if interface.table is None:  # auto
        for net in allowed:
            is_default = net[1] == 0
            if is_default:
                ruled.add(len(net[0]))
            elif any(_covers(address, net) for address in interface.addresses):
                continue  # the kernel has a route for the network of an address by itself
            routes.add((net, table if is_default else MAIN_TABLE))
    elif interface.table:
        routes = {(net, interface.table) for net in allowed}
    return Wanted(
        addresses=interface.addresses,
        mtu=mtu,
        routes=frozenset(routes),
        ruled=frozenset(ruled),
        table=table,
        mark=interface.fwmark or (table if ruled else 0),
        dns=interface.dns,
        dns_search=interface.dns_search,
    )


def _covers(address: Network, net: Network) -> bool:
    """Whether the network that an address lives in holds all of `net`."""
    packed, length = address
    if len(packed) != len(net[0]) or length > net[1] or length == len(packed) * 8:
        return False
    shift = len(packed) * 8 - length
    return int.from_bytes(packed, "big") >> shift == int.from_bytes(net[0], "big") >> shift
