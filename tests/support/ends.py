"""What a dialogue is held with: one connection, or a host."""

from __future__ import annotations

from tests.support.stack import burst_of
from tests.support.tcp import FLOW, MTU, segments_of
from usernet.stack.events import Accepted
from usernet.stack.host import Host
from usernet.tcp import Connection, TcpSettings
from usernet.wire.tcp import TcpSegment


class ConnectionEnd:
    """The subject of most cases: a connection alone."""

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection

    def receive(self, segment: TcpSegment, now: float, segments: int, *, ce: bool) -> None:
        self._one().receive_segment(segment, now, segments=segments, ce=ce)

    def take(self, now: float) -> list[TcpSegment]:
        connection = self._one()
        found: list[TcpSegment] = []
        while connection.wants_to_send and (packets := connection.take(1 << 20, now)):
            found += [segment for packet in packets for segment in segments_of(packet)]
        return found

    def next_timeout(self) -> float | None:
        return self._one().next_timeout()

    def handle_timeout(self, now: float) -> None:
        self._one().handle_timeout(now)

    def _one(self) -> Connection:
        assert self.connection is not None
        return self.connection


class HostEnd:
    """The subject of cases about LISTEN and CLOSED: a whole host, with a listener or without."""

    def __init__(self, settings: TcpSettings, *, listens: bool) -> None:
        self.connection: Connection | None = None
        self.host = Host([FLOW.local], mtu=MTU, random=lambda size: b"\x11" * size, settings=settings)
        if listens:
            self.host.listen(FLOW.local_port)

    def receive(self, segment: TcpSegment, now: float, segments: int, *, ce: bool) -> None:
        packet = segment.encode(FLOW.remote, FLOW.local)
        self.host.receive_packets(burst_of([packet]), now)
        self._look()

    def take(self, now: float) -> list[TcpSegment]:
        if self.connection is not None:
            self.host.changed(self.connection, now)
        found: list[TcpSegment] = []
        while packets := self.host.take(1 << 20, now):
            found += [segment for packet in packets for segment in segments_of(packet)]
        self._look()
        return found

    def next_timeout(self) -> float | None:
        return self.host.next_timeout()

    def handle_timeout(self, now: float) -> None:
        self.host.handle_timeout(now)
        self._look()

    def _look(self) -> None:
        for event in self.host.events():
            if isinstance(event, Accepted):
                self.connection = event.connection
