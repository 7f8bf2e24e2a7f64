"""What may come in: rules as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Network = tuple[bytes, int]  # packed address, prefix length

ALL_PORTS: Final = (0, 65535)


@dataclass(frozen=True, slots=True)
class FilterRule:
    """What may come in.  `protocol`: TCP, UDP, ICMP (of either family), or None for every one there is.

    No `sources` are all, no `destinations` are our own addresses; networks named there count as being behind us.
    """

    protocol: int | None
    low: int = 0
    high: int = 65535
    sources: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()
