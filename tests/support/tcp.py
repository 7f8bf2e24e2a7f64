"""Connections in virtual time: single ones fed by hand-written segments, and two joined by a seeded bad link.

A dialogue reads like this (numbers are relative to both initial sequence numbers)::

    peer = Peer.established()
    peer.sends("1:1 A", b"hello")            # seq 1, ack 1, ACK, five bytes
    assert peer.hears() == ["1:6 A"]         # what the connection answers
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from typing import Any

from usernet.burst.packets import SuperPacket
from usernet.tcp import Connection, Flow, State, TcpSettings
from usernet.tcp.seq import MASK
from usernet.wire.packet import checksum_holds, parse_packet
from usernet.wire.tcp import ACK, FIN, PSH, RST, SYN, TcpSegment, parse_segment

A_ADDRESS, B_ADDRESS = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
FLOW = Flow(A_ADDRESS, 40000, B_ADDRESS, 80)
FLOW_V6 = Flow(bytes(15) + b"\1", 40000, bytes(15) + b"\2", 80)
MTU = 1420
_LETTERS = (("S", SYN), ("A", ACK), ("F", FIN), ("R", RST), ("P", PSH))


def segments_of(packet: SuperPacket) -> list[TcpSegment]:
    """What the burst kernel makes of a super-packet."""
    header = packet.header
    ip = parse_packet(header)
    first = parse_segment(memoryview(header), ip.payload, ip.end)
    if packet.mss == 0:
        whole = header + b"".join(packet.pieces)
        assert checksum_holds(parse_packet(whole), memoryview(whole))
        return [first]
    payload = b"".join(packet.pieces)
    assert payload
    assert len(payload) <= 45 * packet.mss
    found = []
    for at in range(0, len(payload), packet.mss):
        is_last = at + packet.mss >= len(payload)
        flags = first.flags if is_last else first.flags & ~(FIN | PSH)
        piece = payload[at : at + packet.mss]
        found.append(first._replace(seq=(first.seq + at) & MASK, flags=flags, payload=piece))
    return found


def coalesced(segments: Iterable[TcpSegment]) -> list[tuple[TcpSegment, int]]:
    """(super-segment, segments) as a receiver with GRO hands them up."""
    found: list[tuple[TcpSegment, int]] = []
    for segment in segments:
        if found:
            last, count = found[-1]
            if (
                segment.payload
                and last.payload
                and segment.seq == (last.seq + len(last.payload)) & MASK
                and segment[3] == last[3]
                and (segment.flags | last.flags) & ~PSH == ACK
                and segment[5:11] == last[5:11]
                and len(last.payload) + len(segment.payload) <= 65_000
                and count < 45
            ):
                merged = last._replace(
                    payload=bytes(last.payload) + bytes(segment.payload), flags=last.flags | segment.flags
                )
                found[-1] = merged, count + 1
                continue
        found.append((segment, 1))
    return found


class Peer:
    """The far end of one real connection, played by the test.  Time passes only by `passes`."""

    iss = 5000  # the test's initial sequence number
    isn = 0xFFFF_FFF0  # the connection's: soon wraps

    def __init__(self, connection: Connection, now: float = 100.0) -> None:
        self.connection = connection
        self.now = now
        self.ts = 1000
        self.echo = 0
        self.window = 0xFFFF

    @classmethod
    def connecting(cls, settings: TcpSettings | None = None, **options: Any) -> Peer:
        settings = settings or TcpSettings(**options)
        connection = Connection.connect(FLOW, settings, mtu=MTU, isn=cls.isn, timestamp_offset=7, now=100.0)
        return cls(connection)

    @classmethod
    def accepting(
        cls, settings: TcpSettings | None = None, *, syn: dict[str, Any] | None = None, window: int = 0xFFFF,
        **options: Any,
    ) -> Peer:  # fmt: skip
        segment = cls.syn(SYN, **(syn or {}))._replace(window=window)
        settings = settings or TcpSettings(**options)
        return cls(Connection.accept(FLOW, settings, segment, mtu=MTU, isn=cls.isn, timestamp_offset=7, now=100.0))

    @classmethod
    def established(cls, *, syn: dict[str, Any] | None = None, window: int = 0xFFFF, **options: Any) -> Peer:
        peer = cls.connecting(**options)
        assert peer.hears() == ["0:- S"]
        segment = cls.syn(SYN | ACK, **(syn or {}))
        peer.delivers(segment._replace(ack=(cls.isn + 1) & MASK, window=min(window, 0xFFFF)))
        peer.window = window
        assert peer.hears() == ["1:1 A"]
        assert peer.is_in(State.ESTABLISHED)
        peer.connection.readiness = 0
        return peer

    @classmethod
    def syn(cls, flags: int, **fields: Any) -> TcpSegment:
        """A SYN with the options of a usual peer but no timestamps, so that dialogues are short."""
        plain: dict[str, Any] = {"mss": 1380, "window_scale": 0, "sack_permitted": True}
        ack = fields.pop("ack", 0) & MASK
        return TcpSegment(80, 40000, cls.iss, ack, flags, 0xFFFF, **(plain | fields))

    def is_in(self, state: State) -> bool:
        return self.connection.state is state

    def delivers(self, segment: TcpSegment, segments: int = 1) -> None:
        self.connection.receive_segment(segment, self.now, segments=segments)

    def sends(
        self, text: str, payload: bytes = b"", *, window: int | None = None, segments: int = 1, **fields: Any
    ) -> None:
        """'seq:ack FLAGS', relative numbers; '-' for no ack."""
        numbers, letters = text.split()
        seq, ack = numbers.split(":")
        flags = sum(bit for letter, bit in _LETTERS if letter in letters)
        blocks = tuple(((self.isn + left) & MASK, (self.isn + right) & MASK) for left, right in fields.pop("sack", ()))
        segment = TcpSegment(
            80, 40000,
            (self.iss + int(seq)) & MASK,
            0 if ack == "-" else (self.isn + int(ack)) & MASK,
            flags,
            self.window if window is None else window,
            sack_blocks=blocks, payload=payload, **fields,
        )  # fmt: skip
        self.delivers(segment, segments)

    def hears_segments(self, budget: int = 1 << 20) -> list[TcpSegment]:
        found: list[TcpSegment] = []
        rounds = 0
        while self.connection.wants_to_send:
            packets = self.connection.take(budget, self.now)
            found += [segment for packet in packets for segment in segments_of(packet)]
            rounds += 1
            assert rounds < 100, "wants_to_send but take gives nothing"
            if not packets:
                break
        return found

    def hears(self, budget: int = 1 << 20) -> list[str]:
        return [self.text(segment) for segment in self.hears_segments(budget)]

    def text(self, segment: TcpSegment) -> str:
        seq = (segment.seq - self.isn) & MASK
        ack = (segment.ack - self.iss) & MASK if segment.flags & ACK else "-"
        letters = "".join(letter for letter, bit in _LETTERS if segment.flags & bit and letter != "P")
        parts = [f"{seq}:{ack} {letters}"]
        if segment.payload:
            parts.append(f"+{len(segment.payload)}")
        for left, right in segment.sack_blocks:
            parts.append(f"[{(left - self.iss) & MASK}-{(right - self.iss) & MASK}]")
        return " ".join(parts)

    def passes(self, seconds: float) -> None:
        """Time passes, up to when something is due that sends, or that ends the connection."""
        until = self.now + seconds
        while (at := self.connection.next_timeout()) is not None and at <= until:
            self.now = max(self.now, at)
            self.connection.handle_timeout(self.now)
            if self.connection.wants_to_send or self.is_in(State.CLOSED):
                break
        else:
            self.now = until


class Side:
    """One end of a `Pair`: a connection, and an application that writes `outgoing`, closes, and reads everything."""

    def __init__(self, outgoing: bytes, *, reads: float = 0.0) -> None:
        self.connection: Connection | None = None
        self.outgoing = outgoing
        self.written = 0
        self.incoming = bytearray()
        self.reads = reads  # bytes per second of a slow reader; 0: all at once
        self.may_read = 0.0
        self.looked_at = 0.0
        self.is_shut = False
        self.eof = False

    def acts(self, now: float) -> None:
        connection = self.connection
        assert connection is not None
        if connection.state is not State.CLOSED:
            while self.written < len(self.outgoing) and connection.unsent_bytes < 256 << 10:
                chunk = self.outgoing[self.written : self.written + 50_000]
                connection.write(chunk)
                self.written += len(chunk)
        self.may_read = min(self.may_read + (now - self.looked_at) * self.reads, 65_536)
        self.looked_at = now
        while data := connection.read(int(self.may_read) if self.reads else 65_536):
            self.incoming += data
            self.may_read -= len(data)
        self.eof = self.eof or connection.at_eof
        if not self.is_shut and self.written == len(self.outgoing):
            connection.shutdown_write(now)
            self.is_shut = True
        connection.readiness = 0


class Pair:
    """Two connections over a link that delays, loses, duplicates and reorders, in virtual time, by one seed."""

    def __init__(
        self,
        a: Side,
        b: Side,
        *,
        seed: int = 1,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        delay: float = 0.010,
        rate: float = 50e6,
        gro: bool = True,
        settings_a: TcpSettings | None = None,
        settings_b: TcpSettings | None = None,
        simultaneous: bool = False,
        mtu: int = MTU,
        flow: Flow = FLOW,
    ) -> None:
        self.now = 1.0
        self.flow = flow
        self.random = random.Random(seed)
        self.loss, self.duplicate, self.reorder, self.delay, self.rate = loss, duplicate, reorder, delay, rate
        self.gro = gro
        self.mtu = mtu
        self.a, self.b = a, b
        self.settings_b = settings_b or TcpSettings()
        self.queues: dict[Side, list[tuple[float, int, TcpSegment]]] = {a: [], b: []}  # by target
        self.free_at = {a: 0.0, b: 0.0}
        self.sent = 0
        self.largest = 0  # payload of a segment; larger ones vanish
        options: dict[str, Any] = {"mtu": mtu, "timestamp_offset": self.random.getrandbits(32)}
        a.connection = Connection.connect(
            flow, settings_a or TcpSettings(), isn=self.random.getrandbits(32), now=self.now, **options
        )
        if simultaneous:
            b.connection = Connection.connect(
                self._flow_b(), self.settings_b, isn=self.random.getrandbits(32), now=self.now, **options
            )

    def _flow_b(self) -> Flow:
        flow = self.flow
        return Flow(flow.remote, flow.remote_port, flow.local, flow.local_port)

    def _other(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    def _transmit(self, side: Side) -> None:
        connection = side.connection
        if connection is None:
            return
        target = self._other(side)
        while connection.wants_to_send:
            packets = connection.take(64 << 10, self.now)
            if not packets:
                break
            for packet in packets:
                for segment in segments_of(packet):
                    self._carry(segment, target)

    def _carry(self, segment: TcpSegment, target: Side) -> None:
        """The link: a bottleneck of `rate` bytes a second, then a delay."""
        leaves = max(self.now, self.free_at[target]) + (len(segment.payload) + 52) / self.rate
        self.free_at[target] = leaves
        copies = 2 if self.random.random() < self.duplicate else 1
        for _ in range(copies):
            self.sent += 1
            if self.random.random() < self.loss or (self.largest and len(segment.payload) > self.largest):
                continue
            at = leaves + self.delay
            if self.random.random() < self.reorder:
                at += self.random.random() * 3 * self.delay
            heapq.heappush(self.queues[target], (at, self.sent, segment))

    def _receive(self, side: Side, segments: list[TcpSegment]) -> None:
        rows = coalesced(segments) if self.gro else [(segment, 1) for segment in segments]
        for segment, count in rows:
            if side.connection is None:
                if not segment.flags & SYN or segment.flags & (ACK | RST):
                    continue
                side.connection = Connection.accept(
                    self._flow_b(), self.settings_b, segment, mtu=self.mtu, isn=self.random.getrandbits(32),
                    timestamp_offset=self.random.getrandbits(32), now=self.now,
                )  # fmt: skip
            else:
                side.connection.receive_segment(segment, self.now, segments=count)

    def step(self) -> bool:
        """The next thing that happens; False when nothing ever will."""
        sides = [side for side in (self.a, self.b) if side.connection is not None]
        for side in sides:
            side.acts(self.now)
            self._transmit(side)
        times = [side.connection.next_timeout() for side in sides if side.connection is not None]
        waiting = [at for at in times if at is not None]
        waiting += [self.now + 0.01 for side in sides if side.connection is not None and side.connection.readable_bytes]
        waiting += [queue[0][0] for queue in self.queues.values() if queue]
        if not waiting:
            return False
        self.now = max(self.now, min(waiting))
        horizon = self.now + (0.0005 if self.gro else 0.0)  # interrupts come a little late, and so bursts arise
        for target, queue in self.queues.items():
            arrived = []
            while queue and queue[0][0] <= horizon:
                arrived.append(heapq.heappop(queue)[2])
            self._receive(target, arrived)
        for side in sides:
            connection = side.connection
            if connection is not None and (at := connection.next_timeout()) is not None and at <= self.now:
                connection.handle_timeout(self.now)
        return True

    def run(self, seconds: float = 10_000.0, steps: int = 1_000_000) -> None:
        """Until nothing is left to happen."""
        until = self.now + seconds
        for _ in range(steps):
            if self.now > until or not self.step():
                return
        raise AssertionError("the connections never come to rest")
