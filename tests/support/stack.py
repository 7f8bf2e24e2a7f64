"""Hosts joined in memory under virtual time, by links that lose, delay, duplicate and reorder from a seed.

`World` is the pump: it takes what hosts send, carries it, and hands it over as bursts, cut into the packets a real path
carries or as whole super-packets.  `Station` is a host with an application on top that reads all it can, writes what it
was told to write, and remembers.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

from usernet.burst.ecn import CE
from usernet.burst.packets import CHECKSUM_OK, ECN_CE, PSH, PacketBurst, SuperPacket
from usernet.errors import WireError
from usernet.stack.events import Accepted, HostEvent
from usernet.stack.host import Host
from usernet.stack.udp import UdpSocket
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings
from usernet.wire.checksum import checksum, pseudo_header_sum
from usernet.wire.ip import TCP, UDP, pack_address
from usernet.wire.packet import checksum_holds, parse_packet
from usernet.wire.tcp import FIN
from usernet.wire.tcp import PSH as PSH_FLAG

A4, B4 = pack_address("10.0.0.1"), pack_address("10.0.0.2")
A6, B6 = pack_address("fd00::1"), pack_address("fd00::2")
MTU = 1420


def cut(packet: SuperPacket) -> list[bytes]:
    """The packets of a super-packet as the tunnel would send them."""
    payload = b"".join(packet.pieces)
    if not packet.mss:
        return [packet.header + payload]
    packets = []
    starts = range(0, len(payload), packet.mss) if payload else (0,)
    for number, at in enumerate(starts):
        piece = payload[at : at + packet.mss]
        is_last = at + packet.mss >= len(payload)
        data = bytearray(packet.header + piece)
        transport = 20 if data[0] >> 4 == 4 else 40
        seq = int.from_bytes(data[transport + 4 : transport + 8], "big") + at
        data[transport + 4 : transport + 8] = (seq & 0xFFFF_FFFF).to_bytes(4, "big")
        if not is_last:
            data[transport + 13] &= ~(FIN | PSH_FLAG)
        data[transport + 16 : transport + 18] = bytes(2)
        if transport == 20:
            data[2:4] = len(data).to_bytes(2, "big")
            ident = int.from_bytes(data[4:6], "big") + number
            data[4:6] = (ident & 0xFFFF).to_bytes(2, "big")
            data[10:12] = bytes(2)
            data[10:12] = checksum(data[:20]).to_bytes(2, "big")
            source, destination = bytes(data[12:16]), bytes(data[16:20])
        else:
            data[4:6] = (len(data) - 40).to_bytes(2, "big")
            source, destination = bytes(data[8:24]), bytes(data[24:40])
        total = checksum(data[transport:], pseudo_header_sum(source, destination, TCP, len(data) - transport))
        data[transport + 16 : transport + 18] = total.to_bytes(2, "big")
        packets.append(bytes(data))
    return packets


def burst_of(items: list[bytes | SuperPacket]) -> PacketBurst:
    """A burst as a kernel would open it: checksums verified where they hold, super-packets merged rows."""
    burst = PacketBurst(0)
    for item in items:
        data = item if isinstance(item, bytes) else item.header + b"".join(item.pieces)
        at = len(burst.buf)
        burst.buf += data
        if isinstance(item, SuperPacket) and item.mss:
            transport = 20 if data[0] >> 4 == 4 else 40
            segments = max(1, -(-item.payload_bytes // item.mss))
            burst.rows.append((at, len(data), item.mss, segments, transport, CHECKSUM_OK | PSH))
            continue
        transport = flags = 0
        try:
            packet = parse_packet(data)
        except WireError:
            pass
        else:
            plain = 20 if data[0] >> 4 == 4 else 40
            if packet.protocol in (TCP, UDP) and not packet.is_fragment and packet.payload == plain:
                transport = plain
                flags = CHECKSUM_OK if checksum_holds(packet, data) else 0
            if packet.tos & 3 == CE:
                flags |= ECN_CE
        burst.rows.append((at, len(data), 0, 1, transport, flags))
    return burst


@dataclass(frozen=True)
class Path:
    """One direction of a link.  Shares of packets, and seconds."""

    delay: float = 0.01
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # these are up to 20 ms late
    whole: bool = False  # super-packets are carried uncut
    largest: int = 0  # larger packets vanish
    rate: float = 0.0  # B/s that the sender's pump takes; 0: all it has


class Station:
    """A host and its application."""

    def __init__(self, *addresses: bytes, seed: int = 0, mtu: int = MTU, settings: TcpSettings | None = None) -> None:
        self.host = Host(addresses, mtu=mtu, random=random.Random(seed).randbytes, settings=settings)
        self.events: list[HostEvent] = []
        self.accepted: list[Connection] = []
        self.received: dict[Connection, bytearray] = {}
        self.datagrams: list[tuple[UdpSocket, bytes, tuple[bytes, int]]] = []
        self.readiness: dict[Connection | UdpSocket, int] = {}  # all that was ever signalled
        self.echoes = False  # send back whatever comes
        self._to_write: dict[Connection, bytes] = {}
        self._then_shut: set[Connection] = set()

    def write(self, connection: Connection, data: bytes, now: float, *, shut: bool = False) -> None:
        """Write all of it as the connection takes it, then perhaps shut down for writing."""
        self._to_write[connection] = self._to_write.get(connection, b"") + data
        if shut:
            self._then_shut.add(connection)
        self._feed(connection, now)

    def look(self, now: float) -> None:
        """What an owner does after each call into its host."""
        for event in self.host.events():
            self.events.append(event)
            if isinstance(event, Accepted):
                self.accepted.append(event.connection)
        ready, self.host.ready = self.host.ready, []
        for item in ready:
            self.readiness[item] = self.readiness.get(item, 0) | item.readiness
            item.readiness = 0
            if isinstance(item, UdpSocket):
                while (got := item.receive()) is not None:
                    self.datagrams.append((item, *got))
                    if self.echoes:
                        item.send(got[0], got[1], now)
            else:
                self._read(item, now)
                self._feed(item, now)

    def _read(self, connection: Connection, now: float) -> None:
        while connection.readable_bytes:
            data = connection.read(1 << 20)
            self.received.setdefault(connection, bytearray()).extend(data)
            if self.echoes:
                connection.write(data)
        if connection.at_eof and self.echoes:
            connection.shutdown_write(now)
        self.host.changed(connection, now)

    def _feed(self, connection: Connection, now: float) -> None:
        data = self._to_write.get(connection)
        while data and connection.unsent_bytes < 256 << 10:
            connection.write(data[: 64 << 10])
            data = self._to_write[connection] = data[64 << 10 :]
        if data is not None and not data and connection in self._then_shut:
            self._then_shut.discard(connection)
            connection.shutdown_write(now)
        self.host.changed(connection, now)


class World:
    """Two stations and what is between them."""

    def __init__(
        self, a: Station, b: Station, there: Path | None = None, back: Path | None = None, *, seed: int = 1
    ) -> None:
        there = there or Path()
        self.stations = (a, b)
        self.paths = (there, back or there)
        self.now = 1000.0
        self.carried = 0  # packets
        self.tap: Callable[[int, bytes], None] | None = None  # sees each packet and which station sent it
        self._random = random.Random(seed)
        self._flight: list[tuple[float, int, int, bytes | SuperPacket]] = []
        self._count = 0
        self._taken_at = [self.now, self.now]

    def run(self, seconds: float = 60.0, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass until nothing happens any more, or `until` holds; False if it still does not."""
        end = self.now + seconds
        for _ in range(2_000_000):
            self.pump()
            if until is not None and until():
                return True
            at = self._next()
            if at is None or at > end:
                self.now = end
                return until is None
            self.now = max(self.now, at)
            self._arrive()
            for station in self.stations:
                timeout = station.host.next_timeout()
                if timeout is not None and timeout <= self.now:
                    station.host.handle_timeout(self.now)
                station.look(self.now)
        raise AssertionError("the world does not come to rest")

    def pump(self) -> None:
        """Put on the way what the hosts want to send."""
        for number, station in enumerate(self.stations):
            path = self.paths[number]
            if path.rate:
                elapsed = self.now - self._taken_at[number]
                if elapsed < 0.0009:
                    continue
                self._taken_at[number] = self.now
                self._send(number, station.host.take(int(path.rate * min(elapsed, 0.002)), self.now))
                station.look(self.now)
                continue
            while packets := station.host.take(256 << 10, self.now):
                self._send(number, packets)
            station.look(self.now)

    def inject(self, number: int, *packets: bytes | SuperPacket) -> None:
        """Hand packets to a station as if they had come out of the tunnel."""
        self.stations[number].host.receive_packets(burst_of(list(packets)), self.now)
        self.stations[number].look(self.now)

    def _send(self, sender: int, packets: list[SuperPacket]) -> None:
        path = self.paths[sender]
        for packet in packets:
            for item in [packet] if path.whole else cut(packet):
                self.carried += 1
                if self.tap is not None:
                    for single in cut(item) if isinstance(item, SuperPacket) else [item]:
                        self.tap(sender, single)
                size = (
                    len(item.header) + (item.mss or item.payload_bytes) if isinstance(item, SuperPacket) else len(item)
                )
                if (path.largest and size > path.largest) or self._random.random() < path.loss:
                    continue
                copies = 2 if self._random.random() < path.duplicate else 1
                for _ in range(copies):
                    late = self._random.random() * 0.02 if self._random.random() < path.reorder else 0.0
                    self._count += 1
                    arrival = (self.now + path.delay + late, self._count, 1 - sender, item)
                    heapq.heappush(self._flight, arrival)

    def _arrive(self) -> None:
        arrived: tuple[list[bytes | SuperPacket], list[bytes | SuperPacket]] = ([], [])
        while self._flight and self._flight[0][0] <= self.now:
            _, _, receiver, item = heapq.heappop(self._flight)
            arrived[receiver].append(item)
        for number, items in enumerate(arrived):
            for at in range(0, len(items), 64):
                self.inject(number, *items[at : at + 64])

    def _next(self) -> float | None:
        times = [station.host.next_timeout() for station in self.stations]
        if self._flight:
            times.append(self._flight[0][0])
        for number, station in enumerate(self.stations):
            if self.paths[number].rate and station.host.statistics().senders_waiting:
                times.append(self._taken_at[number] + 0.001)
        return min((at for at in times if at is not None), default=None)


def pair(
    there: Path | None = None, back: Path | None = None, *, seed: int = 1, settings: TcpSettings | None = None
) -> tuple[World, Station, Station]:
    """Two stations with an address of each family."""
    a = Station(A4, A6, seed=seed, settings=settings)
    b = Station(B4, B6, seed=seed + 1, settings=settings)
    return World(a, b, there, back, seed=seed), a, b
