"""Numbers nobody outside may guess: ephemeral ports, initial sequence numbers, timestamp offsets, SYN cookies.

Read RFC 6056 3.3.1 (a random port), RFC 6528 3 (the sequence number of a flow is a clock plus a keyed hash of it), RFC
7323 5.4 (timestamps with an offset per flow).  The key lives as long as the process and is never stored.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2s
from operator import index
from typing import Final

EPHEMERAL_FIRST: Final = 32_768  # room for 32,768 connections to one port of one host
EPHEMERAL_LAST: Final = 65_535

_ISN_TICKS_PER_SECOND: Final = 250_000  # RFC 6528 3: a clock of 4 µs


def check_port(port: int) -> None:
    """Raises what a kernel's socket raises: OverflowError, or TypeError where it is no integer."""
    if not 0 <= index(port) <= 0xFFFF:
        raise OverflowError("port must be 0-65535")


def pick_port(random: Callable[[int], bytes], is_free: Callable[[int], bool]) -> int | None:
    """A random free ephemeral port, or None when all are in use (RFC 6056 3.3.1: random start, then the next free)."""
    count = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1
    start = int.from_bytes(random(4), "big")
    for step in range(count):
        port = EPHEMERAL_FIRST + (start + step) % count
        if is_free(port):
            return port
    return None


class FlowSecrets:
    """Sequence numbers and timestamp offsets of flows; `flow` is the bytes that identify one."""

    __slots__ = ("_key",)

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._key = random(32)

    def initial_sequence(self, flow: bytes, now: float) -> int:
        """32 bits.  Later connections of the same flow start higher, so that old segments do not fit (RFC 6528 3)."""
        hashed = int.from_bytes(blake2s(flow, key=self._key, digest_size=4, person=b"sequence").digest(), "big")
        return (hashed + int(now * _ISN_TICKS_PER_SECOND)) & 0xFFFF_FFFF

    def timestamp_offset(self, flow: bytes) -> int:
        """32 bits.  The same for each connection of one flow, so that its timestamps only grow (RFC 6191 2)."""
        return int.from_bytes(blake2s(flow, key=self._key, digest_size=4, person=b"stamp").digest(), "big")

    def cookie(self, flow: bytes, their_isn: int, period: int) -> int:
        """32 bits that stand for a SYN which came in a period of time (RFC 4987 3.6)."""
        text = b"%b%b%b" % (period.to_bytes(8, "big", signed=True), their_isn.to_bytes(4, "big"), flow)
        return int.from_bytes(blake2s(text, key=self._key, digest_size=4, person=b"cookie").digest(), "big")
