"""Hosts joined by links, in virtual time, and streams between them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from typing import Final

from tests.netsim.link import Link, Row
from usernet.burst.packets import PacketBurst
from usernet.stack.events import Accepted
from usernet.stack.host import Host
from usernet.stack.udp import UdpSocket
from usernet.tcp.connection import Connection
from usernet.tcp.settings import TcpSettings

PORT: Final = 80
_PATTERN: Final = random.Random(0).randbytes(64 << 10)
_UNSENT: Final = 256 << 10  # B that an application writes ahead


class Stream:
    """`total` bytes from a client to a server, and what has come of them."""

    def __init__(self, client: Connection, total: int) -> None:
        self.client = client
        self.total = total
        self.written = 0
        self.received = 0
        self.started_at = 0.0
        self.received_at = 0.0  # the last of it so far

    @property
    def is_done(self) -> bool:
        return self.received >= self.total

    @property
    def speed(self) -> float:
        """B/s from the first SYN to the last byte."""
        return self.received / (self.received_at - self.started_at)

    def feed(self, now: float) -> None:
        while self.written < self.total and self.client.unsent_bytes < _UNSENT:
            chunk = _PATTERN[: self.total - self.written]
            self.client.write(chunk)
            self.written += len(chunk)
            if self.written == self.total:
                self.client.shutdown_write(now)

    def take(self, data: bytes, now: float) -> None:
        """What has arrived, which must be what was sent."""
        at = self.received % len(_PATTERN)
        expected = _PATTERN[at:] + _PATTERN * (len(data) // len(_PATTERN) + 1)
        assert expected.startswith(data)
        self.received += len(data)
        self.received_at = now


class Node:
    """A host, and the link that everything it sends goes into."""

    def __init__(self, address: bytes, link: Link, settings: TcpSettings, mtu: int) -> None:
        self.link = link
        self.host = Host((address,), mtu=mtu, random=random.Random(address).randbytes, settings=settings)


class Simulation:
    """`clients` send through `there` to one server, which answers through `back`."""

    def __init__(
        self, there: Link, back: Link, *clients: TcpSettings, server: TcpSettings | None = None, mtu: int = 1420
    ) -> None:
        self.now = 1000.0
        self.streams: list[Stream] = []
        self.server_address = bytes((10, 0, 0, 254))
        self.nodes = [
            Node(bytes((10, 0, 0, 1 + at)), there, settings, mtu)
            for at, settings in enumerate(clients or (TcpSettings(),))
        ]
        self._server = Node(self.server_address, back, server or TcpSettings(), mtu)
        self._server.host.listen(PORT, backlog=1024)
        self._nodes = {node.host.addresses[0]: node for node in (*self.nodes, self._server)}
        self._by_client: dict[Connection, Stream] = {}
        self._by_server: dict[Connection, Stream] = {}
        self._by_name: dict[tuple[bytes, int], Stream] = {}
        self._flight: list[tuple[float, int, bytes, Row]] = []
        self._count = 0

    @property
    def server_drops(self) -> Mapping[str, int]:
        return self._server.host.statistics().drops

    def start(self, total: int = 1 << 40, client: int = 0) -> Stream:
        """A new stream from that client."""
        node = self.nodes[client]
        connection = node.host.connect(self.server_address, PORT, self.now)
        stream = Stream(connection, total)
        stream.started_at = self.now
        self.streams.append(stream)
        self._by_client[connection] = stream
        self._by_name[connection.flow.local, connection.flow.local_port] = stream
        self._send()
        return stream

    def run(self, seconds: float) -> None:
        """Let time pass, or less when all streams are done."""
        end = self.now + seconds
        while not all(stream.is_done for stream in self.streams):
            at = self._next()
            if at > end:
                break
            self.now = max(self.now, at)
            self._arrive()
            for node in self._nodes.values():
                timeout = node.host.next_timeout()
                if timeout is not None and timeout <= self.now:
                    node.host.handle_timeout(self.now)
                self._look(node)
            self._send()
        else:
            return
        self.now = end

    def path_changed(self) -> None:
        """As the tunnel says when it hears of the far end again."""
        for node in self._nodes.values():
            node.host.path_changed(self.now)
        self._send()

    def _next(self) -> float:
        times = [self._flight[0][0]] if self._flight else []
        times += [at for node in self._nodes.values() if (at := node.host.next_timeout()) is not None]
        return min(times, default=float("inf"))

    def _send(self) -> None:
        for node in self._nodes.values():
            while packets := node.host.take(256 << 10, self.now):
                for packet in packets:
                    destination = packet.header[16:20]
                    for row in node.link.carry(packet, self.now):
                        self._count += 1
                        heapq.heappush(self._flight, (row.at, self._count, destination, row))
                self._look(node)

    def _arrive(self) -> None:
        bursts: dict[bytes, PacketBurst] = {}
        while self._flight and self._flight[0][0] <= self.now:
            _, _, destination, row = heapq.heappop(self._flight)
            burst = bursts.get(destination)
            if burst is None:
                burst = bursts[destination] = PacketBurst(0)
            burst.rows.append((len(burst.buf), len(row.data), row.mss, row.segments, 20, row.flags))
            burst.buf += row.data
        for destination, burst in bursts.items():
            self._nodes[destination].host.receive_packets(burst, self.now)

    def _look(self, node: Node) -> None:
        """What an owner does after calls into its host."""
        host, now = node.host, self.now
        for event in host.events():
            if isinstance(event, Accepted):
                flow = event.connection.flow
                self._by_server[event.connection] = self._by_name[flow.remote, flow.remote_port]
        ready, host.ready = host.ready, []
        for item in ready:
            item.readiness = 0
            assert not isinstance(item, UdpSocket)
            if item in self._by_client:
                self._by_client[item].feed(now)
            elif item in self._by_server:
                while data := item.read(1 << 20):
                    self._by_server[item].take(data, now)
                if item.at_eof:
                    item.close(now)
            host.changed(item, now)
