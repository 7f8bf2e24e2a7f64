"""The door for handshake messages: what is let into the queue, and on what terms it is worked on.

Read the WireGuard paper, 5.3 and 5.4.7, and Linux drivers/net/wireguard/receive.c.  Working on a message costs some
hundred times what receiving it does, so they wait here and the pump does a little of it each turn.

1. `push`: the length is exact, MAC1 shows that the sender knows our public key, an answer has a question.
2. `take`: the oldest.  While many wait, and for a second after, the sender must show by MAC2 that it receives at
   its address; otherwise it is sent a cookie.  Whoever has shown it may send 20 a second.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Final

from usernet.burst.packets import Address, Drops
from usernet.wireguard.constants import (
    COOKIE_REPLY_BYTES,
    HANDSHAKE_QUEUE,
    INITIATION_BYTES,
    RESPONSE_BYTES,
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    UNDER_LOAD_HOLD,
    UNDER_LOAD_QUEUE,
)
from usernet.wireguard.cookies import CookieChecker
from usernet.wireguard.handshake import Identity
from usernet.wireguard.peer import LONG_AGO, Peer
from usernet.wireguard.ratelimit import RateLimiter
from usernet.wireguard.session import IndexTable, data_header

_LENGTHS: Final = {
    TYPE_INITIATION: INITIATION_BYTES,
    TYPE_RESPONSE: RESPONSE_BYTES,
    TYPE_COOKIE_REPLY: COOKIE_REPLY_BYTES,
}
_RECEIVER_AT: Final = {TYPE_RESPONSE: 8, TYPE_COOKIE_REPLY: 4}


class Verdict(enum.Enum):
    """What is to be done with a message."""

    INITIATION = enum.auto()
    RESPONSE = enum.auto()
    COOKIE_REPLY = enum.auto()
    NEEDS_COOKIE = enum.auto()
    DROPPED = enum.auto()


_VERDICTS: Final = {
    TYPE_INITIATION: Verdict.INITIATION,
    TYPE_RESPONSE: Verdict.RESPONSE,
    TYPE_COOKIE_REPLY: Verdict.COOKIE_REPLY,
}


class Intake:
    """The queue and its door."""

    __slots__ = ("_checker", "_drops", "_limiter", "_loaded_until", "_queue", "_random", "_table")

    def __init__(
        self, identity: Identity, table: IndexTable[Peer], drops: Drops, random: Callable[[int], bytes]
    ) -> None:
        self._random = random
        self.identify(identity)
        self._limiter = RateLimiter()
        self._table = table
        self._drops = drops
        self._queue: deque[tuple[bytes, Address, bytes]] = deque()
        self._loaded_until = LONG_AGO

    def __len__(self) -> int:
        return len(self._queue)

    def identify(self, identity: Identity) -> None:
        """Whose MAC1 is asked for from now on.  What waits already is worked on, and comes to nothing."""
        self._checker = CookieChecker(identity.public_key, self._random)

    def push(self, message: bytes, address: Address, local: bytes) -> None:
        """Let a message from `address` to `local` in, or drop it: any length, any content, but not transport data."""
        kind = int.from_bytes(message[:4], "little")  # the three reserved bytes are zero (paper, 5.4)
        length = _LENGTHS.get(kind)
        if length is None:
            self._drops.count("unknown-type")
        elif len(message) != length:
            self._drops.count("handshake-length")
        elif kind != TYPE_INITIATION and self.addressee(message) is None:
            self._drops.count("unknown-index")
        elif len(self._queue) >= HANDSHAKE_QUEUE:
            self._drops.count("handshake-queue-full")
        elif kind != TYPE_COOKIE_REPLY and not self._checker.check_mac1(message):
            self._drops.count("mac1")  # in silence: we do not show that we are here (paper, 5.3)
        else:
            self._queue.append((message, address, local))

    def addressee(self, message: bytes) -> Peer | None:
        """The peer that a response or a cookie reply is for, by the receiver index in it."""
        at = _RECEIVER_AT[message[0]]
        index = int.from_bytes(message[at : at + 4], "little")
        peer = self._table.pending.get(index)
        if peer is None and message[0] == TYPE_COOKIE_REPLY:  # it may answer a response of ours
            found = self._table.sessions.get(data_header(index))
            peer = found[0] if found is not None else None
        return peer

    def take(self, now: float) -> tuple[bytes, Address, bytes, Verdict] | None:
        """The oldest message, the addresses it came from and to, and what to do with it; None if nothing waits."""
        if not self._queue:
            return None
        loaded = self.under_load(now)
        message, address, local = self._queue.popleft()
        verdict = _VERDICTS[message[0]]
        if loaded and verdict is not Verdict.COOKIE_REPLY:
            verdict = self._judge(message, address, verdict, now)
        return message, address, local, verdict

    def under_load(self, now: float) -> bool:
        if len(self._queue) >= UNDER_LOAD_QUEUE:
            self._loaded_until = now + UNDER_LOAD_HOLD
        return now < self._loaded_until

    def _judge(self, message: bytes, address: Address, verdict: Verdict, now: float) -> Verdict:
        if not self._checker.check_mac2(message, address, now):
            return Verdict.NEEDS_COOKIE
        if not self._limiter.allow(address[0], now):
            self._drops.count("rate-limited")
            return Verdict.DROPPED
        return verdict

    def cookie_reply(self, message: bytes, address: Address, now: float) -> bytes:
        return self._checker.create_reply(message, address, now)
