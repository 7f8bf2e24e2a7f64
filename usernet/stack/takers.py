"""Who takes packets to which of our addresses, or of the addresses behind us: for TCP and for UDP one table each."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, TypeVar

from usernet.wire.ip import format_address

EVERY_PORT: Final = 0

Network = tuple[bytes, int]  # a packed address and the length of its prefix

T = TypeVar("T")


class _Taken(NamedTuple):
    network: Network
    port: int


class Takers(Generic[T]):
    """Who takes what: networks and a port, or EVERY_PORT of them.  The narrowest wins."""

    __slots__ = ("_by_name", "_everywhere", "_in_order")

    def __init__(self) -> None:
        self._by_name: dict[_Taken, T] = {}
        self._in_order: list[tuple[_Taken, T]] = []
        self._everywhere: dict[T, int] = {}  # who takes a port of all our addresses, whatever they are

    def add(self, networks: Iterable[Network], port: int, taker: T, *, everywhere: bool = False) -> None:
        """`everywhere`: the networks are our own addresses, and what they will be.  Raises OSError (EADDRINUSE)."""
        names = [_Taken(network, port) for network in networks]
        for name in names:
            if name in self._by_name:
                address, length = name.network
                where = f"port {port}" if port else "every port"
                raise OSError(errno.EADDRINUSE, f"{where} of {format_address(address)}/{length} is forwarded already")
        for name in names:
            self._by_name[name] = taker
        if everywhere:
            self._everywhere[taker] = port
        self._sort()

    def readdress(self, addresses: Iterable[bytes]) -> None:
        """Our own addresses are others; one that somebody takes already stays with whoever it is."""
        own = whole(addresses)
        everywhere, self._everywhere = self._everywhere, {}
        for taker, port in everywhere.items():
            self.remove(taker)
            free = [network for network in own if _Taken(network, port) not in self._by_name]
            self.add(free, port, taker, everywhere=True)

    def remove(self, taker: T) -> None:
        self._everywhere.pop(taker, None)
        for name in [name for name, known in self._by_name.items() if known is taker]:
            del self._by_name[name]
        self._sort()

    def _sort(self) -> None:
        self._in_order = sorted(self._by_name.items(), key=lambda item: (-item[0].network[1], item[0].port == 0))

    def find(self, destination: bytes, port: int) -> T | None:
        for (network, taken), taker in self._in_order:
            if taken in (port, EVERY_PORT) and _contains(network, destination):
                return taker
        return None

    def covers(self, destination: bytes) -> bool:
        """Whether a packet to this address is for somebody here."""
        return any(_contains(name.network, destination) for name in self._by_name)

    def is_taken(self, address: bytes, port: int) -> bool:
        """Whether exactly this port is forwarded, and not only along with every other."""
        return any(name.port == port and _contains(name.network, address) for name in self._by_name)


def whole(addresses: Iterable[bytes]) -> list[Network]:
    """Each address as a network of its own."""
    return [(address, len(address) * 8) for address in addresses]


def _contains(network: Network, address: bytes) -> bool:
    prefix, length = network
    if len(prefix) != len(address):
        return False
    shift = len(prefix) * 8 - length
    return int.from_bytes(prefix, "big") >> shift == int.from_bytes(address, "big") >> shift
