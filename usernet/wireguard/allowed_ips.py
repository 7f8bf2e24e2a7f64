"""Cryptokey routing's table: networks -> peers, longest prefix first.  Read the WireGuard paper, 2.

A dictionary for each prefix length in use, tried from the longest down.  Most tables have one to three lengths, and in
front stands a bounded cache of whole addresses, so a lookup costs one dictionary access however the table looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

CACHED_ADDRESSES: Final = 4096


class _Family(Generic[T]):
    """One address family's networks."""

    __slots__ = ("bits", "by_length", "lengths")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.by_length: dict[int, dict[int, T]] = {}  # prefix length -> network's leading bits -> value
        self.lengths: list[int] = []  # the keys of by_length, longest first

    def lookup(self, address: bytes) -> T | None:
        number = int.from_bytes(address, "big")
        for length in self.lengths:
            value = self.by_length[length].get(number >> (self.bits - length))
            if value is not None:
                return value
        return None

    def insert(self, network: bytes, length: int, value: T) -> None:
        if length not in self.by_length:
            self.by_length[length] = {}
            self.lengths = sorted(self.by_length, reverse=True)
        self.by_length[length][int.from_bytes(network, "big") >> (self.bits - length)] = value

    def remove(self, value: T) -> None:
        for length in self.lengths:
            kept = {leading: owner for leading, owner in self.by_length[length].items() if owner != value}
            if kept:
                self.by_length[length] = kept
            else:
                del self.by_length[length]
        self.lengths = sorted(self.by_length, reverse=True)


class AllowedIPs(Generic[T]):
    """Both families' networks.  A network belongs to one value: whoever inserts it last."""

    __slots__ = ("_cache", "_v4", "_v6")

    def __init__(self) -> None:
        self._v4: _Family[T] = _Family(32)
        self._v6: _Family[T] = _Family(128)
        self._cache: dict[bytes, T | None] = {}

    def insert(self, network: bytes, prefix_length: int, value: T) -> None:
        """Bits behind the prefix are ignored.  ValueError where the length does not fit the family."""
        family = self._family(network)
        if not 0 <= prefix_length <= family.bits:
            raise ValueError(f"an address of {family.bits} bits has no prefix of {prefix_length}")
        family.insert(network, prefix_length, value)
        self._cache.clear()

    def remove(self, value: T) -> None:
        """All networks of this value."""
        self._v4.remove(value)
        self._v6.remove(value)
        self._cache.clear()

    def lookup(self, address: bytes) -> T | None:
        """The value of the longest network that holds this address of 4 or 16 bytes."""
        cache = self._cache
        try:
            return cache[address]
        except KeyError:
            if len(cache) >= CACHED_ADDRESSES:
                cache.clear()
            value = cache[address] = self._family(address).lookup(address)
            return value

    def entries(self) -> Iterator[tuple[bytes, int, T]]:
        """(network, prefix length, value), the longest prefixes first, IPv4 before IPv6."""
        for family in (self._v4, self._v6):
            for length in family.lengths:
                for leading, value in family.by_length[length].items():
                    network = (leading << (family.bits - length)).to_bytes(family.bits // 8, "big")
                    yield network, length, value

    def _family(self, address: bytes) -> _Family[T]:
        if len(address) == 4:
            return self._v4
        if len(address) == 16:
            return self._v6
        raise ValueError(f"an address has 4 or 16 bytes, not {len(address)}")
