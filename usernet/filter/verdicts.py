"""What a log should say of the filter, and how often."""

from __future__ import annotations

from typing import Final, NamedTuple

from usernet.wire.ip import ICMP, ICMPV6, TCP, UDP, format_address

_NAMES: Final = {TCP: "TCP", UDP: "UDP", ICMP: "ICMP", ICMPV6: "ICMPv6"}


class Verdict(NamedTuple):
    """A packet that was dropped, or let in by a rule: for a log.  `unsaid`: how many before it were not told of."""

    accepted: bool
    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    reason: str
    unsaid: int

    def __str__(self) -> str:
        name = _NAMES.get(self.protocol, f"protocol {self.protocol}")
        ends = [
            f"[{host}]:{port}" if port and ":" in host else f"{host}:{port}" if port else host
            for host, port in (
                (format_address(self.source), self.source_port),
                (format_address(self.destination), self.destination_port),
            )
        ]
        return f"{name} {ends[0]} to {ends[1]}"


class TokenBucket:
    """At most `burst` at once, and then one every `interval` s."""

    __slots__ = ("_burst", "_interval", "_since", "_tokens")

    def __init__(self, interval: float, burst: int) -> None:
        self._interval = interval
        self._burst = burst
        self._tokens = float(burst)
        self._since = 0.0

    def allows(self, now: float) -> bool:
        passed, self._since = max(0.0, now - self._since), max(now, self._since)
        self._tokens = min(self._burst, self._tokens + passed / self._interval)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
