"""ICMP of a host: echo, the errors it sends, and what the errors it receives mean.

Read RFC 1122 3.2.2 and 4.1.3.3, RFC 4443 2.4, RFC 5927 (attacks by ICMP: an error counts only for a flow we have).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from usernet.burst.packets import Drops
from usernet.errors import HostUnreachable, NetworkUnreachable
from usernet.stack.outbox import Outbox
from usernet.wire.icmp import (
    Echo,
    Kind,
    parameter_problem_for,
    time_exceeded_for,
    unreachable_for,
)
from usernet.wire.ip import ICMP, ICMPV6, format_address
from usernet.wire.ipv6 import HeaderProblem
from usernet.wire.packet import fragment

ERRORS_PER_SECOND: Final = 1000  # RFC 4443 2.4 f asks for a limit
ERROR_BURST: Final = 50
MAX_ECHO_PAYLOAD: Final = 65_507  # B: what fits an IPv4 packet


class TokenBucket:
    """Lets through `rate` a second, `burst` at once."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._tokens = burst
        self._at = 0.0

    def allow(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class IcmpSender:
    """Sends them.  `packet` is always a whole offending IP packet; whether it may be answered, wire/icmp knows."""

    __slots__ = ("_bucket", "_drops", "_outbox", "_random", "mtu")

    def __init__(self, outbox: Outbox, drops: Drops, mtu: int, random: Callable[[int], bytes]) -> None:
        self._outbox = outbox
        self.mtu = mtu
        self._random = random
        self._drops = drops
        self._bucket = TokenBucket(ERRORS_PER_SECOND, ERROR_BURST)

    def ask_echo(self, source: bytes, destination: bytes, echo: Echo) -> None:
        """Raises OSError (EMSGSIZE)."""
        if len(echo.payload) > MAX_ECHO_PAYLOAD:
            raise OSError(errno.EMSGSIZE, f"an echo carries at most {MAX_ECHO_PAYLOAD} bytes, not {len(echo.payload)}")
        self._send_echo(source, destination, echo)

    def answer_echo(self, source: bytes, destination: bytes, echo: Echo) -> None:
        """A request came from `source`: what fitted one way fits the other."""
        self._send_echo(destination, source, Echo(True, echo.ident, echo.sequence, echo.payload))

    def _send_echo(self, source: bytes, destination: bytes, echo: Echo) -> None:
        protocol = ICMP if len(source) == 4 else ICMPV6
        ident = int.from_bytes(self._random(4), "big")
        for packet in fragment(source, destination, protocol, echo.encode(source, destination), self.mtu, ident):
            self._outbox.reply(packet, destination)

    def unreachable(self, packet: bytes, sender: bytes, kind: Kind, now: float) -> None:
        self._send(unreachable_for(packet, kind), sender, now)

    def parameter_problem(self, packet: bytes, sender: bytes, problem: HeaderProblem, now: float) -> None:
        self._send(parameter_problem_for(packet, problem.code, problem.pointer), sender, now)

    def reassembly_time_exceeded(self, packet: bytes, sender: bytes, now: float) -> None:
        self._send(time_exceeded_for(packet, reassembly=True), sender, now)

    def _send(self, error: bytes | None, sender: bytes, now: float) -> None:
        if error is None:
            return
        if not self._bucket.allow(now):
            self._drops.count("icmp-rate-limit")
            return
        self._outbox.reply(error, sender)


def error_of(kind: Kind, remote: bytes) -> OSError | None:
    """The exception a connection or socket gets for an ICMP error (RFC 1122 4.2.3.9), or None where it gets none."""
    where = format_address(remote)
    if kind is Kind.NETWORK_UNREACHABLE:
        return NetworkUnreachable(f"the network of {where} is unreachable")
    if kind in (Kind.PORT_UNREACHABLE, Kind.PROTOCOL_UNREACHABLE):
        return ConnectionRefusedError(f"{where} refused: nothing listens there")
    if kind is Kind.PROHIBITED:
        return HostUnreachable(f"a router or firewall forbids the way to {where}")
    if kind is Kind.TIME_EXCEEDED:
        return HostUnreachable(f"packets to {where} go in circles (time exceeded)")
    if kind in (Kind.HOST_UNREACHABLE, Kind.PARAMETER_PROBLEM):
        return HostUnreachable(f"{where} is unreachable")
    return None  # Packet Too Big is about size; a lost fragment is about luck
