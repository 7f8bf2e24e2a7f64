"""How many handshakes a source may ask for while we are under load: a token bucket for each.

Read the WireGuard paper, 5.3.  A source is an IPv4 address or an IPv6 /64, for a whole /64 is one customer's.  Only
addresses that have proved by MAC2 that they receive get here, and still the table is capped.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address
from typing import Final

from usernet.wireguard.constants import HANDSHAKE_BURST, HANDSHAKES_PER_SECOND

_NS: Final = 1_000_000_000
_COST: Final = _NS // HANDSHAKES_PER_SECOND  # a token's worth of time
_FULL: Final = HANDSHAKE_BURST * _COST
_EXPIRES_AFTER: Final = 1.0  # s; a bucket is full again long before

MAX_SOURCES: Final = 8192


class RateLimiter:
    """Buckets, the least recently used first."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[str | bytes, tuple[int, float]] = {}  # source -> (tokens in ns, when that was so)

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, host: str, now: float) -> bool:
        """Whether one more handshake from `host` is within its rate; counts it if so."""
        self._expire(now)
        source = _source(host)
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            if len(self._buckets) >= MAX_SOURCES:
                return False  # whoever is in the table keeps its share
            tokens = _FULL
        else:
            # Whole nanoseconds, lest 20 times 0.05 s come out short of a second
            tokens = min(_FULL, bucket[0] + round(max(0.0, now - bucket[1]) * _NS))
        allowed = tokens >= _COST
        self._buckets[source] = (tokens - _COST if allowed else tokens, now)
        return allowed

    def _expire(self, now: float) -> None:
        """Forget sources not heard of for a while; each is looked at once, so the cost is spread over their visits."""
        buckets = self._buckets
        while buckets:
            source = next(iter(buckets))
            if now - buckets[source][1] <= _EXPIRES_AFTER:
                return
            del buckets[source]


def _source(host: str) -> str | bytes:
    if ":" not in host:
        return host
    try:
        return IPv6Address(host).packed[:8]
    except AddressValueError:  # a link that is no UDP socket may name its hosts as it likes
        return host
