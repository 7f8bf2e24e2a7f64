"""Who sends next: deficit round robin.  Read Shreedhar and Varghese 1995, and RFC 8290 4 for the two lists.

Whoever has begun to want to send goes to the new list and is served before the old one until it has sent a quantum.
So an acknowledgement, a reset, a keystroke or a request goes ahead of every bulk transfer, and bulk transfers share
what is left byte by byte, whatever the size of what each of them hands over at a time.  Who has run dry passes through
the old list before it counts as new again, or those who always just begin would starve the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from usernet.burst.packets import SuperPacket

QUANTUM: Final = 65_536  # B: one super-packet a turn


class Sender(Protocol):
    """Something with packets to send, and a place for the scheduler's own notes."""

    deficit: int
    is_queued: bool

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]: ...


S = TypeVar("S", bound=Sender)


class Scheduler(Generic[S]):
    """The senders that want to send.  `after_turn` is called with each that has just had its turn, and says whether it
    wants another.

    `smallest` (B) is the budget that lets any sender give at least one packet.
    """

    __slots__ = ("_after_turn", "_new", "_old", "smallest")

    def __init__(self, smallest: int, after_turn: Callable[[S, float], bool]) -> None:
        self._new: deque[S] = deque()
        self._old: deque[S] = deque()
        self.smallest = smallest
        self._after_turn = after_turn

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def add(self, sender: S) -> None:
        """It wants to send.  Twice is once."""
        if not sender.is_queued:
            sender.is_queued = True
            sender.deficit = QUANTUM
            self._new.append(sender)

    def discard(self, sender: S) -> None:
        """It is gone, with what it wanted to send."""
        if sender.is_queued:
            sender.is_queued = False
            queue = self._new if sender in self._new else self._old
            queue.remove(sender)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        """About budget_bytes of packets, at most a packet more; [] when nobody has any."""
        packets: list[SuperPacket] = []
        new, old, smallest = self._new, self._old, self.smallest
        fruitless = 0  # turns in a row: wanting and then not giving must not keep us here
        while budget_bytes > 0 and (new or old) and fruitless <= len(new) + len(old):
            queue = new or old
            sender = queue[0]
            if sender.deficit <= 0:
                queue.popleft()
                sender.deficit += QUANTUM
                old.append(sender)
                continue
            taken = sender.take(max(min(sender.deficit, budget_bytes), smallest), now)
            size = 0
            for header, pieces, mss in taken:
                size += len(header)
                if pieces:
                    payload = sum(map(len, pieces))
                    size += payload
                    if mss:  # each segment has its header
                        size += (payload - 1) // mss * len(header)
            sender.deficit -= size
            budget_bytes -= size
            packets += taken
            if taken:
                fruitless = 0
            is_dry = not self._after_turn(sender, now)
            if not sender.is_queued:  # that was its end
                continue
            if is_dry and (queue is old or not old):
                queue.popleft()
                sender.is_queued = False
            elif is_dry or not taken:
                queue.popleft()
                old.append(sender)
                fruitless += not is_dry
        return packets
