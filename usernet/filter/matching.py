"""Rules as the filter asks them."""

from __future__ import annotations

from usernet.filter.head import Head
from usernet.filter.rules import ALL_PORTS, FilterRule, Network
from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP


class CompiledRule:
    """A rule, with its networks as integers."""

    __slots__ = ("_destinations", "_high", "_low", "_protocol", "_sources")

    def __init__(self, rule: FilterRule) -> None:
        self._protocol = rule.protocol
        self._low, self._high = rule.low, rule.high
        self._sources = list(map(_as_prefix, rule.sources))
        self._destinations = list(map(_as_prefix, rule.destinations))

    def is_behind_us(self, address: bytes) -> bool:
        return _covers(self._destinations, address)

    def lets_in(self, head: Head, is_own: bool) -> bool:
        protocol = head.protocol
        if protocol in (TCP, UDP):
            if self._protocol not in (protocol, None) or not self._low <= head.destination_port <= self._high:
                return False
        elif protocol not in (ICMP, ICMPV6) and not (self._protocol is None and (self._low, self._high) == ALL_PORTS):
            return False
        if self._sources and not _covers(self._sources, head.source):
            return False
        return _covers(self._destinations, head.destination) if self._destinations else is_own


def _as_prefix(net: Network) -> tuple[int, int, int]:
    """Bytes of an address, bits that do not matter, and those that do."""
    address, length = net
    shift = len(address) * 8 - length
    return len(address), shift, int.from_bytes(address, "big") >> shift


def _covers(prefixes: list[tuple[int, int, int]], address: bytes) -> bool:
    size, number = len(address), int.from_bytes(address, "big")
    return any(size == of and number >> shift == value for of, shift, value in prefixes)
