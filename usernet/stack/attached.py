"""A connection's place in its host."""

from __future__ import annotations

from usernet.burst.packets import SuperPacket
from usernet.stack.listener import Listener
from usernet.stack.outbox import Outbox
from usernet.stack.timers import Timer
from usernet.tcp.connection import Connection


class Attached(Timer):
    """A connection's place in the host: its key, its timer, its turn."""

    __slots__ = ("connection", "deficit", "is_queued", "key", "listener")

    is_local = False  # what comes in through the tunnel is not for a local one

    def __init__(self, connection: Connection, key: bytes, listener: Listener | None) -> None:
        super().__init__()
        self.connection = connection
        self.key = key
        self.listener = listener  # while half-open
        self.deficit = 0
        self.is_queued = False

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        return self.connection.take(budget_bytes, now)


class AttachedLocally(Attached):
    """A connection to one of our own addresses: what it sends is looped back and never leaves."""

    __slots__ = ("outbox",)

    is_local = True
    outbox: Outbox

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        for packet in self.connection.take(budget_bytes, now):
            self.outbox.loop_back(packet)
        return []
