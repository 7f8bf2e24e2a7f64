"""A filter in front of an inner link, whichever that is: it is one itself."""

from __future__ import annotations

from collections.abc import Callable

from usernet.burst.packets import PacketBurst, SuperPacket
from usernet.filter.core import PacketFilter
from usernet.filter.verdicts import Verdict
from usernet.links import PacketLink


class FilteredLink:
    """A PacketLink behind a filter; `on_verdict` hears what a log should say."""

    def __init__(self, link: PacketLink, packet_filter: PacketFilter, on_verdict: Callable[[Verdict], None]) -> None:
        self.filter = packet_filter
        self._link = link
        self._on_verdict = on_verdict

    def deliver(self, burst: PacketBurst, now: float) -> None:
        self.filter.receive(burst, now)
        for verdict in self.filter.events():
            self._on_verdict(verdict)
        if burst.rows:
            self._link.deliver(burst, now)

    def take(self, budget_bytes: int, now: float) -> list[SuperPacket]:
        packets = self._link.take(budget_bytes, now)
        self.filter.send(packets)
        return packets

    def next_timeout(self) -> float | None:
        return self._link.next_timeout()

    def handle_timeout(self, now: float) -> None:
        self._link.handle_timeout(now)

    def path_changed(self, now: float) -> None:
        self._link.path_changed(now)

    def on_wake(self, callback: Callable[[], None]) -> None:
        self._link.on_wake(callback)

    def close(self) -> None:
        self._link.close()
