"""The clockwork of a tunnel: the protocol's seconds, one peer's deadlines, and the agenda of all peers.

Read the WireGuard paper, section 6, and Linux drivers/net/wireguard/timers.c, whose five timers these are.

Nothing is re-armed per packet.  The data path only moves a peer's deadlines, mostly to later; the agenda keeps one
live entry per peer at *some* time no later than its first deadline.  When an entry fires, whoever handles it looks
at the deadlines, does what is due and enters the peer again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from usernet.wireguard import constants

NEVER: Final = math.inf


@dataclass(frozen=True, slots=True)
class Timing:
    """The protocol's limits (paper, table in 6.1), as a value so that a test can shorten them.  Seconds unless told."""

    rekey_after_time: float = constants.REKEY_AFTER_TIME
    reject_after_time: float = constants.REJECT_AFTER_TIME
    rekey_timeout: float = constants.REKEY_TIMEOUT  # between two handshake messages of ours to one peer
    keepalive_timeout: float = constants.KEEPALIVE_TIMEOUT
    retry_jitter: float = constants.REKEY_TIMEOUT_JITTER
    handshake_attempts: int = constants.MAX_HANDSHAKE_SENDS  # in one series
    rekey_after_messages: int = constants.REKEY_AFTER_MESSAGES
    reject_after_messages: int = constants.REJECT_AFTER_MESSAGES
    initiation_interval: float = constants.INITIATION_MIN_INTERVAL  # between two accepted ones of one peer
    clock_jump: float = 300.0  # a timestamp further ahead than this is reported

    @property
    def refresh_after_time(self) -> float:
        """Age at which an initiator that only receives asks for a new key (paper, 6.2), 165 s."""
        return self.reject_after_time - self.keepalive_timeout - self.rekey_timeout

    @property
    def silence_timeout(self) -> float:
        return self.keepalive_timeout + self.rekey_timeout

    @property
    def zero_after_time(self) -> float:
        return 3 * self.reject_after_time


class PeerTimers:
    """One peer's deadlines.  NEVER is a timer that does not run."""

    __slots__ = (
        "_random",
        "_silence_jitter",
        "keepalive_at",
        "last_traversal",
        "persistent_keepalive",
        "retry_at",
        "silence_at",
        "timing",
        "unanswered_since",
        "zero_at",
    )

    def __init__(self, timing: Timing, random: Callable[[int], bytes]) -> None:
        self.timing = timing
        self._random = random
        self._silence_jitter = 0.0  # drawn for a session, not for every packet: it is a system call
        self.retry_at = NEVER  # the next initiation of a running series
        self.silence_at = NEVER  # data is unanswered: ask for a new session
        self.unanswered_since = NEVER  # while that timer runs
        self.keepalive_at = NEVER  # data is unacknowledged by anything of ours: send a passive keepalive
        self.persistent_keepalive = NEVER  # interval
        self.last_traversal = NEVER  # of anything authenticated, either way
        self.zero_at = NEVER  # remove the keys

    def jitter(self) -> float:
        return int.from_bytes(self._random(2), "big") / 0xFFFF * self.timing.retry_jitter

    # What happened

    def sent(self, now: float, *, data: bool) -> None:
        """Anything authenticated was sent; `data`: more than keepalives and handshakes."""
        self.last_traversal = now
        self.keepalive_at = NEVER
        if data and self.silence_at == NEVER:
            self.silence_at = now + self.timing.silence_timeout + self._silence_jitter
            self.unanswered_since = now

    def received(self, now: float, *, data: bool) -> None:
        """Anything authenticated was received."""
        self.last_traversal = now
        self.silence_at = NEVER
        if data and self.keepalive_at == NEVER:
            self.keepalive_at = now + self.timing.keepalive_timeout

    def initiation_sent(self, now: float) -> None:
        self.retry_at = now + self.timing.rekey_timeout + self.jitter()

    def session_derived(self, now: float) -> None:
        self.zero_at = now + self.timing.zero_after_time
        self._silence_jitter = self.jitter()

    def handshake_over(self) -> None:
        """It is complete, or was given up."""
        self.retry_at = NEVER

    def keys_erased(self) -> None:
        """What was to be answered or awaited on them is long over (it is after a sleep that these still run)."""
        self.zero_at = self.keepalive_at = self.silence_at = NEVER

    # What is due

    @property
    def next_deadline(self) -> float:
        return min(self.retry_at, self.silence_at, self.keepalive_at, self.zero_at, self.persistent_at)

    @property
    def persistent_at(self) -> float:
        return self.last_traversal + self.persistent_keepalive


class Entered(Protocol):
    """What an agenda holds.  It keeps `armed_at` itself: the time of the live entry, or NEVER."""

    armed_at: float


T = TypeVar("T", bound=Entered)


class Agenda(Generic[T]):
    """Who is to be looked at when: a heap in which an entry is live if it is the time its item is armed for."""

    __slots__ = ("_count", "_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0  # breaks ties, so that items are never compared
        self._live = 0

    def __len__(self) -> int:
        """Entries, dead ones included."""
        return len(self._heap)

    def arm(self, item: T, at: float) -> None:
        """Look at the item no later than at `at`."""
        if at >= item.armed_at:
            return
        if item.armed_at == NEVER:
            self._live += 1
        item.armed_at = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, item))
        self._sweep()

    def disarm(self, item: T) -> None:
        if item.armed_at != NEVER:
            item.armed_at = NEVER
            self._live -= 1
            self._sweep()

    def next_timeout(self) -> float | None:
        heap = self._heap
        while heap:
            at, _, item = heap[0]
            if at == item.armed_at:
                return at
            heapq.heappop(heap)
        return None

    def due(self, now: float) -> list[T]:
        """The items whose time has come; they are no longer armed."""
        found = []
        while (at := self.next_timeout()) is not None and at <= now:
            item = heapq.heappop(self._heap)[2]
            self.disarm(item)
            found.append(item)
        return found

    def _sweep(self) -> None:
        """Forget dead entries if there are many: each holds its item alive until its time."""
        if len(self._heap) <= 2 * self._live + 64:
            return
        self._heap = [entry for entry in self._heap if entry[0] == entry[2].armed_at]
        heapq.heapify(self._heap)
