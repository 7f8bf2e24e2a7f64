"""The immutable snapshot of a packet filter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilterStatistics:
    """`drops`: how many packets by their reason; of a merged row each segment is one."""

    drops: dict[str, int]
    accepted_by_rule: int
    udp_flows: int
    permits: int
